"""Cameras adjusted on points, and what of a lens only points show: that it bends a little, and that it focuses anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float

from das3r_ns.frontend.geometric.bundle.departures import is_likely
from das3r_ns.frontend.geometric.bundle.flow_samples import Samples
from das3r_ns.frontend.geometric.bundle.optics import Optics
from das3r_ns.frontend.geometric.bundle.pose_solver import Solver
from das3r_ns.frontend.geometric.bundle.state import Robust, State, Terms
from das3r_ns.frontend.geometric.points.halves import Halves, compare_halves
from das3r_ns.frontend.geometric.points.held_back import HeldBack, is_better, judge
from das3r_ns.frontend.geometric.points.tracks import Tracks
from das3r_ns.frontend.weighted_median import RAYLEIGH_MEDIAN, weighted_median

SCALES = (1.0, 0.5, 0.25)
"""Robust scales in pixels, in 1/427 of the longer side, one after the other: from what the dense solution errs by to
what a point is found to in a video that is not sharp. Under wider ones (16 to begin with) the cameras can leave the
dense solution for any other, and where it was right they end no better."""

NOISE_MULTIPLE = 2.0
"""Robust scales are at least so many times the noise that the residuals of a pair of frames show."""

STEPS = 8
"""Steps at each scale."""

SMOOTHNESS = 1e-4
"""See ``Terms.smoothness``: for points that nothing else determines."""

BENT = (0.06, 0.75)
"""Share of the median distance of matches held back that a lens must take away, and share of them that must be
explained then. On drawn clips bends took away 8 to 38 %, straight lenses 0 to 3 %, but for cameras that were wrong
altogether."""

AGREE = 0.6
"""Correlation of the focals of the frames by one half of the picture with those by the other one, however it is cut,
from which a lens is believed to focus: a larger picture is larger everywhere. In rendered films whose lens changes by
0.1 % and more it is 0.68 to 0.94 where the camera turns (0.1 to 0.3 where it does not); what is merely fitted better by
more unknowns has less, often below 0."""


def adjust(samples: Samples, state: State, used: Bool[np.ndarray, "E K"], scales: tuple[float, ...] = SCALES) -> State:
    """Poses, focal and inverse depths by the points that are used, under robust scales that fall."""
    solver = Solver(samples, samples.weights * used)
    for pixels in scales:
        residual = solver.residuals(state)
        noise = weighted_median(np.abs(residual), solver.weights * (residual >= 0)) / RAYLEIGH_MEDIAN
        robust = Robust(np.maximum(NOISE_MULTIPLE * noise, pixels * samples.unit).astype(np.float32))
        state, _, _ = solver.optimise(state, robust, Terms(smoothness=SMOOTHNESS), STEPS)
    return state


def with_lens(
    tracks: Tracks,
    samples: Samples,
    state: State,
    held_back: Bool[np.ndarray, "N K"],
    straight: HeldBack,
    distance: Float[np.ndarray, "E K"],
    focal_std: float,
) -> tuple[Samples, State, HeldBack] | None:
    """The adjustment with a lens that bends, where matches held back come much closer by it and it is a likely one.

    Args:
        tracks: The points.
        samples: What is adjusted, of a straight lens.
        state: Solution with that.
        held_back: The points that judge.
        straight: What they say of that solution.
        distance: Of every match under it, as :func:`judge` gives them.
        focal_std: Standard error of log focal, by the flow.

    Returns:
        Samples, solution and what the matches held back say; None where the lens is as good as straight.
    """
    bends = replace(samples, bends=True)
    start = replace(state, optics=Optics.none(samples.num_frames))
    bent = adjust(bends, start, ~held_back[samples.sources], (*SCALES, SCALES[-1]))
    if not is_likely(bends, bent, focal_std):
        return None
    judged, distance_bent = judge(bends, bent, held_back, tracks.found)
    worth, explained = BENT
    if judged.median > (1.0 - worth) * straight.median or judged.share < explained:
        return None
    return (bends, bent, judged) if is_better(samples, distance, distance_bent) else None


def with_focus(
    tracks: Tracks,
    samples: Samples,
    state: State,
    held_back: Bool[np.ndarray, "N K"],
    distance: Float[np.ndarray, "E K"],
) -> tuple[Samples, State, HeldBack, Halves] | None:
    """The adjustment with a lens that focuses from frame to frame, where this explains matches held back better and all
    parts of the picture say the same of it.

    What is far hardly grows when the camera steps forward. Where its picture is larger all the same, because the lens
    has focused anew, a solution with one focal makes a step of percents of the path for it.

    Args:
        tracks: The points.
        samples: What is adjusted, of one focal.
        state: Solution with that.
        held_back: The points that judge.
        distance: Of every match under it, as :func:`judge` gives them.

    Returns:
        Samples, solution, what the matches held back say and what halves of the picture do; None where one focal stays.
    """
    focuses = replace(samples, zooms=True, focuses=True)
    start = replace(state, optics=Optics.none(samples.num_frames))
    found = adjust(focuses, start, ~held_back[samples.sources], (*SCALES, SCALES[-1]))
    judged, distance_found = judge(focuses, found, held_back, tracks.found)
    if not is_better(samples, distance, distance_found):
        return None
    halves = halves_of(focuses, found)
    return (focuses, found, judged, halves) if min(halves.zoom.values()) > AGREE else None


def halves_of(samples: Samples, state: State) -> Halves:
    """The cameras of halves of the picture, adjusted as those of the whole are at last."""
    return compare_halves(samples, state, NOISE_MULTIPLE, SCALES[-1], SMOOTHNESS)
