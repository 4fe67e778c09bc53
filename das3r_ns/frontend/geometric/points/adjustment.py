"""Cameras adjusted on points, taken only where matches that no solution has seen say that they are better."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from das3r_ns.frontend.geometric.bundle.adjustment import bundle_adjust
from das3r_ns.frontend.geometric.bundle.departures import normalised
from das3r_ns.frontend.geometric.bundle.flow_samples import Samples
from das3r_ns.frontend.geometric.bundle.result import BundleResult
from das3r_ns.frontend.geometric.bundle.state import State
from das3r_ns.frontend.geometric.loops.clip import look_back
from das3r_ns.frontend.geometric.pair_flows import PairFlows
from das3r_ns.frontend.geometric.points.ends import Ends, meets_better
from das3r_ns.frontend.geometric.points.halves import Halves
from das3r_ns.frontend.geometric.points.held_back import EXPLAINED, HeldBack, is_better, judge, settle_depth
from das3r_ns.frontend.geometric.points.lens import SCALES, adjust, halves_of, with_focus, with_lens
from das3r_ns.frontend.geometric.points.pyramids import Pyramids, build_pyramids, sample_map
from das3r_ns.frontend.geometric.points.resection import MIN_CORE, MOST, place_anew, well_tied
from das3r_ns.frontend.geometric.points.tracks import Tracks, by_flow, find_again, pick_points
from das3r_ns.frontend.pairs import Pair, both_ways, strided_pairs
from das3r_ns.frontend.weighted_median import weighted_median
from das3r_ns.scene import geometry as geo

STRIDES = (1, 2, 4, 8, 16, 24, 32, 64)
"""Distances in frames over which points are looked for: by optical flow where it is known, and all by the cameras. The
long ones hold the path together that short ones let drift; where they have nothing in common they cost next to nothing.
"""

ROUNDS = 2
"""How often the points are looked for and the cameras adjusted; better cameras find more of them."""

WIDE = (12.0, 6.0, 3.0, 1.5, 0.75, 0.25)
"""Robust scales, as SCALES, for where the halves of the picture disagree: a dense solution may be so wrong that what
proves it so counts for nothing under narrow ones. Elsewhere they cost time and end no better."""

DISAGREE = 0.003
"""Distance of the cameras by either half, in shares of the path's length, from which that is tried."""

HELD_BACK = 5
"""One in so many points is held back from the adjustment, to judge by."""

MIN_TRACKS = 50
"""Tracks that must be there on either side, adjusted and held back: with fewer there is nothing to decide by."""


@dataclass(frozen=True)
class OnPoints:
    """What the adjustment on points has come to."""

    result: BundleResult
    """The cameras to go on with."""
    taken: bool
    """Whether these are the adjusted ones."""
    tracks: int
    """Points that were found again in at least two other frames."""
    before: HeldBack
    """What the matches held back say of the cameras as they were."""
    after: HeldBack
    """And of those adjusted."""
    halves: Halves | None = None
    """What either half of the picture says of the cameras to go on with; None where too few points are found again."""
    unit: float = 1.0
    """Pixels of the video per pixel of a picture whose longer side has 427, for which thresholds are meant."""
    ends: Ends | None = None
    """What ties the places that the camera comes back to; None where it does not come back."""
    focuses: bool = False
    """Whether focals were found that differ a little from frame to frame."""

    @property
    def held_back(self) -> HeldBack:
        """What the matches held back say of the cameras to go on with."""
        return self.after if self.taken else self.before

    @property
    def message(self) -> str:
        """A line for the user."""
        if self.tracks < MIN_TRACKS * HELD_BACK:
            return f"Points: too few are found again ({self.tracks}); the cameras stay as optical flow has them."
        ends = "" if self.ends is None else f" {self.ends.message}"
        zoom = self.result.zoom
        if self.focuses and zoom is not None:
            change = 100 * (zoom.max() / zoom.min() - 1)
            ends = f" The lens focuses: focals differ by up to {change:.1f} %, and every frame has its own.{ends}"
        if not self.taken:
            return (
                f"Points: {self.tracks} found again, but the cameras adjusted on them explain matches held back no "
                f"better ({self.before.median:.2f} pixels before, {self.after.median:.2f} after); they stay as they "
                f"were.{ends}"
            )
        return (
            f"Points: cameras adjusted on {self.tracks} that are found again; matches held back are "
            f"{self.before.median:.2f} pixels off before and {self.after.median:.2f} after.{ends}"
        )

    @property
    def provenance(self) -> dict[str, Any]:
        """For the record."""
        return {
            "taken": self.taken,
            "tracks": self.tracks,
            "before": self.before.provenance(),
            "after": self.after.provenance(),
            "halves": None if self.halves is None else self.halves.provenance(),
            "unit": round(self.unit, 4),
            "focuses": self.focuses,
            **({} if self.ends is None else {"ends": self.ends.provenance()}),
        }


