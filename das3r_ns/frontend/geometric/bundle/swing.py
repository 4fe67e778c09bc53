"""How fast each camera turns while a frame is read, by the bend of that very frame.

The path through the poses (see ``rolling``) misses jolts, and guesses at either end of the video. The rows of a frame
show it: what a turn that is too slow leaves of their bend is odd in the distance from the middle row, which no pose is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from das3r_ns.frontend.geometric.bundle.flow_samples import CORRELATED
from das3r_ns.frontend.geometric.bundle.pose_solver import Solver
from das3r_ns.frontend.geometric.bundle.state import Robust, State, Terms

SHARE = 0.1
"""Width of the prior on the swing, as a share of how fast cameras of the video turn."""

SHARE_AT_ENDS = 0.5
"""The same for the first and the last frame, beyond which nothing holds the path."""

ROUNDS, STEPS = 4, 4
"""How often the swing is found anew, and steps of all else after each."""


def settle_swing(solver: Solver, state: State, robust: Robust, terms: Terms) -> tuple[State, Float[np.ndarray, "E K"]]:
    """The solution with a swing for every frame, and its residuals; as it was where that explains no more.

    Args:
        solver: Of a video whose shutter rolls.
        state: Solution without.
        robust: Scale of the weights, which stays.
        terms: As of ``optimise``.
    """
    residual = solver.residuals(state)
    cost = solver.cost(residual, robust)
    for _ in range(ROUNDS):
        trial = _with_swing(solver, state, residual, robust)
        trial, trial_residual, trial_cost = solver.optimise(trial, robust, terms, STEPS)
        if trial_cost > cost:
            break
        state, residual, cost = trial, trial_residual, trial_cost
    return state, residual


def _with_swing(solver: Solver, state: State, residual: Float[np.ndarray, "E K"], robust: Robust) -> State:
    """The swing that explains what is left, all else held: three unknowns a frame, by its flow from other frames."""
    samples, optics = solver.samples, state.optics
    assert optics is not None
    offset, seen = solver.offsets(state), solver.seen(state)
    weights = solver.weights * robust.weights(residual, slice(None))
    x, y = np.moveaxis((seen.targets - seen.centre) / state.focal, -1, 0)
    # A point of the picture moves so under a turn about each axis; the target moves with it, its residual against it.
    by_turn = state.focal * np.stack(
        [np.stack([-x * y, 1 + x * x, -y], axis=-1), np.stack([-(1 + y * y), x * y, x], axis=-1)], axis=-2
    )
    moment = optics.readout * (samples.targets[..., 1] / samples.height - 0.5)
    slope = -moment[..., None, None] * by_turn
    count = samples.num_frames
    hessian, gradient = np.zeros((count, 3, 3)), np.zeros((count, 3))
    np.add.at(hessian, samples.sinks, np.einsum("ek,ekca,ekcb->eab", weights, slope, slope))
    np.add.at(gradient, samples.sinks, np.einsum("ek,ekca,ekc->ea", weights, slope, offset))
    swing = np.zeros((count, 3)) if optics.swing is None else optics.swing
    fast = float(np.sqrt((solver.row_motion(state)[:, 0, 3:] ** 2).sum(axis=-1).mean())) + 1e-6
    width = np.full(count, SHARE * fast)
    width[[0, -1]] = SHARE_AT_ENDS * fast
    prior = CORRELATED / width**2
    hessian += prior[:, None, None] * np.eye(3)
    gradient += prior[:, None] * swing
    step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
    return replace(state, optics=replace(optics, swing=swing - step))
