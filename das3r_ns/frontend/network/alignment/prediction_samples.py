"""The pixels that cameras are solved from: a grid in every frame, and what each pair says of it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int

from das3r_ns.frontend.geometric.bundle.flow_samples import texture_weight
from das3r_ns.frontend.geometric.pair_flows import PairFlows
from das3r_ns.frontend.network.predictions import PairPredictions
from das3r_ns.frontend.pairs import Pair

MOVING_TRUST = 0.1
"""Weight of a predicted point on what surely moves, against 1: the network errs more there, but each frame's shape is
that of its own moment and does not contradict the others'."""


@dataclass
class Samples:
    """K pixels of every frame, the same ones everywhere, and E pairs' points there."""

    pairs: list[Pair]
    num_frames: int
    offsets: Float[np.ndarray, "K 2"]
    """Pixels from the principal point (x, y)."""
    rows: Int[np.ndarray, " K"]
    columns: Int[np.ndarray, " K"]
    points: Float[np.ndarray, "E 2 K 3"]
    """Of view 1 and view 2, in the pair's own frame and scale."""
    weights: Float[np.ndarray, "E 2 K"]
    """Log confidence, less where something moves; never negative."""
    views: list[list[tuple[int, int]]]
    """Of each frame the (pair, view) that show it, by number and 0 or 1."""

    @property
    def frames(self) -> Int[np.ndarray, "E 2"]:
        """The frames of every pair."""
        return np.array(self.pairs)

    def rays(self, focal: float) -> Float[np.ndarray, "K 3"]:
        """Directions with z = 1."""
        return np.concatenate([self.offsets / focal, np.ones((len(self.offsets), 1))], axis=1)

    def subset(self, count: int) -> Samples:
        """About ``count`` of the pixels, evenly spread."""
        total = len(self.offsets)
        if total <= count:
            return self
        # A fixed shuffle: every so-manieth pixel of a grid would lie in the same few columns.
        keep = np.sort(np.random.default_rng(0).permutation(total)[:count])
        return Samples(
            self.pairs,
            self.num_frames,
            self.offsets[keep],
            self.rows[keep],
            self.columns[keep],
            self.points[:, :, keep],
            self.weights[:, :, keep],
            self.views,
        )


def sample_predictions(
    predictions: PairPredictions, static_weight: Float[np.ndarray, "N H W"] | None, max_samples: int, budget: int
) -> Samples:
    """Look at the predictions on a grid of pixels.

    Args:
        predictions: Of all pairs.
        static_weight: Probability that a pixel is static, at the resolution of the predictions.
        max_samples: Most pixels of a frame.
        budget: Most predicted points in total.

    Returns:
        The samples.
    """
    height, width, n = predictions.height, predictions.width, predictions.num_frames
    count = int(np.clip(budget / (2 * len(predictions.pairs)), 256, max_samples))
    step = max(1.0, np.sqrt(height * width / count))
    row = (np.arange(max(2, int(height / step))) + 0.5) * height / max(2, int(height / step))
    column = (np.arange(max(2, int(width / step))) + 0.5) * width / max(2, int(width / step))
    rows, columns = (axis.ravel() for axis in np.meshgrid(row.astype(int), column.astype(int), indexing="ij"))
    where = (slice(None), torch.as_tensor(rows), torch.as_tensor(columns))

    def pick(value: torch.Tensor) -> np.ndarray:
        return value[where].detach().to("cpu", torch.float64).numpy()

    points = np.stack([pick(predictions.points1), pick(predictions.points2)], axis=1)
    confidence = np.stack([pick(predictions.confidence1), pick(predictions.confidence2)], axis=1)
    weights = np.log(np.maximum(confidence, 1.0 + 1e-3))
    views: list[list[tuple[int, int]]] = [[] for _ in range(n)]
    for e, pair in enumerate(predictions.pairs):
        for side, frame in enumerate(pair):
            views[frame].append((e, side))
    if static_weight is not None:
        moving = 1.0 - static_weight[:, rows, columns]
        weights = weights * (1.0 - (1.0 - MOVING_TRUST) * moving[np.array(predictions.pairs)])
    # The network's principal point is (W / 2, H / 2) where the first pixel is at (0, 0): see PairPredictions.
    offsets = np.stack([columns - width / 2, rows - height / 2], axis=1).astype(np.float64)
    return Samples(predictions.pairs, n, offsets, rows, columns, points, weights, views)


@dataclass
class FlowSamples:
    """Where the flow of directed pairs takes the sampled pixels."""

    pairs: list[Pair]
    targets: Float[np.ndarray, "F K 2"]
    """Pixels from the principal point of the second frame."""
    weights: Float[np.ndarray, "F K"]
    leaving: list[list[int]]
    """Of each frame the flows that leave it."""


def sample_flow(
    flows: PairFlows, samples: Samples, height: int, width: int, static_weight: Float[np.ndarray, "N H W"] | None
) -> FlowSamples:
    """Look at the flow on the sampled pixels.

    A flow counts as far as the flow back agrees with it, the picture has texture there, and nothing moves at either
    end. A pair whose mirror is missing is left out.

    Args:
        flows: At any resolution.
        samples: Which pixels of the predictions to look at.
        height: Of the predictions.
        width: Of the predictions.
        static_weight: Probability that a pixel is static, at the resolution of the predictions.
    """
    pairs = [pair for pair in flows.pairs if pair[::-1] in flows.fields and max(pair) < samples.num_frames]
    scale = np.array([flows.width / width, flows.height / height])
    at = (np.stack([samples.columns, samples.rows], axis=1) + 0.5) * scale - 0.5
    x, y = at.astype(np.float32).T

    def look(picture: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        # One row would be longer than OpenCV's remap allows for large grids, so it looks up a column.
        u, v = u.astype(np.float32)[:, None], v.astype(np.float32)[:, None]
        return cv2.remap(picture, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]

    believed = [texture_weight(look(flows.texture[i].astype(np.float32), x, y)) for i in range(samples.num_frames)]
    targets = np.empty((len(pairs), len(x), 2))
    weights = np.empty((len(pairs), len(x)))
    for f, (i, j) in enumerate(pairs):
        forward = look(flows.flow(i, j), x, y)
        u, v = x + forward[:, 0], y + forward[:, 1]
        error = np.linalg.norm(forward + look(flows.flow(j, i), u, v), axis=-1)
        tolerance = 0.5 + 0.02 * np.linalg.norm(forward, axis=-1)  # as in the bundle adjustment
        weight = np.exp(-((error / tolerance) ** 2)) * believed[i]
        weight[(u < 0) | (v < 0) | (u > flows.width - 1) | (v > flows.height - 1)] = 0.0
        if static_weight is not None:
            weight *= np.clip(2.0 * static_weight[i][samples.rows, samples.columns] - 1.0, 0.0, 1.0)
            there = look(static_weight[j].astype(np.float32), (u + 0.5) / scale[0] - 0.5, (v + 0.5) / scale[1] - 0.5)
            weight *= np.clip(2.0 * there - 1.0, 0.0, 1.0)
        targets[f], weights[f] = samples.offsets + forward / scale, weight
    leaving = [[f for f, (i, _) in enumerate(pairs) if i == n] for n in range(samples.num_frames)]
    return FlowSamples(pairs, targets, weights, leaving)
