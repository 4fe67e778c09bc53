"""The compiled loops of ``flow_kernels`` over a run of frames each, so that a thread meets Python's lock once a run.

Frames ``first`` to ``last`` (exclusive) of N are one thread's share. What belongs to edges lies in the order of the
edges, those of frame i from ``starts[i]`` to ``starts[i + 1]``; what has another size for each frame lies one after the
other (see ``equations.Layout``). Sums are those of one frame, in the order they always had: how frames are shared out
changes no bit of a result.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from numba import njit

from das3r_ns.frontend.geometric.bundle.derivative_kernels import MIN_Z
from das3r_ns.frontend.geometric.bundle.flow_kernels import eliminate_depth, fill_normal_equations, residuals

ONE = np.float32(1.0)
NONE = np.float32(0.0)


@njit(cache=True, nogil=True, fastmath=False, error_model="numpy")
def fill_residuals(
    first: int,
    last: int,
    starts: Int[np.ndarray, " N+1"],
    points: Float[np.ndarray, "N K 2"],
    inverse_depth: Float[np.ndarray, "N K"],
    targets: Float[np.ndarray, "E K 2"],
    relative: Float[np.ndarray, "E 3 4"],
    focal: float,
    centre: Float[np.ndarray, " 2"],
    magnification: Float[np.ndarray, " E"],
    out: Float[np.ndarray, "E K"],
) -> None:
    """Residuals in pixels of the targets (see ``flow_kernels.residuals``), each times the magnification of its edge."""
    for i in range(first, last):
        a, b = starts[i], starts[i + 1]
        out[a:b] = residuals(points[i], inverse_depth[i], targets[a:b], relative[a:b], focal, centre)
        for e in range(a, b):
            for k in range(out.shape[1]):
                if out[e, k] >= 0:
                    out[e, k] *= magnification[e]


@njit(cache=True, nogil=True, fastmath=False, error_model="numpy")
def fill_losses(
    first: int,
    last: int,
    residual: Float[np.ndarray, "E K"],
    scale: Float[np.ndarray, " E"],
    weights: Float[np.ndarray, "E K"],
    out: Float[np.ndarray, "E K"],
) -> None:
    """Weighted losses of edges ``first`` to ``last``, all float32; see ``state.Robust.cost``."""
    for e in range(first, last):
        square = scale[e] * scale[e]
        for k in range(residual.shape[1]):
            r = residual[e, k]
            loss = r * r / (square + r * r) if r >= 0 else ONE
            out[e, k] = weights[e, k] * loss


@njit(cache=True, nogil=True, fastmath=False, error_model="numpy")
def robust_weights(
    residual: Float[np.ndarray, "M K"],
    scale: Float[np.ndarray, " M"],
    magnification: Float[np.ndarray, " M"],
    weights: Float[np.ndarray, "M K"],
) -> Float[np.ndarray, "M K"]:
    """Weights in 1 / px^2 of the source's pinhole, all float32; see ``state.Robust.weights``."""
    out = np.empty(residual.shape, dtype=np.float32)
    for e in range(residual.shape[0]):
        square = scale[e] * scale[e]
        growth = magnification[e] * magnification[e]
        for k in range(residual.shape[1]):
            r = residual[e, k]
            close = ONE + r * r / square
            weight = ONE / (square * (close * close)) if r >= 0 else NONE
            out[e, k] = weights[e, k] * weight * growth
    return out


@njit(cache=True, nogil=True, fastmath=False, error_model="numpy")
def fill_equations(
    first: int,
    last: int,
    starts: Int[np.ndarray, " N+1"],
    rows: Int[np.ndarray, " N+1"],
    squares: Int[np.ndarray, " N+1"],
    points: Float[np.ndarray, "N K 2"],
    inverse_depth: Float[np.ndarray, "N K"],
    targets: Float[np.ndarray, "E K 2"],
    weights: Float[np.ndarray, "E K"],
    residual: Float[np.ndarray, "E K"],
    scale: Float[np.ndarray, " E"],
    magnification: Float[np.ndarray, " E"],
    relative: Float[np.ndarray, "E 3 4"],
    adjoint: Float[np.ndarray, "E 6 6"],
    focal: float,
    centre: Float[np.ndarray, " 2"],
    point_slopes: Float[np.ndarray, "N K 2 P"],
    target_slopes: Float[np.ndarray, "E K 2 P"],
    hessian: Float[np.ndarray, " S"],
    gradient: Float[np.ndarray, " R"],
    cross: Float[np.ndarray, "R K"],
    depth_hessian: Float[np.ndarray, "N K"],
    depth_gradient: Float[np.ndarray, "N K"],
) -> None:
    """Normal equations of each frame under robust weights; see ``flow_kernels.normal_equations``."""
    for i in range(first, last):
        a, b, r, q = starts[i], starts[i + 1], rows[i], rows[i + 1]
        size = q - r
        fill_normal_equations(
            points[i],
            inverse_depth[i],
            targets[a:b],
            robust_weights(residual[a:b], scale[a:b], magnification[a:b], weights[a:b]),
            relative[a:b],
            adjoint[a:b],
            focal,
            centre,
            point_slopes[i],
            target_slopes[a:b],
            hessian[squares[i] : squares[i + 1]].reshape(size, size),
            gradient[r:q],
            cross[r:q],
            depth_hessian[i],
            depth_gradient[i],
        )


