"""What of the picture is the world: how far a solution holds as one, and others where it does not hold far enough.

A mover that fills half of the picture is as good a rigid scene as the room behind it, and robust weights settle on what
has more pixels. Two things tell the world from it. It reaches the edges of the picture all round, where movers are
rare; and one camera goes by all of it, over long strides too, each point at one positive depth.

Both are in the support of a solution: the share of the flow explained to a pixel, at every stride, each flow weighted
by the log odds that a point of its place stands still. That is the gain in description length over coding the points as
independent movers (the odds are the prior, the pixel the precision); the depth that each point may choose is paid for
by the many frames it must fit. Parallax counts as soon as it is explained, so a camera that only turns gives up what
does not lie at infinity, and a mover's frame gives up what surrounds the mover.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int

from das3r_ns.frontend.geometric.bundle.derivative_kernels import MIN_Z
from das3r_ns.frontend.geometric.bundle.first_cameras import (
    Seed,
    add_frames,
    anneal,
    growth,
    rotations_only,
    solve_layered,
    solve_rest,
)
from das3r_ns.frontend.geometric.bundle.flow_samples import Samples
from das3r_ns.frontend.geometric.bundle.pose_solver import Solver
from das3r_ns.frontend.geometric.bundle.state import FINE_SMOOTHNESS, Robust, State, Terms

EDGE = 0.8
"""How far from the centre, 1 at its rim, the edge of the picture begins."""

STATIC_SHARE = (0.6, 0.9)
"""How often a point stands still where nothing is known, within the picture and at its edge."""

SUPPORTED = 0.85
"""Support with which a solution is the world without any other being tried."""

MARGIN = 0.05
"""Support by which another must exceed it: less is a matter of noise."""

TRIED = 2
"""Other starts, at most, that are followed through the video."""

LONG_LENS = 2.4
"""Focal over the longer side of the picture from which the same frames are solved again: through a long lens most is
far away, and from a wide one as a start the near ground takes the turning of the camera for its own motion."""

BELONGS = (0.25, 0.75)
"""Mean weight that flow keeps around a point, from which the point may belong to a world and surely does."""

SEEN = 0.1
"""Weight of the flow to solved frames from which depth is taken over, and whether it belongs to the world."""


def explained(samples: Samples, residual: Float[np.ndarray, "E K"]) -> Float[np.ndarray, "E K"]:
    """How far each flow is explained, 1 to 0, half at a pixel (in 1/427 of the longer side)."""
    scale = np.full(len(samples.sources), samples.error_unit, dtype=np.float32)
    return 1.0 - Robust(scale).cost(residual, slice(None))


def support(samples: Samples, residual: Float[np.ndarray, "E K"]) -> float:
    """Share of the flow that a solution explains, 0 to 1, by the log odds that a point of its place stands still.

    Args:
        samples: The flow.
        residual: Of the solution, in pixels, -1 = no projection.
    """
    offset = (np.abs(samples.points - samples.centre) / samples.centre).max(axis=-1)
    inner, edge = (np.log(p / (1.0 - p)) for p in STATIC_SHARE)
    odds = np.where(offset > EDGE, edge, inner).astype(np.float32)
    weight = samples.weights * odds[samples.sources]
    return float((weight * explained(samples, residual)).sum() / max(float(weight.sum()), 1e-6))


def support_within(samples: Samples, residual: Float[np.ndarray, "E K"], frames: Int[np.ndarray, " M"]) -> float:
    """Support of a solution of the whole video in some of its frames."""
    among = np.isin(samples.sources, frames) & np.isin(samples.sinks, frames)
    return support(samples.subset(frames), residual[among])


def belongs(samples: Samples, residual: Float[np.ndarray, "E K"]) -> Float[np.ndarray, "N K"]:
    """How surely each point belongs to the world of a solution, 0 to 1, by its flow and that of its neighbours."""
    kept, asked = np.zeros((2, *samples.points.shape[:2]), dtype=np.float32)
    np.add.at(kept, samples.sources, samples.weights * explained(samples, residual) ** 2)
    np.add.at(asked, samples.sources, samples.weights)
    shape = (samples.rows, samples.columns)
    low, high = BELONGS
    out = np.empty_like(kept)
    for i in range(samples.num_frames):
        share = cv2.blur(kept[i].reshape(shape), (3, 3)) / np.maximum(cv2.blur(asked[i].reshape(shape), (3, 3)), 1e-6)
        out[i] = share.ravel()
    return np.clip((out - low) / (high - low), 0.0, 1.0)


def within(samples: Samples, world: Float[np.ndarray, "N K"]) -> Samples:
    """The samples with the flow weighted by how surely both of its ends belong to a world."""
    weights = samples.weights * world[samples.sources] * world[samples.sinks[:, None], samples.target_cells]
    return replace(samples, weights=weights.astype(np.float32))


def other_world(samples: Samples, seeds: list[Seed], first: State) -> tuple[State, Float[np.ndarray, "N K"]] | None:
    """Another solution for the whole video, where the first explains too little and the other clearly more.

    Args:
        samples: Of the whole video.
        seeds: A few frames at several places in the video, each solved.
        first: The first solution.

    Returns:
        The solution and how surely each point belongs to its world; None where the first one stays.
    """
    residual = Solver(samples).residuals(first)
    best, found = support(samples, residual), None
    if best >= SUPPORTED:
        return None
    focal = samples.known_focal or LONG_LENS * max(samples.width, samples.height)
    starts = []
    for seed in seeds:
        part, first_there = samples.subset(seed.frames), support_within(samples, residual, seed.frames)
        if first_there >= SUPPORTED:
            continue
        world = belongs(part, Solver(part).residuals(seed.state))
        for start in (seed, solve_layered(samples, seed, focal), solve_rest(samples, seed, world)):
            reached = support(part, Solver(part).residuals(start.state))
            if reached > first_there + MARGIN:
                starts.append((reached, start))
    for _, start in sorted(starts, key=lambda pair: -pair[0])[:TRIED]:
        followed = _follow(samples, start, residual)
        if followed is None:
            continue
        reached = support(samples, Solver(samples).residuals(followed[0]))
        if reached > best + MARGIN:
            best, found = reached, followed
    return found


def _settle(
    samples: Samples, state: State, world: Float[np.ndarray, "N K"], schedule: tuple[tuple[float, float, int], ...]
) -> tuple[State, Float[np.ndarray, "N K"]]:
    """Adjust a world by what belongs to it, and see anew what does."""
    state, _, _ = anneal(Solver(within(samples, world)), state, schedule, Terms(smoothness=FINE_SMOOTHNESS, near=True))
    return state, belongs(samples, Solver(samples).residuals(state))


def _follow(
    samples: Samples, seed: Seed, rival: Float[np.ndarray, "E K"]
) -> tuple[State, Float[np.ndarray, "N K"]] | None:
    """The world of a few solved frames, carried along the flow through the video.

    Args:
        samples: Of the whole video.
        seed: The frames that are solved.
        rival: Residuals of the first solution.

    Returns:
        The solution and its world; None as soon as the first solution has more support in the frames reached.
    """
    turned, _ = rotations_only(samples, seed.state.focal, focal_too=True)
    part = samples.subset(seed.frames)
    state, known = seed.state, seed.frames
    world = belongs(part, Solver(part).residuals(state))
    for _ in range(2):
        state, world = _settle(part, state, world, ((3.0, 1.5, 8),))
    for wanted in growth(known, samples.num_frames):
        part = samples.subset(wanted)
        new = ~np.isin(wanted, known)
        nearest = np.abs(known[None, :] - wanted[:, None]).argmin(axis=1)
        state, world = add_frames(state, known, wanted, turned), np.where(new[:, None], 1.0, world[nearest])
        state, world = _place(part, state, world, new)
        state, world = _settle(part, state, world, ((4.0, 3.0, 5), (3.0, 1.5, 6)))
        known = wanted
        if support(part, Solver(part).residuals(state)) < support_within(samples, rival, known):
            return None
    return _settle(samples, state, world, ((3.0, 1.5, 8), (2.5, 1.0, 8)))


def _place(
    samples: Samples, state: State, world: Float[np.ndarray, "N K"], new: Bool[np.ndarray, " N"]
) -> tuple[State, Float[np.ndarray, "N K"]]:
    """Place new frames by the points of the others alone, then give them the depth and the world that these have."""
    asked = within(samples, world)
    weights = asked.weights * ~new[samples.sources, None]
    solver = Solver(samples, weights)
    held = Terms(held=~new, focal=False, near=True)
    state, _, _ = anneal(solver, state, ((10.0, 20.0, 5), (5.0, 6.0, 5), (3.0, 1.5, 4)), held)

    edges = np.flatnonzero(new[samples.sources] & ~new[samples.sinks])
    there = (samples.sinks[edges, None], samples.target_cells[edges])
    back = np.linalg.inv(solver.relative_poses(state)[edges])
    rays = samples.rays(samples.targets[edges], state.focal)
    depth = np.einsum("ek,eck->ec", back[:, 2, :3], rays) + back[:, 2, 3:] * state.inverse_depth[there]
    seen = samples.weights[edges]
    here = seen * world[there]

    def gathered(values: Float[np.ndarray, "M K"]) -> Float[np.ndarray, "N K"]:
        total = np.zeros(world.shape)
        np.add.at(total, samples.sources[edges], values)
        return total

    shown, shared = gathered(seen), gathered(here)
    carried = gathered(here * state.inverse_depth[there] / np.maximum(depth, MIN_Z)) / np.maximum(shared, SEEN)
    inverse_depth = np.where(new[:, None] & (shared > SEEN), carried, state.inverse_depth)
    world = np.where(new[:, None] & (shown > SEEN), shared / np.maximum(shown, SEEN), world)
    return replace(state, inverse_depth=inverse_depth), world