def adjust_on_points(
    result: BundleResult,
    flows: PairFlows,
    frames: Iterable[UInt8[np.ndarray, "N H W 3"]],
    static_weight: Float[np.ndarray, "N h w"] | None = None,
    known_focal: float | None = None,
    on_step: Callable[[], None] = lambda: None,
    may_bend: bool = False,
    may_focus: bool = False,
    times: Float[np.ndarray, " N"] | None = None,
) -> OnPoints:
    """Adjust the cameras of a dense solution on points that are found to a fraction of a pixel.

    Dense optical flow is smooth, its errors go together, and they stay however many pixels are averaged over. Patches
    around corners, at the size of the video and in the shape in which cameras and depth expect them, err far less and
    each for itself. They are looked for where the flow leads and where the cameras point, and go through the same
    robust adjustment of poses, inverse depths and one focal as the flow did (see ``bundle.pose_solver``), and of bend
    and read-out where there are any; rows have poses of their own then. They show lenses too that bend less than
    optical flow errs by, and lenses that focus from frame to frame.

    Args:
        result: The dense solution, of a camera that moves.
        flows: The flow that it was made from.
        frames: RGB frames at the size of the video, in order; read once, one after the other.
        static_weight: Probability that each pixel is static; None = not known.
        known_focal: Focal in pixels of the flow, which stays as it is.
        on_step: Called once for each frame and :data:`ROUNDS` + 2 times more, for progress bars.
        may_bend: Whether a bent lens is looked for where ``result`` has a straight one and no zoom.
        may_focus: Whether focals that differ a little from frame to frame are looked for where ``result`` has one.
        times: When each frame was taken, in frame times of the video; None = one after the other.

    Returns:
        The cameras that explain matches held back better, in the world frame and the unit of ``result``.
    """
    count = len(result.c2w_cv)
    pyramids = build_pyramids(frames, count, on_step)
    scale = max(pyramids.size) / max(result.width, result.height)
    known_focal = None if known_focal is None else known_focal * scale
    solve = partial(
        _solution, flows=flows, pyramids=pyramids, static_weight=static_weight, known_focal=known_focal, times=times
    )
    found = solve(result, on_step=on_step)
    on_step()
    held_back = found.held_back
    number = _found_in_two(found.samples, found.tracks.found)
    enough = min((number & held_back).sum(), (number & ~held_back).sum()) >= MIN_TRACKS
    found = replace(found, taken=bool(enough and found.better()))
    core = well_tied(found.judged) if enough else range(0)
    if len(core) >= MIN_CORE and 0 < count - len(core) <= MOST and found.start.optics is None:
        placed = place_anew(pyramids, found.cameras, core, static_weight)
        moved = replace(found.cameras, w2c=placed)
        other = solve(_with_dense_depth(result, moved, scale, flows, static_weight), rival=found.cameras)
        loose = [i for i in range(count) if i not in core]
        found = other if other.better(loose, EXPLAINED * other.samples.unit) else found
    pairs, back, ends = None, None, None
    if enough and result.bend is None:
        known = _as_result(found, scale) if found.taken else found.dense
        back = look_back(known, [levels[0] for levels in pyramids.levels], static_weight)
    if back is not None:
        loops = [(loop.first, loop.second) for loop in back.loops]
        ends = Ends(back.nearest, tuple(loops), back.left_out, back.gap)
        if loops:
            with_loops = both_ways([*strided_pairs(count, STRIDES), *loops])
            other = solve(back.closed, rival=found.cameras, pairs=with_loops)
            closed = meets_better(other.samples, other.distance_before, other.distance_after, loops)
            ends = ends.seen(other.samples, other.distance_after if closed else other.distance_before, closed)
            if closed:
                found, pairs = other, with_loops
    if may_bend and enough and found.state.optics is None:
        bent = with_lens(
            found.tracks,
            found.samples,
            found.state,
            held_back,
            found.after,
            found.distance_after,
            result.focal_std,
        )
        if bent is not None:
            samples, state, after = bent
            found = replace(found, samples=samples, state=state, after=after, taken=True)
    halves = halves_of(found.samples, found.cameras) if enough else None
    if halves is not None and found.state.optics is None and max(halves.path.values()) > DISAGREE:
        other = solve(found.dense, rival=found.cameras, pairs=pairs, scales=WIDE)
        if other.better():
            found, halves = replace(other, before=found.before), halves_of(other.samples, other.state)
    if may_focus and found.taken and halves is not None and known_focal is None and found.state.optics is None:
        focused = with_focus(found.tracks, found.samples, found.state, held_back, found.distance_after)
        if focused is not None:
            samples, state, after, halves = focused
            found = replace(found, samples=samples, state=state, after=after)
    adjusted = _as_result(found, scale) if found.taken else found.dense
    if ends is not None and ends.closed and adjusted.bend is None:
        moved = State(geo.invert_rigid(adjusted.c2w_cv), found.state.inverse_depth, adjusted.focal * scale)
        adjusted = _with_dense_depth(adjusted, moved, scale, flows, static_weight)
    samples, tracks = found.samples, int(_found_in_two(found.samples, found.tracks.found).sum())
    return OnPoints(
        adjusted, found.taken, tracks, found.before, found.after, halves, samples.unit, ends, samples.focuses
    )


