"""How well the flow determines a solution of the bundle adjustment."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from das3r_ns.frontend.geometric.bundle.equations import Equations
from das3r_ns.frontend.geometric.bundle.optics import SHARED
from das3r_ns.frontend.geometric.bundle.pose_solver import Solver
from das3r_ns.frontend.geometric.bundle.state import Robust, State, Terms
from das3r_ns.frontend.geometric.bundle.steps import solve_positive


def information_of(solver: Solver, state: State, robust: Robust) -> tuple[Float[np.ndarray, "N K"], float]:
    """Information on every inverse depth (poses held), and the standard error of log focal without its prior.

    The standard error of a known focal is 0.
    """
    terms = Terms(smoothness=0.0)
    equations, _, _ = solver.linearise(state, solver.residuals(state), robust, terms)
    depth_information = equations.depth_hessian
    if solver.samples.known_focal is not None:
        return depth_information, 0.0
    direction = np.zeros(len(solver.free(state, terms)))
    direction[solver.focal_place] = 1.0
    if state.optics is not None:  # the mean zoom and the focal are one
        direction[solver.focal_place + 1 : -SHARED] = 1.0 / solver.samples.num_frames
    return depth_information, _error(solver, equations, state, replace(terms, focal_prior=False), direction)


def optics_error(solver: Solver, state: State, robust: Robust, direction: Float[np.ndarray, " O"]) -> float:
    """Standard error of a sum of the unknowns of the optics, each times its part of the direction."""
    terms = Terms(smoothness=0.0)
    equations, _, _ = solver.linearise(state, solver.residuals(state), robust, terms)
    return _error(solver, equations, state, terms, np.concatenate([np.zeros(solver.focal_place + 1), direction]))


def _error(
    solver: Solver, equations: Equations, state: State, terms: Terms, direction: Float[np.ndarray, " L"]
) -> float:
    hessian, _ = solver.reduced_system(equations, state, terms)
    free = solver.free(state, terms)
    h, along = hessian[np.ix_(free, free)], direction[free]
    h += np.eye(len(h)) * (1e-9 * np.diag(h).max() + 1e-12)
    variance = float(along @ solve_positive(h, along)) * solver.samples.correlated
    return float(np.sqrt(np.clip(variance, 0.0, 1e6)))
