"""Solutions that tear between two frames: all after the tear is somewhere else, and long strides hold it there.

Where the picture repeats itself (tiles, bricks, a fence), optical flow over a long stride may lead to the next of its
kind, both ways alike, in every frame of a stretch. If enough of them agree, the flow from neighbour to neighbour, which
does not err so, is what a robust solution leaves out, at one place.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from das3r_ns.frontend.geometric.bundle.flow_samples import Samples
from das3r_ns.frontend.geometric.bundle.known_poses import all_held, start_depth
from das3r_ns.frontend.geometric.bundle.pose_solver import Solver
from das3r_ns.frontend.geometric.bundle.state import FINE_SMOOTHNESS, Robust, State
from das3r_ns.frontend.similarity import Sim3, fit_similarity
from das3r_ns.frontend.weighted_median import weighted_median
from das3r_ns.scene import geometry as geo

FOLLOWED, PIXELS = 0.1, 4.0
"""Share of the flow from neighbour to neighbour, by weight, that a solution must explain to so many pixels (in 1/427 of
the longer side). Moving things cover more than the rest of the picture only where other things go wrong, too."""

ENOUGH = 20.0
"""Weight of the points of a frame from which their flow says anything: across a cut there is none."""

SOME = 0.1
"""Share of all gaps between frames that may be torn: where more are, it is another fault."""

NEAR, AGREE = 0.1, 0.5
"""Share of its distance by which a point may be off, and share of the points that must not be further off, where the
motion between neighbours is told by their depths and the flow between them."""

ALIKE = 0.4
"""Difference of the logarithms by which depths grow between neighbours, up to which points are compared."""

REACH = 17
"""Frames on either side of a tear whose depths are sought anew: those that the longest strides lead to."""

SCALES, STEPS = (8.0, 2.0, 0.5), 4
"""Robust scales of that, in the same pixels, one after the other, and steps at each."""


def torn(samples: Samples, residual: Float[np.ndarray, "E K"]) -> Int[np.ndarray, " T"]:
    """Frames behind a tear: the flow between the frame before and this one is not explained, one way nor the other.

    Args:
        samples: The flow.
        residual: Of a solution, in pixels; below 0 where a point has no projection.
    """
    count = samples.num_frames
    weight, explained = np.zeros(count), np.zeros(count)
    step = np.abs(samples.sources - samples.sinks) == 1
    later = np.maximum(samples.sources, samples.sinks)[step]
    fits = (residual[step] >= 0) & (residual[step] < PIXELS * samples.unit)
    np.add.at(weight, later, samples.weights[step].sum(axis=1))
    np.add.at(explained, later, (samples.weights[step] * fits).sum(axis=1))
    frames = np.flatnonzero((weight > 2 * ENOUGH) & (explained < FOLLOWED * weight))
    return frames if len(frames) <= SOME * (count - 1) else frames[:0]


def sewn(samples: Samples, state: State, frames: Int[np.ndarray, " T"]) -> State | None:
    """The solution with its parts put together by the flow between neighbours and their depths.

    Args:
        samples: The flow.
        state: A solution that tears.
        frames: Those behind a tear, see :func:`torn`, one at least.

    Returns:
        None where the flow between neighbours does not tell how they lie to each other.
    """
    state = _each_side_alone(samples, state, frames)
    places = Sim3.from_rigid(geo.invert_rigid(state.w2c))
    moved, stops = [places[: int(frames[0])]], [*frames[1:].tolist(), samples.num_frames]
    for first, stop in zip(frames.tolist(), stops, strict=True):
        motion = _between(samples, state, first - 1, first)
        if motion is None:
            return None
        to = moved[-1][-1] @ motion @ places[first].inverse()
        moved.append(Sim3(to.scale[None], to.rotation[None], to.translation[None]) @ places[first:stop])
    scale = np.concatenate([part.scale for part in moved])
    c2w = np.tile(np.eye(4), (samples.num_frames, 1, 1))
    c2w[:, :3, :3] = np.concatenate([part.rotation for part in moved])
    c2w[:, :3, 3] = np.concatenate([part.translation for part in moved])
    return replace(state, w2c=geo.invert_rigid(c2w), inverse_depth=state.inverse_depth / scale[:, None])


def _each_side_alone(samples: Samples, state: State, frames: Int[np.ndarray, " T"]) -> State:
    """The solution with the depths near the tears sought anew by the flow on their own side of it."""
    side = np.searchsorted(frames, np.arange(samples.num_frames), side="right")
    same = side[samples.sources] == side[samples.sinks]
    alone = replace(samples, weights=samples.weights * same[:, None])
    inverse_depth = state.inverse_depth.copy()
    for first in frames.tolist():
        near = np.arange(max(first - REACH, 0), min(first + REACH, samples.num_frames))
        part = alone.subset(near)
        held = State(state.w2c[near] @ geo.invert_rigid(state.w2c[near[0]]), state.inverse_depth[near], state.focal)
        found, solver = start_depth(part, held), Solver(part)
        for pixels in SCALES:
            robust = Robust(np.full(len(part.sources), pixels * part.unit, dtype=np.float32))
            found, _, _ = solver.optimise(found, robust, all_held(part, FINE_SMOOTHNESS), STEPS)
        steps = [np.linalg.norm(one.w2c[:, :3, 3], axis=1) for one in (held, found)]
        far = int(steps[0].argmax())
        if steps[0][far] > 0:
            inverse_depth[near] = found.inverse_depth * steps[1][far] / steps[0][far]
    return replace(state, inverse_depth=inverse_depth)


def _between(samples: Samples, state: State, i: int, j: int) -> Sim3 | None:
    """Similarity from the camera of frame j to that of its neighbour i."""
    here, there, weights = [], [], []
    for source, sink in ((i, j), (j, i)):
        (e,) = np.flatnonzero((samples.sources == source) & (samples.sinks == sink))
        start = _unprojected(samples, state, samples.points[source], state.inverse_depth[source])
        # The depth of the cell in which the flow ends is that of its own point, nearby.
        depth = state.inverse_depth[sink][samples.target_cells[e]]
        end = _unprojected(samples, state, samples.targets[e], depth)
        here.append(start if source == i else end)
        there.append(end if source == i else start)
        weights.append(samples.weights[e])
    goals, points, weight = np.concatenate(here), np.concatenate(there), np.concatenate(weights).astype(np.float64)
    told = weight.sum()
    # A few depths are wild where nothing but flow across the tear told them.
    grown = np.log(points[:, 2] / goals[:, 2])
    weight *= np.abs(grown - weighted_median(grown, weight)) < ALIKE
    distance = np.linalg.norm(goals, axis=1)
    motion, error = fit_similarity(points, goals, weight / distance)
    if (weight * (error < NEAR * distance)).sum() < AGREE * told:
        return None
    return motion


def _unprojected(
    samples: Samples, state: State, pixels: Float[np.ndarray, "K 2"], inverse_depth: Float[np.ndarray, " K"]
) -> Float[np.ndarray, "K 3"]:
    """Points in axes of the camera, from image coordinates of the pinhole."""
    return samples.rays(pixels, state.focal) / inverse_depth[:, None]