@dataclass(frozen=True)
class _Solution:
    """What points make of a dense solution, and what matches held back say of it and of what it has to beat."""

    dense: BundleResult
    """Where the points were looked for from."""
    tracks: Tracks
    samples: Samples
    held_back: Bool[np.ndarray, "N K"]
    start: State
    """The dense solution, at these points."""
    state: State
    before: HeldBack
    """Of the rival."""
    after: HeldBack
    distance_before: Float[np.ndarray, "E K"]
    """Of every match under the rival, as :func:`judge` gives them."""
    distance_after: Float[np.ndarray, "E K"]
    taken: bool = True

    @property
    def cameras(self) -> State:
        """Those to go on with."""
        return self.state if self.taken else self.start

    @property
    def judged(self) -> HeldBack:
        """What the matches held back say of them."""
        return self.after if self.taken else self.before

    def better(self, *of: Any) -> bool:
        """Whether matches held back come closer than by the rival; ``of`` as of :func:`is_better`."""
        return is_better(self.samples, self.distance_before, self.distance_after, *of)


def _solution(
    dense: BundleResult,
    *,
    flows: PairFlows,
    pyramids: Pyramids,
    static_weight: Float[np.ndarray, "N h w"] | None,
    known_focal: float | None,
    times: Float[np.ndarray, " N"] | None,
    rival: State | None = None,
    pairs: list[Pair] | None = None,
    scales: tuple[float, ...] = SCALES,
    on_step: Callable[[], None] = lambda: None,
) -> _Solution:
    """Points looked for from a dense solution, and the cameras by them.

    Args:
        dense: The dense solution.
        flows: The flow that it was made from.
        pyramids: The frames.
        static_weight: Probability that each pixel is static; None = not known.
        known_focal: Focal in pixels of the frames, which stays.
        times: When each frame was taken; None = one after the other.
        rival: What it is compared with; None = the dense solution.
        pairs: Of frames in which points are looked for; None = those STRIDES apart.
        scales: Robust scales.
        on_step: Called ROUNDS + 1 times.
    """
    count = len(dense.c2w_cv)
    tracks = pick_points(pyramids, pairs or strided_pairs(count, STRIDES), dense.inverse_depth, static_weight, times)
    scale = max(tracks.size) / max(dense.width, dense.height)
    inverse_depth = np.stack([sample_map(dense.inverse_depth[i], tracks.points[i], tracks.size) for i in range(count)])
    start = State(
        geo.invert_rigid(dense.c2w_cv), inverse_depth.astype(np.float64), dense.focal * scale, optics=dense.optics
    )
    find_again(tracks, start, by_flow(tracks, flows))
    # Cameras that roll do not say where to look: which row shows a point is not known before it is found.
    places = by_flow(tracks, flows) if dense.readout is not None else None
    find_again(tracks, start, places)
    on_step()
    held_back = every_fifth(count, tracks.points.shape[1])
    state = start
    for _ in range(ROUNDS):
        samples = tracks.samples(start, static_weight, known_focal)
        state = adjust(samples, state, ~held_back[samples.sources], scales)
        state, _ = settle_depth(samples, state, samples.weights * held_back[samples.sources])
        find_again(tracks, state, places)
        on_step()
    samples = tracks.samples(start, static_weight, known_focal)
    # A lens and its focal make up for each other and come to rest late, under the scale of what is left by then.
    last = SCALES[-1:] * (2 if samples.bends else 1)
    state = adjust(samples, state, ~held_back[samples.sources], last)
    before, distance_before = judge(samples, start if rival is None else rival, held_back, tracks.found)
    after, distance_after = judge(samples, state, held_back, tracks.found)
    return _Solution(dense, tracks, samples, held_back, start, state, before, after, distance_before, distance_after)


