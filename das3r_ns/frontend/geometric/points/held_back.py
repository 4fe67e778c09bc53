"""What matches that no solution has seen say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from das3r_ns.frontend.geometric.bundle.flow_samples import Samples
from das3r_ns.frontend.geometric.bundle.known_poses import all_held
from das3r_ns.frontend.geometric.bundle.pose_solver import Solver
from das3r_ns.frontend.geometric.bundle.state import Robust, State
from das3r_ns.frontend.weighted_median import weighted_median

EXPLAINED = 1.0
"""Pixels, in 1/427 of the longer side, up to which a match is explained by a solution."""

DEPTH_SCALES = (8.0, 2.0, 0.5)
"""Robust scales in the same pixels, one after the other, at which the depths of points held back are sought."""

DEPTH_STEPS = 4
"""Steps at each of them."""

SURE = 2.0
"""Standard errors by which a solution must be better to be taken."""

FEW = 20
"""Matches between two neighbours from which their share says anything."""

MIN_FRAMES = 2
"""Frames that must have a say."""


@dataclass(frozen=True)
class HeldBack:
    """How well a solution explains matches that were held back from it, by frame."""

    matches: Int[np.ndarray, " N"]
    """Matches of points of each frame in others."""
    explained: Float[np.ndarray, " N"]
    """Share of them, by weight, that lie within :data:`EXPLAINED`; NaN where there is none."""
    error: Float[np.ndarray, " N"]
    """Their weighted median distance, in pixels of the video; NaN where there is none."""
    share: float
    """Share of all matches that is explained; NaN without any."""
    median: float
    """Weighted median distance of all, in pixels of the video; NaN without any."""
    links: Int[np.ndarray, " M"]
    """Matches between frames before each but the first one and this one or later ones: none across a cut."""
    steps: Float[np.ndarray, " M"]
    """Share of the matches from neighbour to neighbour that is explained, for each frame but the first one and the one
    before it; NaN where there are fewer than :data:`FEW`."""

    def provenance(self) -> dict[str, Any]:
        """For the record; None stands for what could not be measured."""
        return {
            "matches": self.matches.tolist(),
            "explained": [_rounded(value) for value in self.explained],
            "error": [_rounded(value) for value in self.error],
            "share": _rounded(self.share),
            "median": _rounded(self.median),
            "links": self.links.tolist(),
            "steps": [_rounded(value) for value in self.steps],
        }


def judge(
    samples: Samples, state: State, held_back: Bool[np.ndarray, "N K"], matched: Bool[np.ndarray, "E K"]
) -> tuple[HeldBack, Float[np.ndarray, "E K"]]:
    """Try the cameras of a solution on points it does not know: only their depths are sought.

    Args:
        samples: All tracks.
        state: The cameras, and inverse depths to start from.
        held_back: The points that count.
        matched: Which of the samples are matches.

    Returns:
        The figures, and the distance in pixels of every match; -1 where there is none that counts.
    """
    counts = matched & held_back[samples.sources] & (samples.weights > 0)
    weights = np.where(counts, samples.weights, 0.0).astype(np.float32)
    state, residual = settle_depth(samples, state, weights)
    # A point behind a camera is as wrong as can be.
    distance = np.where(residual >= 0, residual, 2.0 * max(samples.width, samples.height))
    near = distance <= EXPLAINED * samples.unit
    n = samples.num_frames
    total, good, middle = np.zeros(n), np.zeros(n), np.full(n, np.nan)
    number = np.zeros(n, dtype=np.int64)
    for i in range(n):
        e = samples.edges_of(i)
        number[i], total[i] = counts[e].sum(), weights[e].sum()
        good[i] = (weights[e] * near[e]).sum()
        if total[i] > 0:
            middle[i] = weighted_median(distance[e].ravel(), weights[e].ravel())
    with np.errstate(invalid="ignore"):
        explained = good / np.where(total > 0, total, np.nan)
    everything = float(weights.sum())
    share = float(good.sum()) / everything if everything > 0 else float("nan")
    median = float(weighted_median(distance.ravel(), weights.ravel())) if everything > 0 else float("nan")
    steps = _steps(samples, weights, near)
    judged = HeldBack(number, explained, middle, share, median, _links(samples, counts), steps)
    return judged, np.where(counts, distance, -1.0)


def _steps(
    samples: Samples, weights: Float[np.ndarray, "E K"], near: Bool[np.ndarray, "E K"]
) -> Float[np.ndarray, " M"]:
    """Share of the matches between each two neighbours, both ways together, that is near where it should be."""
    beside = np.abs(samples.sources - samples.sinks) == 1
    gap = np.minimum(samples.sources, samples.sinks)[beside]
    number, total, good = np.zeros((3, samples.num_frames - 1))
    np.add.at(number, gap, (weights[beside] > 0).sum(axis=1))
    np.add.at(total, gap, weights[beside].sum(axis=1))
    np.add.at(good, gap, (weights[beside] * near[beside]).sum(axis=1))
    return np.where(number >= FEW, good / np.maximum(total, 1e-12), np.nan)


def _links(samples: Samples, counts: Bool[np.ndarray, "E K"]) -> Int[np.ndarray, " M"]:
    """Matches of pairs (i, j) over every gap between neighbouring frames that i and j lie on either side of."""
    first, last = np.minimum(samples.sources, samples.sinks), np.maximum(samples.sources, samples.sinks)
    change = np.zeros(samples.num_frames, dtype=np.int64)
    number = counts.sum(axis=1)
    np.add.at(change, first, number)
    np.subtract.at(change, last, number)
    return np.cumsum(change)[:-1]


def settle_depth(
    samples: Samples, state: State, weights: Float[np.ndarray, "E K"]
) -> tuple[State, Float[np.ndarray, "E K"]]:
    """Inverse depths of the points that have weights, all cameras held; and the residuals of all samples in pixels."""
    solver = Solver(samples, weights)
    for pixels in DEPTH_SCALES:
        robust = Robust(np.full(len(samples.sources), pixels * samples.unit, dtype=np.float32))
        moved, _, _ = solver.optimise(state, robust, all_held(samples, 0.0), DEPTH_STEPS)
        # The solver has taken the median inverse depth for its unit, by whatever points are there.
        unit = _unit(state, moved)
        state = replace(state, inverse_depth=moved.inverse_depth * unit)
    return state, solver.residuals(state)


def _unit(before: State, after: State) -> float:
    """Length of 1 of the first in units of the second: by the largest step, which all cameras held have in common."""
    steps = [np.linalg.norm(state.w2c[:, :3, 3], axis=1) for state in (before, after)]
    largest = int(steps[0].argmax())
    return float(steps[1][largest] / steps[0][largest]) if steps[0][largest] > 0 else 1.0


def is_better(
    samples: Samples,
    before: Float[np.ndarray, "E K"],
    after: Float[np.ndarray, "E K"],
    frames: Sequence[int] | None = None,
    scale: float | None = None,
) -> bool:
    """Whether the matches held back are explained better by the second solution, by more than chance.

    The robust losses of the two are compared match by match and averaged frame by frame, for matches of one frame err
    together; the mean over the frames must exceed zero by :data:`SURE` standard errors.

    Args:
        samples: All tracks.
        before: Distances under the first solution, as :func:`judge` gives them.
        after: Under the second one.
        frames: Those that have a say; None = all.
        scale: Of the robust loss, in pixels; None = twice the median distance under the first solution, which tells
            two solutions apart that are nearly the same. Whether one is in the wrong place altogether is told by what
            is explained at all (:data:`EXPLAINED`): what is far away fits many places to a fraction of a pixel.
    """
    counts = (before >= 0) & (after >= 0)
    weights = np.where(counts, samples.weights, 0.0)
    if not weights.any():
        return False
    square = (scale or 2.0 * float(weighted_median(before.ravel(), weights.ravel()))) ** 2 + 1e-12
    gain = weights * (before**2 / (square + before**2) - after**2 / (square + after**2))
    gains = []
    for i in range(samples.num_frames) if frames is None else frames:
        e = samples.edges_of(i)
        if weights[e].sum() > 0:
            gains.append(gain[e].sum() / weights[e].sum())
    if len(gains) < MIN_FRAMES:
        return False
    error = float(np.std(gains, ddof=1)) / np.sqrt(len(gains))
    return float(np.mean(gains)) > SURE * error


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
