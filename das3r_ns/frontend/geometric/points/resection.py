"""Frames that hang on too little are placed anew, one after the other, by the points of those that are well tied.

Where a step is large, what is near is lost to optical flow, and what is far says how the camera turns but not how far
it goes: the frames beyond have a scale of their own then. Points of known depth say where the camera stands: every
place it may have is tried, and patches around the points vote for it (as in a Hough transform).
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numba
import numpy as np
from jaxtyping import Bool, Float, Int

from das3r_ns.frontend.geometric.bundle.flow_samples import Samples
from das3r_ns.frontend.geometric.bundle.known_poses import all_held, start_depth
from das3r_ns.frontend.geometric.bundle.pose_solver import Solver
from das3r_ns.frontend.geometric.bundle.state import Robust, State, Terms
from das3r_ns.frontend.geometric.points.held_back import HeldBack
from das3r_ns.frontend.geometric.points.pyramids import sample_map
from das3r_ns.frontend.geometric.points.tracks import TRUSTED, Tracks, find_again, slopes_of
from das3r_ns.scene import geometry as geo

LOOSE = 2.0
"""Held-back error of a frame, in medians over all frames, from which it is badly tied."""

SOURCES = 3
"""Frames next to a new one whose points vote for its place."""

REACH = 2.0
"""How far from the last place the next one is looked for, in steps of the camera."""

SPACING = (0.2, 0.05)
"""Distance between places that are tried, in steps of the camera: everywhere first, then around the best."""

BEST = 6
"""Places around which it is looked closer."""

LONG_SIDE = 320
"""Longer side, at most, of the pictures in which patches vote."""

RADIUS = 4
"""Half the side of a patch that votes, in pixels of those."""

ALIKE = 0.75
"""Correlation of two patches from which one votes for the other's place."""

RIGHT = 0.4
"""Share of the points in view that find their like where it should be."""

TURN = 1.5
"""Pixels of these pictures between turns that are tried, three to either side about every axis."""

WINDOW = 8
"""Frames before a new one that it is adjusted and its depth is found with."""

MIN_CORE = 8
"""Frames that must be well tied, one after the other, for others to be placed by them."""

MOST = 12
"""Frames that are placed anew at most: each takes seconds."""

FREE = 2
"""Known frames next to a new one that are adjusted with it."""

SCALES = (8.0, 2.0, 0.5)
"""Robust scales of the adjustment of a new frame, in 1/427 of the longer side."""


def well_tied(held_back: HeldBack) -> range:
    """The longest run of frames without one that held-back matches say is badly tied."""
    error = np.nan_to_num(held_back.error, nan=np.inf)
    loose = np.flatnonzero(error > LOOSE * np.nanmedian(held_back.error))
    ends = [-1, *loose.tolist(), len(error)]
    gaps = np.diff(ends)
    at = int(gaps.argmax())
    return range(ends[at] + 1, ends[at + 1])


def place_anew(tracks: Tracks, state: State, flow: Samples, core: range) -> State:
    """Place the frames before and after a run of well tied ones, outwards.

    Args:
        tracks: The points. What was found of the other frames is looked for again, and nothing of that is kept here.
        state: Cameras, and inverse depths of the points. How the camera turns from frame to frame is believed.
        flow: Samples of the optical flow, by which new frames get their depth.
        core: The frames that stay, two at least.

    Returns:
        Cameras and inverse depths of all frames, in the unit of ``state``.
    """
    inside = np.isin(np.array(tracks.pairs), np.array(core)).all(axis=1)
    mine = {name: getattr(tracks, name).copy() for name in ("slopes", "targets", "correlation")}
    tracks = replace(tracks, **mine)  # whether what comes of it is taken is not known yet
    tracks.correlation[~inside] = -1.0
    turns = state.w2c[:, :3, :3].copy()
    frames = np.array(core)
    state = _adjusted(tracks, state, frames, frames < core.start + 2, np.ones(len(core), dtype=bool))
    after = [(new, range(max(new - WINDOW, core.start), new)) for new in range(core.stop, len(turns))]
    before = [(new, range(new + 1, min(new + 1 + WINDOW, len(turns)))) for new in reversed(range(core.start))]
    for new, known in after + before:
        near = sorted(known, key=lambda k: abs(k - new))
        turned = turns[new] @ turns[near[0]].T @ state.w2c[near[0], :3, :3]
        w2c = state.w2c.copy()
        w2c[new] = _voted_pose(tracks, state, new, near[:SOURCES], turned, _step(state, known))
        state = replace(state, w2c=w2c)
        frames = np.sort([*known, new])
        old = frames != new
        find_again(tracks, state, wanted=np.array([j == new and i in known for i, j in tracks.pairs]))
        state = _adjusted(tracks, state, frames, old, old)
        state = _with_depth(tracks, state, flow, new, frames)
        find_again(tracks, state, wanted=np.array([i == new and j in known for i, j in tracks.pairs]))
        state = _adjusted(tracks, state, frames, old & (np.abs(frames - new) > FREE), np.ones_like(old))
    return state


