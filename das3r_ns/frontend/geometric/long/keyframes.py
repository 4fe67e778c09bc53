"""Cameras of frames from all of a long video adjusted together, on points that are found again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from das3r_ns.frontend.geometric.bundle.state import State
from das3r_ns.frontend.geometric.points.adjustment import HELD_BACK, MIN_TRACKS, ROUNDS, every_fifth
from das3r_ns.frontend.geometric.points.ends import Ends
from das3r_ns.frontend.geometric.points.held_back import HeldBack, is_better, judge, settle_depth
from das3r_ns.frontend.geometric.points.lens import SCALES, adjust
from das3r_ns.frontend.geometric.points.pyramids import build_pyramids, sample_map
from das3r_ns.frontend.geometric.points.tracks import find_again, pick_points
from das3r_ns.frontend.pairs import both_ways, strided_pairs
from das3r_ns.frontend.weighted_median import weighted_median
from das3r_ns.scene import geometry as geo

STRIDES = (1, 2, 4, 8, 16)
"""Distances, in frames that take part, over which points are looked for; and where loops close."""

LONG_SIDE = 240
"""Longer side, in pixels, of the depth maps whose slopes say how patches change their shape."""

FEW = 20.0
"""Points, by their weights, from which a frame says how its unit of length has changed."""


@dataclass(frozen=True)
class Keyframes:
    """Some frames of a long video, K of them."""

    c2w_cv: Float[np.ndarray, "K 4 4"]
    focal: float
    """In pixels of the depth maps; the principal point is the centre."""
    depth: Float[np.ndarray, "K H W"]
    static_weight: Float[np.ndarray, "K H W"]


@dataclass(frozen=True)
class Adjusted:
    """What the adjustment has come to."""

    c2w_cv: Float[np.ndarray, "K 4 4"]
    focal: float
    """In pixels of the depth maps."""
    growth: Float[np.ndarray, " K"]
    """Factor of the depth of each frame."""
    taken: bool
    """Whether matches held back are explained better than by the cameras before."""
    tracks: int
    before: HeldBack
    after: HeldBack
    ends: Ends
    """What matches across the loops say of the cameras to go on with."""


def adjust_keyframes(
    frames: Keyframes,
    before: Keyframes,
    pictures: Iterable[UInt8[np.ndarray, "H W 3"]],
    ends: Ends,
    focal_known: bool,
    on_step: Callable[[], None] = lambda: None,
) -> Adjusted:
    """Adjust cameras and one focal, as ``points.adjust_on_points`` does, where no optical flow leads.

    Args:
        frames: Where the adjustment starts: loops are closed so far that points are found again across them.
        before: The same frames as they were, to compare with by matches held back.
        pictures: Of these frames, RGB, at the size of the video.
        ends: Loops that are closed, by the numbers of these frames.
        focal_known: Whether the focal stays.
        on_step: Called once for each frame and ROUNDS + 1 times more.
    """
    count, height, width = frames.depth.shape
    pyramids = build_pyramids(pictures, count, on_step)
    scale = max(pyramids.size) / max(height, width)
    focal = frames.focal * scale
    smaller = min(1.0, LONG_SIDE / max(height, width))
    size = (round(width * smaller), round(height * smaller))
    inverse = np.stack([cv2.resize(1 / depth, size, interpolation=cv2.INTER_AREA) for depth in frames.depth])
    pairs = both_ways([*strided_pairs(count, STRIDES), *ends.loops])
    tracks = pick_points(pyramids, pairs, inverse, frames.static_weight)
    start = _state(frames, tracks.points, pyramids.size, focal)
    find_again(tracks, start)
    on_step()
    known_focal = focal if focal_known else None
    held_back = every_fifth(count, tracks.points.shape[1])
    state = start
    for _ in range(ROUNDS):
        samples = tracks.samples(start, frames.static_weight, known_focal)
        state = adjust(samples, state, ~held_back[samples.sources])
        state, _ = settle_depth(samples, state, samples.weights * held_back[samples.sources])
        find_again(tracks, state)
        on_step()
    samples = tracks.samples(start, frames.static_weight, known_focal)
    state = adjust(samples, state, ~held_back[samples.sources], SCALES[-1:])
    as_was = _state(before, tracks.points, pyramids.size, before.focal * scale)
    was, distance_was = judge(samples, as_was, held_back, tracks.found)
    now, distance_now = judge(samples, state, held_back, tracks.found)
    found = int((tracks.found & (samples.weights > 0)).any(axis=1).sum())
    number = (tracks.found & held_back[samples.sources] & (samples.weights > 0)).sum()
    taken = bool(number >= MIN_TRACKS * HELD_BACK and is_better(samples, distance_was, distance_now))
    worth = np.zeros(start.inverse_depth.shape)
    np.add.at(worth, samples.sources, samples.weights * tracks.found)
    ratio = np.log(start.inverse_depth / state.inverse_depth)
    growth = weighted_median(ratio, worth)
    sure = worth.sum(axis=1) >= FEW
    numbers = np.arange(count)
    growth = np.interp(numbers, numbers[sure], growth[sure]) if sure.any() else np.zeros(count)
    c2w_cv = geo.invert_rigid(state.w2c)
    ends = ends.seen(samples, distance_now if taken else distance_was, taken)
    return Adjusted(c2w_cv, state.focal / scale, np.exp(growth), taken, found, was, now, ends)


def _state(frames: Keyframes, points: Float[np.ndarray, "K P 2"], size: tuple[int, int], focal: float) -> State:
    """The cameras as the solver has them; their unit is one in which the points lie at about 1."""
    inverse = [sample_map(1 / depth, points[k], size) for k, depth in enumerate(frames.depth)]
    return State(geo.invert_rigid(frames.c2w_cv), np.stack(inverse).astype(np.float64), focal)