def _with_dense_depth(
    result: BundleResult,
    placed: State,
    scale: float,
    flows: PairFlows,
    static_weight: Float[np.ndarray, "N h w"] | None,
) -> BundleResult:
    """The dense solution with other cameras, and the depth that the flow has under them.

    Args:
        result: The dense solution as it was.
        placed: The cameras.
        scale: Pixels of these per pixel of the flow.
        flows: The flow.
        static_weight: Probability that each pixel is static.
    """
    shared = replace(result, focal=placed.focal / scale)
    depth = bundle_adjust(
        flows,
        static_weight,
        known_c2w_cv=geo.invert_rigid(placed.w2c),
        known_intrinsics=shared.frame_intrinsics,
    )
    return replace(
        shared,
        c2w_cv=depth.c2w_cv,
        inverse_depth=depth.inverse_depth,
        information=depth.information,
        residual=depth.residual,
    )


def every_fifth(count: int, points: int) -> Bool[np.ndarray, "N K"]:
    """One point in :data:`HELD_BACK`, others in every frame."""
    return (np.arange(points)[None] + 2 * np.arange(count)[:, None]) % HELD_BACK == 0


def _found_in_two(samples: Samples, found: Bool[np.ndarray, "E K"]) -> Bool[np.ndarray, "N K"]:
    """Which points were found again in at least two frames."""
    times = np.zeros((samples.num_frames, found.shape[1]), dtype=np.int64)
    np.add.at(times, samples.sources, found & (samples.weights > 0))
    return times >= 2


def _as_result(found: _Solution, scale: float) -> BundleResult:
    """The dense solution with the cameras by its points, in its own world frame and unit.

    Args:
        found: What points make of it.
        scale: Pixels of the frames per pixel of the flow.
    """
    start, state, samples = found.start, found.state, found.samples
    w2c = state.w2c @ geo.invert_rigid(state.w2c[0])
    # Points that many frames show say how the units compare, each as much as it is worth.
    worth = np.zeros(start.inverse_depth.shape)
    np.add.at(worth, samples.sources, samples.weights)
    ratio = np.log(state.inverse_depth / np.maximum(start.inverse_depth, 1e-9))
    unit = float(np.exp(weighted_median(ratio.ravel(), worth.ravel())))
    w2c[:, :3, 3] *= unit
    state = normalised(state)
    optics = state.optics
    zoom = np.exp(optics.zoom) if samples.zooms and optics is not None else None
    bend = optics.coefficients(state.focal, samples.centre) if samples.bends and optics is not None else None
    readout = optics.readout if samples.rolls and optics is not None else None
    c2w_cv = geo.invert_rigid(w2c)
    return replace(found.dense, c2w_cv=c2w_cv, focal=state.focal / scale, zoom=zoom, bend=bend, readout=readout)