@njit(cache=True, nogil=True, fastmath=False, error_model="numpy")
def fill_depth_equations(
    first: int,
    last: int,
    starts: Int[np.ndarray, " N+1"],
    points: Float[np.ndarray, "N K 2"],
    inverse_depth: Float[np.ndarray, "N K"],
    targets: Float[np.ndarray, "E K 2"],
    weights: Float[np.ndarray, "E K"],
    residual: Float[np.ndarray, "E K"],
    scale: Float[np.ndarray, " E"],
    magnification: Float[np.ndarray, " E"],
    relative: Float[np.ndarray, "E 3 4"],
    focal: float,
    centre: Float[np.ndarray, " 2"],
    depth_hessian: Float[np.ndarray, "N K"],
    depth_gradient: Float[np.ndarray, "N K"],
) -> None:
    """What :func:`fill_equations` says of the inverse depths alone: all that is asked where no camera moves."""
    depth_hessian[first:last] = 0.0
    depth_gradient[first:last] = 0.0
    for i in range(first, last):
        a, b = starts[i], starts[i + 1]
        believed = robust_weights(residual[a:b], scale[a:b], magnification[a:b], weights[a:b])
        for e in range(a, b):
            pose = relative[e]
            for k in range(points.shape[1]):
                w = believed[e - a, k]
                if w <= 0.0:
                    continue
                x = (points[i, k, 0] - centre[0]) / focal
                y = (points[i, k, 1] - centre[1]) / focal
                d = inverse_depth[i, k]
                qz = pose[2, 0] * x + pose[2, 1] * y + pose[2, 2] + pose[2, 3] * d
                if qz < MIN_Z:
                    continue
                iz = 1.0 / qz
                px = (pose[0, 0] * x + pose[0, 1] * y + pose[0, 2] + pose[0, 3] * d) * iz
                py = (pose[1, 0] * x + pose[1, 1] * y + pose[1, 2] + pose[1, 3] * d) * iz
                g = focal * iz
                du = g * (pose[0, 3] - px * pose[2, 3])
                dv = g * (pose[1, 3] - py * pose[2, 3])
                ru = focal * px + centre[0] - targets[e, k, 0]
                rv = focal * py + centre[1] - targets[e, k, 1]
                depth_hessian[i, k] += w * (du * du + dv * dv)
                depth_gradient[i, k] += w * (du * ru + dv * rv)


@njit(cache=True, nogil=True, fastmath=False, error_model="numpy")
def _any(values: Float[np.ndarray, "L K"]) -> bool:
    """Whether one of them is not 0."""
    for row in values:
        for value in row:
            if value != 0.0:
                return True
    return False


@njit(cache=True, nogil=True, fastmath=False, error_model="numpy")
def eliminate_depths(
    first: int,
    last: int,
    rows: Int[np.ndarray, " N+1"],
    squares: Int[np.ndarray, " N+1"],
    inverse_depth: Float[np.ndarray, "N K"],
    target: Float[np.ndarray, "N K"],
    prior: float,
    low: float,
    high: float,
    hessian: Float[np.ndarray, " S"],
    gradient: Float[np.ndarray, " R"],
    cross: Float[np.ndarray, "R K"],
    depth_hessian: Float[np.ndarray, "N K"],
    depth_gradient: Float[np.ndarray, "N K"],
) -> None:
    """Put the prior on the inverse depths and take them out of each frame's equations, in place.

    An inverse depth at ``low`` or ``high`` that is pushed further is no unknown.
    """
    count = inverse_depth.shape[1]
    for i in range(first, last):
        r, q = rows[i], rows[i + 1]
        for k in range(count):
            d = inverse_depth[i, k]
            depth_hessian[i, k] += prior
            slope = depth_gradient[i, k] + prior * (d - target[i, k])
            if (d <= low) if slope > 0 else (d >= high):
                slope = 0.0
                cross[r:q, k] = 0.0
            depth_gradient[i, k] = slope
        if not _any(cross[r:q]):  # of a camera that only turns no depth says anything
            continue
        size = q - r
        block = hessian[squares[i] : squares[i + 1]].reshape(size, size)
        block[:], gradient[r:q] = eliminate_depth(block, gradient[r:q], cross[r:q], depth_hessian[i], depth_gradient[i])


@njit(cache=True, nogil=True, fastmath=False, error_model="numpy")
def add_up(
    rows: Int[np.ndarray, " N+1"],
    squares: Int[np.ndarray, " N+1"],
    index: Int[np.ndarray, " R"],
    blocks: Float[np.ndarray, " S"],
    parts: Float[np.ndarray, " R"],
    hessian: Float[np.ndarray, "U U"],
    gradient: Float[np.ndarray, " U"],
) -> None:
    """Add every frame's equations to the whole; an unknown may stand at several places of a frame's."""
    for i in range(len(rows) - 1):
        n = squares[i]
        for a in range(rows[i], rows[i + 1]):
            gradient[index[a]] += parts[a]
            for b in range(rows[i], rows[i + 1]):
                hessian[index[a], index[b]] += blocks[n]
                n += 1
