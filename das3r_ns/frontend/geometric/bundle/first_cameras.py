"""A first estimate from nothing: rotations, then a few frames from many guesses, then frame after frame.

Gauss-Newton alone, from identity poses and constant depth, may end with a part of the video turned inside out
(Necker's cube: a narrow field of view can hardly tell). A few frames are cheap enough to be solved from every direction
of motion and several focals, and frames added next to solved ones start near their place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from das3r_ns.frontend.geometric.bundle.flow_samples import Samples
from das3r_ns.frontend.geometric.bundle.pose_solver import INVERSE_DEPTH_RANGE, Solver
from das3r_ns.frontend.geometric.bundle.state import Robust, State, Terms, normalise_scale
from das3r_ns.scene import geometry as geo

SEED_FRAMES = 8
"""Frames that are solved first."""

SEED_WINDOWS = 6
"""Places in the video where they are tried."""

SEED_FOCALS = (0.8, 1.1, 1.6)
"""Focals tried for them, over the longer side of the picture."""

ENOUGH_PARALLAX = 1.5
"""Pixels by which the frames solved first should depart from a pure rotation."""


@dataclass
class Seed:
    """A few frames, solved."""

    frames: Int[np.ndarray, " M"]
    """Their numbers in the video, ascending."""
    state: State
    """Of these alone."""
    gain: float
    """Robust cost by which it beats a camera that only turns, per flow."""


def rotations_only(
    samples: Samples, focal: float, *, focal_too: bool = False
) -> tuple[State, Float[np.ndarray, "E K"]]:
    """Fit a camera that only turns, all inverse depths zero.

    Returns:
        The state and the residuals in pixels.
    """
    n, k = samples.points.shape[:2]
    solver = Solver(samples, samples.towards_border())
    state = State(np.tile(np.eye(4), (n, 1, 1)), np.zeros((n, k)), focal)
    residual = solver.residuals(state)
    terms = Terms(focal=focal_too, translation=False)
    schedule = ((10.0, 20.0, 5), (5.0, 5.0, 5), (3.0, 1.5, 5))
    if focal_too:
        # A judgement whether the camera only turns must not be blurred by movers that a wide scale lets in.
        schedule += ((2.5, 0.6, 5), (2.0, 0.3, 5))
    state, residual, _ = anneal(solver, state, schedule, terms)
    return state, residual


def _windows(samples: Samples, residual: Float[np.ndarray, "E K"]) -> list[Int[np.ndarray, " M"]]:
    """A few runs of equally spaced frames, the closest spacing at which the picture departs from a pure rotation.

    Args:
        samples: Of the whole video.
        residual: Against a camera that only turns.
    """
    n = samples.num_frames
    count = min(SEED_FRAMES, n)
    signal = (samples.weights * np.clip(residual, 0.0, 2 * ENOUGH_PARALLAX)).mean(axis=1)
    stride = np.abs(samples.sources - samples.sinks)
    spacings = [s for s in (1, 2, 4, 8) if s * (count - 1) < n and (stride == s).any()] or [1]
    strength = [float(signal[(stride >= s) & (stride < count * s)].mean()) for s in spacings]
    good = [s for s, x in zip(spacings, strength, strict=True) if x > 0.5 * ENOUGH_PARALLAX]
    spacing = good[0] if good else spacings[int(np.argmax(strength))]
    last = n - 1 - spacing * (count - 1)
    firsts = np.unique(np.linspace(0, last, min(SEED_WINDOWS, last // max(1, spacing * count // 2) + 1)).astype(int))
    return [first + spacing * np.arange(count) for first in firsts]


def solve_seeds(samples: Samples, residual: Float[np.ndarray, "E K"]) -> list[Seed]:
    """Solve a few frames at several places in the video, from six directions of motion.

    Args:
        samples: Of the whole video.
        residual: Against a camera that only turns.

    Returns:
        The solutions. First comes the one that explains most flow that a pure rotation does not explain (where a mover
        fills half of the picture, one of the two halves stays unexplained); for it, several focals were tried.
    """
    seeds, costs = [], []
    for frames in _windows(samples, residual):
        part = samples.subset(frames)
        state, cost, turning_cost = _solve_window(part, samples.focal_prior)
        seeds.append(Seed(frames, state, (turning_cost - cost) / max(float(part.weights.sum()), 1e-6)))
        costs.append(cost)
    best = int(np.argmax([seed.gain for seed in seeds]))
    seeds.insert(0, seeds.pop(best))
    first, lowest, part = seeds[0], costs[best], samples.subset(seeds[0].frames)
    for factor in SEED_FOCALS if samples.known_focal is None else ():
        state, cost, _ = _solve_window(part, factor * max(samples.width, samples.height))
        if cost < lowest:
            first.state, lowest = state, cost
    return seeds


def solve_layered(samples: Samples, seed: Seed, focal: float) -> Seed:
    """A solution of the same frames from a camera that turns, with each point as near as it departs from that.

    Args:
        samples: Of the whole video.
        seed: Whose frames are taken.
        focal: Of the start, in pixels.
    """
    part = samples.subset(seed.frames)
    turned, residual = rotations_only(part, focal, focal_too=True)
    stride = np.abs(part.sources - part.sinks)[:, None]
    speed, weight = np.zeros((2, *part.points.shape[:2]))
    np.add.at(speed, part.sources, part.weights * np.clip(residual, 0.0, None) / stride)
    np.add.at(weight, part.sources, part.weights)
    speed = speed / np.maximum(weight, 1e-6)
    unit = max(float(np.quantile(speed, 0.9)), 1e-3)
    start = replace(turned, inverse_depth=np.clip(speed / unit, *INVERSE_DEPTH_RANGE))
    state, _ = _solve_directions(part, start, unit / turned.focal, Terms(near=True))
    return Seed(seed.frames, state, seed.gain)


def solve_rest(samples: Samples, seed: Seed, world: Float[np.ndarray, "M K"]) -> Seed:
    """A solution of the same frames for the flow that does not belong to the world of the seed."""
    part = samples.subset(seed.frames)
    part = replace(part, weights=part.weights * (1.0 - world)[part.sources])
    return Seed(seed.frames, _solve_window(part, samples.focal_prior)[0], seed.gain)


def _solve_window(samples: Samples, focal: float) -> tuple[State, float, float]:
    """The best solution from six directions of motion, its robust cost, and the cost of a pure rotation."""
    n, k = samples.points.shape[:2]
    turned, residual = rotations_only(samples, focal)
    turning_cost = Solver(samples, samples.towards_border()).cost(residual, _judge(samples))
    seen = samples.weights > 0.2
    parallax = float(np.median(residual[seen])) if seen.any() else 0.0
    speed = 3 * max(parallax, 0.5) / turned.focal / n
    state, cost = _solve_directions(samples, replace(turned, inverse_depth=np.ones((n, k))), speed)
    return (state, cost, turning_cost) if np.isfinite(cost) else (turned, cost, turning_cost)


def _judge(samples: Samples) -> Robust:
    return Robust(np.full(len(samples.sources), 1.0, dtype=np.float32))


def _solve_directions(samples: Samples, turned: State, speed: float, terms: Terms | None = None) -> tuple[State, float]:
    """The best solution from six directions of motion, by so much a frame, and its robust cost."""
    solver, judge = Solver(samples, samples.towards_border()), _judge(samples)
    best, best_cost = turned, np.inf
    for direction in np.concatenate([np.eye(3), -np.eye(3)]):
        w2c = turned.w2c.copy()
        along = speed * np.arange(len(w2c))[:, None] * direction
        w2c[:, :3, 3] = -np.einsum("nij,nj->ni", w2c[:, :3, :3], along)
        schedule = ((10.0, 20.0, 3), (6.0, 8.0, 3), (4.0, 3.0, 4), (3.0, 1.5, 6))
        state, residual, _ = anneal(solver, replace(turned, w2c=w2c), schedule, terms)
        cost = solver.cost(residual, judge)
        if cost < best_cost:
            best, best_cost = state, cost
    return best, best_cost


def anneal(
    solver: Solver, state: State, schedule: tuple[tuple[float, float, int], ...], terms: Terms | None = None
) -> tuple[State, Float[np.ndarray, "E K"], Robust]:
    """Optimise at falling robust scales.

    Args:
        solver: Of the samples.
        state: Where to begin.
        schedule: Multiple of the noise, floor in pixels and iterations of each stage, one at least.
        terms: What is solved for; None = the usual.

    Returns:
        The state, its residuals in pixels, and the scales of the last stage.
    """
    terms, robust = terms or Terms(), None
    residual = solver.residuals(state)
    for multiple, floor, iterations in schedule:
        robust = solver.robust_scale(residual, multiple, floor)
        state, residual, _ = solver.optimise(state, robust, terms, iterations)
    assert robust is not None
    return state, residual, robust


def add_frames(state: State, known: Int[np.ndarray, " M"], wanted: Int[np.ndarray, " L"], turned: State) -> State:
    """A state of the wanted frames: a new one takes the place and depth of the nearest known one, turned as it should.

    Args:
        state: Of the known frames.
        known: Frames that are solved, ascending.
        wanted: All frames of the new state, ascending, the known ones included.
        turned: Fit of a camera that only turns to all frames.
    """
    nearest = np.abs(known[None, :] - wanted[:, None]).argmin(axis=1)
    turn = turned.w2c[wanted] @ geo.invert_rigid(turned.w2c[known[nearest]])
    optics = None if state.optics is None else state.optics.of(nearest)
    if optics is not None and turned.optics is not None:
        optics = replace(optics, zoom=optics.zoom + turned.optics.zoom[wanted] - turned.optics.zoom[known[nearest]])
    return State(turn @ state.w2c[nearest], state.inverse_depth[nearest].copy(), state.focal, optics=optics)


def growth(known: Int[np.ndarray, " M"], num_frames: int) -> Iterator[Int[np.ndarray, " L"]]:
    """The frames of each step from a solved few to all: those in between come first, then outwards both ways."""
    step = int(known[1] - known[0]) if len(known) > 1 else 1
    between = np.arange(known[0], known[-1] + 1)
    while step > 1:
        step //= 2
        known = between[::step]
        yield known
    while len(known) < num_frames:
        chunk = int(np.clip(len(known) // 4, 2, 6))
        known = np.arange(max(0, known[0] - chunk), min(num_frames, known[-1] + 1 + chunk))
        yield known


def grow(samples: Samples, seed: Seed, turned: State) -> State:
    """Add the missing frames to a solved few, those in between first, then outwards both ways.

    Args:
        samples: Of the whole video.
        seed: The frames that are solved.
        turned: Fit of a camera that only turns to all frames.

    Returns:
        State of all frames, frame 0 the gauge.
    """
    state, known = seed.state, seed.frames
    for wanted in growth(known, samples.num_frames):
        state, known = _extend(samples, state, known, wanted, turned)
    return normalise_scale(state)


def _extend(
    samples: Samples,
    state: State,
    known: Int[np.ndarray, " M"],
    wanted: Int[np.ndarray, " L"],
    turned: State,
) -> tuple[State, Int[np.ndarray, " L"]]:
    """Place the new frames against the known ones, then adjust all."""
    part = samples.subset(wanted)
    state = add_frames(state, known, wanted, turned)
    solver = Solver(part, part.towards_border())
    held = np.isin(wanted, known)
    state, _, _ = anneal(solver, state, ((10.0, 20.0, 4), (5.0, 6.0, 4)), Terms(held=held, focal=False))
    state, _, _ = anneal(solver, state, ((4.0, 3.0, 4), (3.0, 1.5, 4)))
    return state, wanted