def _pose(turned: Float[np.ndarray, "3 3"], centre: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "4 4"]:
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = turned, -turned @ centre
    return out


def _step(state: State, known: range) -> float:
    """Median step of the camera over known frames."""
    centres = geo.invert_rigid(state.w2c[known.start : known.stop])[:, :3, 3]
    return max(float(np.median(np.linalg.norm(np.diff(centres, axis=0), axis=1))), 1e-9)


def _voted_pose(
    tracks: Tracks, state: State, new: int, sources: list[int], turned: Float[np.ndarray, "3 3"], step: float
) -> Float[np.ndarray, "4 4"]:
    """The camera for which most points of other frames find their like where it expects them."""
    level = next(n for n, one in enumerate(tracks.pyramids.levels[new]) if max(one.shape) <= LONG_SIDE)
    target = tracks.pyramids.levels[new][level]
    size = np.array(target.shape[::-1])
    scale = size / tracks.size
    middle, focal = np.array(tracks.size) / 2, float(state.focals[new])
    start = geo.invert_rigid(state.w2c[sources[0]])[:3, 3]
    c2w = geo.invert_rigid(state.w2c)

    points, maps = [], []
    for i in sources:
        picture = tracks.pyramids.levels[i][level]
        there = np.rint(tracks.points[i] * scale - 0.5).astype(int)
        fits = ((there >= RADIUS) & (there < size - RADIUS)).all(axis=1) & (tracks.trust[i] > TRUSTED)
        rays = np.concatenate([(tracks.points[i] - middle) / state.focals[i], np.ones((len(there), 1))], axis=1)
        points.append(geo.transform_points(c2w[i], rays / state.inverse_depth[i][:, None])[fits])
        for x, y in there[fits]:
            patch = picture[y - RADIUS : y + RADIUS + 1, x - RADIUS : x + RADIUS + 1]
            found = np.nan_to_num(cv2.matchTemplate(target, patch, cv2.TM_CCOEFF_NORMED)) > ALIKE
            maps.append(np.pad(found.astype(np.uint8), RADIUS))
    points = np.concatenate(points)
    depth = np.maximum((points - start) @ turned[2], step)

    def votes(
        turns: Float[np.ndarray, "#P 3 3"], places: Float[np.ndarray, "P 3"], spacing: float
    ) -> Float[np.ndarray, " P"]:
        """Logarithm of how much likelier each pose is than one at random, by what is found where it expects it."""
        total = np.zeros(len(places))
        for point, found, z in zip(points, maps, depth, strict=True):
            blur = 1 + 2 * int(np.ceil(min(0.5 * spacing * step * focal * scale[0] / z, 0.05 * size[0])))
            wide = cv2.dilate(found, np.ones((blur, blur), dtype=np.uint8))
            chance = max(float(wide.mean()), 1.0 / wide.size)
            miss, hit = np.log(1.0 - RIGHT), np.log(1.0 - RIGHT + RIGHT / chance)
            _tally(total, wide, miss, hit, point, turns, places, focal * scale, middle * scale - 0.5, 1e-3 * step)
        return total

    def cube(half: float, spacing: float) -> Float[np.ndarray, "P 3"]:
        line = np.arange(-half, half + spacing / 2, spacing)
        return np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)

    places = start + cube(REACH, SPACING[0]) * step
    places = places[np.linalg.norm(places - start, axis=1) <= REACH * step]
    score = votes(turned[None], places, SPACING[0])
    small = cube(3.0, 1.0) * TURN / focal / scale[0]
    best, best_score = (turned, start), -np.inf
    for place in _peaks(places, score, 2.5 * SPACING[0] * step):
        turns = geo.se3_exp(np.concatenate([np.zeros_like(small), small], axis=1))[:, :3, :3] @ turned
        turn = turns[votes(turns, np.repeat(place[None], len(turns), axis=0), SPACING[0]).argmax()]
        near = place + cube(SPACING[0], SPACING[1]) * step
        score_near = votes(turn[None], near, SPACING[1])
        if score_near.max() > best_score:
            best, best_score = (turn, near[score_near.argmax()]), score_near.max()
    return _pose(*best)


