"""How a lens darkens its picture towards the corners, measured where a camera that moves shows a point at other radii.

The logarithm of what is left is an even polynomial of the distance from the centre, as good lens models have it
(Goldman, "Vignette and exposure calibration and compensation", PAMI 2010), the same for all frames and channels. What a
pair of frames shows of the same points, found by optical flow, differs by it and by the change of light, which is the
same for all points of a pair. Things that gleam, local tone mapping and haze change colours too: so parts of the
picture and of the clip are asked on their own, and must say the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from das3r_ns.frontend.geometric.light import BRIGHTEST, DARKEST, FEWEST
from das3r_ns.frontend.geometric.pair_flows import AGREEMENT, PairFlows, pixel_grid

STEP = 8
"""Pixels between those that are compared."""

MOST_PAIRS = 96
"""Pairs of frames that are looked at."""

FAR = 0.6
"""Squared distance from the centre, in half diagonals, at which the falloff is judged: farther out few points are seen
twice."""

SEEN = 0.04
"""Logarithm of the darkening there from which it counts: clips without any come to 0.02, cameras to 0.08 or more."""

SURE = 5.0
"""Standard errors that it must be large."""

ALIKE = (0.4, 1.75)
"""Share of the falloff that each half of picture and clip must find on its own. Panning cameras, under which distances
from the centre change little above and below it, come to 0.6 and 1.5."""

ROUNDS = 6
"""Of re-weighting."""

PRIOR = 1e-3
"""Keeps what no pair tells at 0."""


@dataclass(frozen=True)
class _Samples:
    """Points seen in two frames each."""

    ratio: Float[np.ndarray, " M"]
    """Logarithm of the brightness there over that here."""
    change: Float[np.ndarray, "M 2"]
    """Change of the squared distance from the centre, and of its square."""
    pair: np.ndarray
    """Number of the pair of frames, from 0."""
    place: Float[np.ndarray, "M 2"]
    """Where it is here, as shares of the picture."""

    def of(self, chosen: Bool[np.ndarray, " M"]) -> _Samples:
        return _Samples(self.ratio[chosen], self.change[chosen], self.pair[chosen], self.place[chosen])


def lens_falloff(images: UInt8[np.ndarray, "N H W 3"], flows: PairFlows) -> Float[np.ndarray, " 2"] | None:
    """Coefficients a of the logarithm of what the lens leaves, a0 s + a1 s^2, with s the squared distance from the
    centre of the picture in half diagonals.

    Args:
        images: RGB frames as filmed, at the resolution of ``flows``.
        flows: Optical flow both ways between frames.

    Returns:
        None where it is not seen, or cannot be told from what else changes colours.
    """
    samples = _samples(images, flows)
    if samples is None:
        return None
    falloff, error = _fit(samples, np.eye(2))
    if not (falling(falloff) and at(falloff, FAR) < -max(SEEN, SURE * error)):
        return None
    x, y = samples.place.T
    late = samples.pair > np.median(samples.pair)
    for half in (x < 0.5, x >= 0.5, y < 0.5, y >= 0.5, late, ~late):
        if not half.any():  # two frames are one pair
            return None
        share, _ = _fit(samples.of(half), falloff[:, None])
        if not ALIKE[0] < share[0] < ALIKE[1]:
            return None
    return falloff


def at(falloff: Float[np.ndarray, " 2"], square: float) -> float:
    """Logarithm of what is left at a squared distance from the centre, in half diagonals."""
    return float(falloff[0] * square + falloff[1] * square**2)


def falling(falloff: Float[np.ndarray, " 2"]) -> bool:
    """Whether the picture gets darker all the way to its corners."""
    return falloff[0] <= 0 and falloff[0] + 2 * falloff[1] <= 0


def falloff_message(falloff: Float[np.ndarray, " 2"]) -> str:
    """What is said of it."""
    return (
        f"The lens darkens its picture: by {100 * (1 - np.exp(at(falloff, 1.0))):.0f} % in the corners. The scene is "
        "learned without that, and clean plates get it back."
    )


def _samples(images: UInt8[np.ndarray, "N H W 3"], flows: PairFlows) -> _Samples | None:
    """Points of pairs of frames whose flow leads there and back, neither dark nor cut off at white."""
    found = list(_pair_samples(images, flows))
    if not found:
        return None
    number = np.concatenate([np.full(len(ratio), k) for k, (ratio, _, _) in enumerate(found)])
    ratio, change, place = (np.concatenate(part) for part in zip(*found, strict=True))
    return _Samples(ratio, change, number, place)


def _pair_samples(images: UInt8[np.ndarray, "N H W 3"], flows: PairFlows) -> Iterator[tuple[np.ndarray, ...]]:
    pairs = [(i, j) for i, j in flows.pairs if i < j and (j, i) in flows.fields]
    chosen = [pairs[k] for k in np.unique(np.linspace(0, len(pairs) - 1, MOST_PAIRS).astype(int))] if pairs else []
    sample = np.s_[::STEP, ::STEP]
    grid = np.stack([axis[sample] for axis in pixel_grid(flows.height, flows.width)], axis=-1)
    size = np.array([flows.width, flows.height], dtype=np.float32)
    smooth: dict[int, np.ndarray] = {}
    for i, j in chosen:
        for frame in (i, j):
            if frame not in smooth:
                smooth[frame] = cv2.blur(images[frame], (3, 3))
        target = grid + flows.fields[i, j][sample].astype(np.float32)
        there = cv2.remap(smooth[j], target[..., 0], target[..., 1], cv2.INTER_LINEAR).astype(np.float32)
        here = smooth[i][sample].astype(np.float32)
        good = flows.backward_error(i, j, STEP) < AGREEMENT
        good &= (np.minimum(here, there).min(axis=-1) > DARKEST) & (np.maximum(here, there).max(axis=-1) < BRIGHTEST)
        if good.sum() < FEWEST:
            continue
        before, after = (
            (np.square(points[good] + 0.5 - size / 2).sum(axis=-1) / np.square(size / 2).sum())
            for points in (grid, target)
        )
        change = np.stack([after - before, after**2 - before**2], axis=-1)
        yield np.log(there[good] / here[good]).mean(axis=-1), change, grid[good] / size


def _fit(samples: _Samples, basis: Float[np.ndarray, "2 K"]) -> tuple[Float[np.ndarray, " K"], float]:
    """Robust least squares of the ratios over the changes, with an offset for every pair.

    Args:
        samples: What is to be explained.
        basis: Falloffs whose combination is looked for.

    Returns:
        Their shares, and the standard error of the logarithm at FAR.
    """
    change = samples.change @ basis
    count = int(samples.pair.max(initial=0)) + 1
    shares, weights, scale = np.zeros(basis.shape[1]), np.ones(len(samples.ratio)), 1.0
    hessian = np.eye(basis.shape[1])
    for _ in range(ROUNDS):
        total = np.maximum(np.bincount(samples.pair, weights, count), 1e-9)

        def centred(values: np.ndarray, weights: np.ndarray = weights, total: np.ndarray = total) -> np.ndarray:
            return values - (np.bincount(samples.pair, weights * values, count) / total)[samples.pair]

        columns = np.stack([centred(column) for column in change.T], axis=-1)
        ratio = centred(samples.ratio)
        hessian = columns.T @ (weights[:, None] * columns) + PRIOR * np.eye(basis.shape[1])
        shares = np.linalg.solve(hessian, columns.T @ (weights * ratio))
        left = ratio - columns @ shares
        scale = 1.4826 * float(np.median(np.abs(left))) + 1e-6
        weights = 1.0 / np.square(1.0 + np.square(left / (2.0 * scale)))
    far = np.array([FAR, FAR**2]) @ basis
    return shares, scale * float(np.sqrt(far @ np.linalg.solve(hessian, far)))
