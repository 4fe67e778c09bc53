"""Compiled inner loops of the bundle adjustment: residuals and normal equations of the edges of one frame.

The unknowns of frame i are its world-to-camera pose and the inverse depth d of its K points; one log focal is shared.
Points and targets lie where one pinhole shows them; where they came from other pictures (see ``optics``), P unknowns
of each frame say how. A point (u, v) of frame i with ray x = ((u - cx) / f, (v - cy) / f, 1) is seen by frame j at

    p = f * (Q_x / Q_z, Q_y / Q_z) + c,        Q = R x + t d,        [R | t] = G_j G_i^-1

which holds at infinity (d = 0) too. Poses are updated from the left, G <- exp(xi) G, so that the relative pose moves by
xi_j - Ad(T_ij) xi_i (Teed and Deng, DROID-SLAM, NeurIPS 2021, section 3; xi = translation first, then rotation).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numba import njit

MIN_Z = 0.02
"""Points that come nearer than this to the plane of the other camera (in units of their own depth) are left out."""


@njit(cache=True, nogil=True, fastmath=False, error_model="numpy")
def residuals(
    points: Float[np.ndarray, "K 2"],
    inverse_depth: Float[np.ndarray, " K"],
    targets: Float[np.ndarray, "M K 2"],
    relative: Float[np.ndarray, "M 3 4"],
    focal: float,
    centre: Float[np.ndarray, " 2"],
) -> Float[np.ndarray, "M K"]:
    """Distance in pixels between the projection of each point and where the flow says it went; -1 = no projection."""
    edges, count = targets.shape[:2]
    out = np.empty((edges, count), dtype=np.float32)
    for e in range(edges):
        pose = relative[e]
        for k in range(count):
            x = (points[k, 0] - centre[0]) / focal
            y = (points[k, 1] - centre[1]) / focal
            d = inverse_depth[k]
            qx = pose[0, 0] * x + pose[0, 1] * y + pose[0, 2] + pose[0, 3] * d
            qy = pose[1, 0] * x + pose[1, 1] * y + pose[1, 2] + pose[1, 3] * d
            qz = pose[2, 0] * x + pose[2, 1] * y + pose[2, 2] + pose[2, 3] * d
            if qz < MIN_Z:
                out[e, k] = -1.0
                continue
            rx = focal * qx / qz + centre[0] - targets[e, k, 0]
            ry = focal * qy / qz + centre[1] - targets[e, k, 1]
            out[e, k] = np.sqrt(rx * rx + ry * ry)
    return out


@njit(cache=True, nogil=True, fastmath=False, error_model="numpy")
def _add_outer(
    block: Float[np.ndarray, "C W"], weight: float, ju: Float[np.ndarray, " W"], jv: Float[np.ndarray, " W"]
) -> None:
    """Add weight (ju ju' + jv jv') to a block, on and right of its diagonal; some of what is left of it is changed too.

    Four columns at a time, all read before any is written: so the compiler makes one instruction of the four.
    """
    for a in range(block.shape[0]):
        wu = weight * ju[a]
        wv = weight * jv[a]
        for n in range(a // 4, block.shape[1] // 4):
            b = 4 * n
            s0 = block[a, b] + (wu * ju[b] + wv * jv[b])
            s1 = block[a, b + 1] + (wu * ju[b + 1] + wv * jv[b + 1])
            s2 = block[a, b + 2] + (wu * ju[b + 2] + wv * jv[b + 2])
            s3 = block[a, b + 3] + (wu * ju[b + 3] + wv * jv[b + 3])
            block[a, b] = s0
            block[a, b + 1] = s1
            block[a, b + 2] = s2
            block[a, b + 3] = s3


@njit(cache=True, nogil=True, fastmath=False, error_model="numpy")
def fill_normal_equations(
    points: Float[np.ndarray, "K 2"],
    inverse_depth: Float[np.ndarray, " K"],
    targets: Float[np.ndarray, "M K 2"],
    weights: Float[np.ndarray, "M K"],
    relative: Float[np.ndarray, "M 3 4"],
    adjoint: Float[np.ndarray, "M 6 6"],
    focal: float,
    centre: Float[np.ndarray, " 2"],
    point_slopes: Float[np.ndarray, "K 2 P"],
    target_slopes: Float[np.ndarray, "M K 2 P"],
    hessian: Float[np.ndarray, "L L"],
    gradient: Float[np.ndarray, " L"],
    cross: Float[np.ndarray, "L K"],
    depth_hessian: Float[np.ndarray, " K"],
    depth_gradient: Float[np.ndarray, " K"],
) -> None:
    """:func:`normal_equations`, written into the last five arrays whatever they hold."""
    edges, count = weights.shape
    own = point_slopes.shape[2]
    last = 6 * (edges + 1)
    hessian[:] = 0.0
    gradient[:] = 0.0
    cross[:] = 0.0
    depth_hessian[:] = 0.0
    depth_gradient[:] = 0.0
    # Columns of an edge: pose of the target, log focal, P of the source, P of the target, residual.
    columns = 7 + 2 * own
    width = 4 * (columns // 4 + 1)  # that they and the residual take, in fours
    block = np.zeros((columns, width))
    ju = np.zeros(width)
    jv = np.zeros(width)
    place = np.empty(columns, dtype=np.int64)
    for e in range(edges):
        pose = relative[e]
        block[:] = 0.0
        first = 6 * (e + 1)
        place[6] = last
        for a in range(own):
            place[7 + a] = last + 1 + a
            place[7 + own + a] = last + 1 + own * (e + 1) + a
        for k in range(count):
            w = weights[e, k]
            if w <= 0.0:
                continue
            x = (points[k, 0] - centre[0]) / focal
            y = (points[k, 1] - centre[1]) / focal
            d = inverse_depth[k]
            bx = pose[0, 0] * x + pose[0, 1] * y + pose[0, 2]
            by = pose[1, 0] * x + pose[1, 1] * y + pose[1, 2]
            bz = pose[2, 0] * x + pose[2, 1] * y + pose[2, 2]
            qz = bz + pose[2, 3] * d
            if qz < MIN_Z:
                continue
            iz = 1.0 / qz
            px = (bx + pose[0, 3] * d) * iz
            py = (by + pose[1, 3] * d) * iz
            g = focal * iz
            # d p / d Q = g [1 0 -px; 0 1 -py]; Q moves by d rho + omega x Q.
            ju[0] = g * d
            ju[1] = 0.0
            ju[2] = -g * d * px
            ju[3] = -focal * px * py
            ju[4] = focal * (1.0 + px * px)
            ju[5] = -focal * py
            jv[0] = 0.0
            jv[1] = g * d
            jv[2] = -g * d * py
            jv[3] = -focal * (1.0 + py * py)
            jv[4] = focal * px * py
            jv[5] = focal * px
            # log focal: p grows with f, while the ray closes in on the axis: x' = -(x, y, 0).
            fx = pose[0, 0] * x + pose[0, 1] * y
            fy = pose[1, 0] * x + pose[1, 1] * y
            fz = pose[2, 0] * x + pose[2, 1] * y
            ju[6] = focal * px - g * (fx - px * fz)
            jv[6] = focal * py - g * (fy - py * fz)
            for a in range(own):
                sx = iz * point_slopes[k, 0, a]
                sy = iz * point_slopes[k, 1, a]
                ju[7 + a] = (pose[0, 0] - px * pose[2, 0]) * sx + (pose[0, 1] - px * pose[2, 1]) * sy
                jv[7 + a] = (pose[1, 0] - py * pose[2, 0]) * sx + (pose[1, 1] - py * pose[2, 1]) * sy
                ju[7 + own + a] = -target_slopes[e, k, 0, a]
                jv[7 + own + a] = -target_slopes[e, k, 1, a]
            ju[columns] = focal * px + centre[0] - targets[e, k, 0]
            jv[columns] = focal * py + centre[1] - targets[e, k, 1]
            if own > 0:  # residuals count in pixels of the target, which grow with its zoom, the first of its unknowns
                ju[7 + own] += ju[columns]
                jv[7 + own] += jv[columns]
            du = g * (pose[0, 3] - px * pose[2, 3])
            dv = g * (pose[1, 3] - py * pose[2, 3])
            _add_outer(block, w, ju, jv)
            for a in range(6):
                cross[first + a, k] = w * (ju[a] * du + jv[a] * dv)
            for a in range(6, columns):
                cross[place[a], k] += w * (ju[a] * du + jv[a] * dv)
            depth_hessian[k] += w * (du * du + dv * dv)
            depth_gradient[k] += w * (du * ju[columns] + dv * jv[columns])
        for a in range(columns):
            for b in range(a):
                block[a, b] = block[b, a]
        h = np.ascontiguousarray(block[:6, :6])
        adj = adjoint[e]
        adj_t = np.ascontiguousarray(adj.T)
        h_source = adj_t @ h
        hessian[:6, :6] += h_source @ adj
        hessian[:6, first : first + 6] -= h_source
        hessian[first : first + 6, :6] -= h_source.T
        hessian[first : first + 6, first : first + 6] += h
        for a in range(6):
            for b in range(6):
                for k in range(count):
                    cross[a, k] -= adj[b, a] * cross[first + b, k]
            for c in range(6, columns):
                source = 0.0
                for b in range(6):
                    source -= adj[b, a] * block[b, c]
                hessian[a, place[c]] += source
                hessian[place[c], a] += source
                hessian[first + a, place[c]] += block[a, c]
                hessian[place[c], first + a] += block[a, c]
            for b in range(6):
                gradient[a] -= adj[b, a] * block[b, columns]
            gradient[first + a] += block[a, columns]
        for a in range(6, columns):
            for b in range(6, columns):
                hessian[place[a], place[b]] += block[a, b]
            gradient[place[a]] += block[a, columns]


@njit(cache=True, nogil=True, fastmath=False, error_model="numpy")
def normal_equations(
    points: Float[np.ndarray, "K 2"],
    inverse_depth: Float[np.ndarray, " K"],
    targets: Float[np.ndarray, "M K 2"],
    weights: Float[np.ndarray, "M K"],
    relative: Float[np.ndarray, "M 3 4"],
    adjoint: Float[np.ndarray, "M 6 6"],
    focal: float,
    centre: Float[np.ndarray, " 2"],
    point_slopes: Float[np.ndarray, "K 2 P"],
    target_slopes: Float[np.ndarray, "M K 2 P"],
) -> tuple[
    Float[np.ndarray, "L L"],
    Float[np.ndarray, " L"],
    Float[np.ndarray, "L K"],
    Float[np.ndarray, " K"],
    Float[np.ndarray, " K"],
]:
    """Gauss-Newton blocks of the M edges that leave one frame, L = (6 + P) (M + 1) + 1.

    Args:
        points: Image coordinates in the source frame.
        inverse_depth: Inverse depth of each point.
        targets: Where the flow takes each point, per edge.
        weights: Weight of each residual in 1 / px^2, 0 = ignore.
        relative: Relative poses T_ij of the edges.
        adjoint: Ad(T_ij) of the edges.
        focal: Focal in pixels.
        centre: Principal point.
        point_slopes: Derivative of each point for the P unknowns of the source frame.
        target_slopes: Derivative of each target for the P unknowns of its frame.

    Returns:
        hessian: Of the unknowns [source pose 6 | target poses 6 M | log focal | source P | targets P M].
        gradient: J' w r of the same unknowns.
        cross: J' w J between those unknowns and each inverse depth.
        depth_hessian: J' w J of each inverse depth.
        depth_gradient: J' w r of each inverse depth.
    """
    edges, count = weights.shape
    size = (6 + point_slopes.shape[2]) * (edges + 1) + 1
    hessian = np.empty((size, size))
    gradient = np.empty(size)
    cross = np.empty((size, count))
    depth_hessian = np.empty(count)
    depth_gradient = np.empty(count)
    fill_normal_equations(
        points,
        inverse_depth,
        targets,
        weights,
        relative,
        adjoint,
        focal,
        centre,
        point_slopes,
        target_slopes,
        hessian,
        gradient,
        cross,
        depth_hessian,
        depth_gradient,
    )
    return hessian, gradient, cross, depth_hessian, depth_gradient


@njit(cache=True, nogil=True, fastmath=False, error_model="numpy")
def eliminate_depth(
    hessian: Float[np.ndarray, "L L"],
    gradient: Float[np.ndarray, " L"],
    cross: Float[np.ndarray, "L K"],
    depth_hessian: Float[np.ndarray, " K"],
    depth_gradient: Float[np.ndarray, " K"],
) -> tuple[Float[np.ndarray, "L L"], Float[np.ndarray, " L"]]:
    """Schur complement: the system left for poses and focal once every inverse depth is solved for."""
    scaled = cross / depth_hessian
    return hessian - scaled @ cross.T, gradient - scaled @ depth_gradient