@numba.njit(cache=True, nogil=True)
def _tally(
    total: np.ndarray,
    found: np.ndarray,
    miss: float,
    hit: float,
    point: np.ndarray,
    turns: np.ndarray,
    places: np.ndarray,
    focal: np.ndarray,
    middle: np.ndarray,
    nearest: float,
) -> None:
    """Add the vote of one point for every pose that shows it inside the picture; one turn serves all places."""
    rows, columns = found.shape
    for p in range(len(places)):
        turn = turns[p if len(turns) > 1 else 0]
        dx, dy, dz = point[0] - places[p, 0], point[1] - places[p, 1], point[2] - places[p, 2]
        z = turn[2, 0] * dx + turn[2, 1] * dy + turn[2, 2] * dz
        if z <= nearest:
            continue
        x = (turn[0, 0] * dx + turn[0, 1] * dy + turn[0, 2] * dz) / z * focal[0] + middle[0] + 0.5
        y = (turn[1, 0] * dx + turn[1, 1] * dy + turn[1, 2] * dz) / z * focal[1] + middle[1] + 0.5
        if 0 <= x < columns and 0 <= y < rows:
            total[p] += hit if found[int(y), int(x)] else miss


def _peaks(places: Float[np.ndarray, "P 3"], score: Float[np.ndarray, " P"], apart: float) -> list[np.ndarray]:
    """The best places, none near a better one."""
    found: list[np.ndarray] = []
    for k in np.argsort(-score):
        if all(np.linalg.norm(places[k] - other) > apart for other in found):
            found.append(places[k])
            if len(found) == BEST:
                break
    return found


def _adjusted(
    tracks: Tracks,
    state: State,
    frames: Int[np.ndarray, " M"],
    held: Bool[np.ndarray, " M"],
    used: Bool[np.ndarray, " M"],
) -> State:
    """Some frames adjusted on the points that are found among them.

    Args:
        tracks: The points.
        state: Of all frames.
        frames: Which are adjusted, ascending.
        held: Which of them stay where they are.
        used: Whose points count.
    """
    samples = tracks.samples(state, None, state.focal).subset(frames)
    solver = Solver(samples, samples.weights * used[samples.sources, None])
    part = replace(state, w2c=state.w2c[frames], inverse_depth=state.inverse_depth[frames])
    for pixels in SCALES:
        robust = Robust(np.full(len(samples.sources), pixels * samples.unit, dtype=np.float32))
        moved, _, _ = solver.optimise(part, robust, Terms(focal=False, held=held, smoothness=1e-4), 5)
        unit = _ratio(part, moved, held)
        part = replace(moved, w2c=_scaled(moved.w2c, unit), inverse_depth=moved.inverse_depth * unit)
    w2c, inverse_depth = state.w2c.copy(), state.inverse_depth.copy()
    w2c[frames] = part.w2c
    inverse_depth[frames[used]] = part.inverse_depth[used]
    return replace(state, w2c=w2c, inverse_depth=inverse_depth)


def _with_depth(tracks: Tracks, state: State, flow: Samples, new: int, frames: Int[np.ndarray, " M"]) -> State:
    """Inverse depths of a new frame by the optical flow from it, all cameras held."""
    part = flow.subset(frames)
    w2c = state.w2c[frames] @ geo.invert_rigid(state.w2c[frames[0]])
    held = State(w2c, np.ones(part.points.shape[:2]), state.focal * part.width / tracks.size[0])
    found = start_depth(part, held)
    solver = Solver(part)
    for pixels in SCALES:
        robust = Robust(np.full(len(part.sources), pixels * part.unit, dtype=np.float32))
        found, _, _ = solver.optimise(found, robust, all_held(part, 1e-4), 5)
    unit = _ratio(held, found, np.ones(len(frames), dtype=bool))
    grid = found.inverse_depth[frames == new][0].reshape(part.rows, part.columns) * unit
    inverse_depth = state.inverse_depth.copy()
    inverse_depth[new] = sample_map(grid, tracks.points[new], tracks.size)
    tracks.slopes[new] = slopes_of(grid, tracks.points[new], tracks.size)
    return replace(state, inverse_depth=inverse_depth)


def _ratio(before: State, after: State, held: Bool[np.ndarray, " N"]) -> float:
    """Unit of the second state in that of the first, by the distances of held cameras."""
    spread = [np.linalg.norm(np.ptp(geo.invert_rigid(state.w2c[held])[:, :3, 3], axis=0)) for state in (before, after)]
    return float(spread[1] / spread[0]) if min(spread) > 0 else 1.0


def _scaled(w2c: Float[np.ndarray, "N 4 4"], unit: float) -> Float[np.ndarray, "N 4 4"]:
    out = w2c.copy()
    out[:, :3, 3] /= unit
    return out
