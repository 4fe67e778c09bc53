"""Inverse depth where every camera is known: nothing is left to find but the depth of the grid's points."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import Bool, Float

from das3r_ns.frontend.geometric.bundle.flow_samples import Samples
from das3r_ns.frontend.geometric.bundle.pose_solver import Solver
from das3r_ns.frontend.geometric.bundle.state import Robust, State, Terms, normalise_scale
from das3r_ns.scene import geometry as geo

SWEEP = (0.2, 0.5, 48)
"""Parallax in pixels of the first inverse depth tried, that of the last over the longer side, and how many there are,
evenly spaced in their logarithm."""

SWEEP_SCALE = 3.0
"""Robust scale of the sweep, in pixels: about the step between two planes at a parallax of 20."""

SAME_PLACE = 1e-9
"""Cameras nearer than this to each other, against their distance from the origin, are at one place."""


def lenses(intrinsics: Float[np.ndarray, "N 3 3"], pinhole: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "N 4 4"]:
    """K^-1 K_i of every frame, as 4 x 4 matrices that act on camera coordinates (see ``State.lens``).

    Args:
        intrinsics: Pinhole matrix K_i of every frame.
        pinhole: K, the one camera matrix that the kernels know.
    """
    out = np.tile(np.eye(4), (len(intrinsics), 1, 1))
    out[:, :3, :3] = np.linalg.inv(pinhole) @ intrinsics
    return out


def at_one_place(c2w: Float[np.ndarray, "N 4 4"]) -> bool:
    """Whether the cameras only turn, so that no depth can be measured."""
    centres = c2w[:, :3, 3]
    spread = float(np.abs(centres - centres[0]).max())
    return spread <= SAME_PLACE * float(np.abs(centres).max())


def start_depth(samples: Samples, state: State) -> State:
    """The best of many planes for every point, before the first step.

    The robust costs of a plane are averaged over 3 x 3 points, as in plane-sweep stereo (Collins, CVPR 1996).

    Args:
        samples: The flow.
        state: The known cameras; its inverse depths do not matter.

    Returns:
        The state in units where the median inverse depth is 1.
    """
    s = samples
    solver = Solver(s)
    centres = geo.invert_rigid(state.w2c)[:, :3, 3]
    baseline = float(np.median(np.linalg.norm(centres[s.sinks] - centres[s.sources], axis=1)))
    baseline = baseline or float(np.linalg.norm(centres - centres[0], axis=1).max())
    unit = 1.0 / (state.focal * baseline)
    long_side = max(s.width, s.height)
    robust = Robust(np.full(len(s.sources), SWEEP_SCALE * s.error_unit, dtype=np.float32))
    best = np.full(s.points.shape[:2], np.inf)
    inverse_depth = np.ones(s.points.shape[:2])
    for parallax in np.geomspace(SWEEP[0], SWEEP[1] * long_side, SWEEP[2]):
        plane = np.full_like(inverse_depth, parallax * unit)
        loss = solver.weights * robust.cost(solver.residuals(replace(state, inverse_depth=plane)), slice(None))
        total = np.stack([loss[solver.edges[i]].sum(axis=0) for i in range(s.num_frames)])
        cost = np.stack([cv2.blur(one.reshape(s.rows, s.columns), (3, 3)).ravel() for one in total])
        better = cost < best
        best[better], inverse_depth[better] = cost[better], plane[better]
    return normalise_scale(replace(state, inverse_depth=inverse_depth))


def all_held(samples: Samples, smoothness: float) -> Terms:
    """Terms under which only inverse depths move."""
    held: Bool[np.ndarray, " N"] = np.ones(samples.num_frames, dtype=bool)
    return Terms(focal=False, held=held, smoothness=smoothness)
