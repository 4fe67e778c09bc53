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

from das3r_ns.frontend.geometric.bundle.derivative_kernels import (
    BLOCK,
    FAST,
    MIN_Z,
    U,
    V,
    derivatives,
    optics_derivatives,
    products,
    with_depth,
)


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


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _take_away(cross, to, first, factors, count):
    """Take six rows, the one times the first factor and so on, away from another."""
    n = np.uintp(count)
    a, b, c, d, e, f = factors[0], factors[1], factors[2], factors[3], factors[4], factors[5]
    for k in range(count):
        i = first + np.uintp(k)
        left = a * cross[i] + b * cross[i + n] + c * cross[i + n + n]
        right = d * cross[i + np.uintp(3) * n] + e * cross[i + np.uintp(4) * n] + f * cross[i + np.uintp(5) * n]
        cross[to + np.uintp(k)] -= left + right


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
    block = np.empty((columns + 1, columns + 1))
    place = np.empty(columns, dtype=np.int64)
    # Where their derivatives lie: those of the optics after all others, the residual after the inverse depth.
    rows = np.empty((columns + 1, 2), dtype=np.int64)
    for a in range(columns + 1):
        row = a if a < 7 else 8
        rows[a] = BLOCK * (U + row), BLOCK * (V + row)
        if 7 <= a < columns:
            rows[a] = BLOCK * (V + 9 + 2 * (a - 7)), BLOCK * (V + 10 + 2 * (a - 7))
    work = np.zeros(BLOCK * (V + 9 + 4 * own))
    flat_points, flat_cross, n = points.reshape(-1), cross.reshape(-1), np.uintp(count)
    place[6] = last
    for e in range(edges):
        pose, block[:] = relative[e], 0.0
        first = 6 * (e + 1)
        for a in range(6):
            place[a] = first + a
        for a in range(own):
            place[7 + a] = last + 1 + a
            place[7 + own + a] = last + 1 + own * (e + 1) + a
        aims = targets[e].reshape(-1)
        for start in range(0, count, BLOCK):
            here, points_here = np.uintp(start), min(BLOCK, count - start)
            derivatives(flat_points, inverse_depth, aims, weights[e], start, pose, focal, centre[0], centre[1], work)
            if own > 0:
                optics_derivatives(point_slopes, target_slopes[e], start, pose, rows, work)
            for a in range(columns + 1):
                u, v = np.uintp(rows[a, 0]), np.uintp(rows[a, 1])
                for b in range(a, columns + 1, 4):
                    c, d, f = min(b + 1, columns), min(b + 2, columns), min(b + 3, columns)
                    bu, bv, cu, cv = rows[b, 0], rows[b, 1], rows[c, 0], rows[c, 1]
                    du, dv, fu, fv = rows[d, 0], rows[d, 1], rows[f, 0], rows[f, 1]
                    one, two, three, four = products(
                        work,
                        u,
                        v,
                        np.uintp(bu),
                        np.uintp(bv),
                        np.uintp(cu),
                        np.uintp(cv),
                        np.uintp(du),
                        np.uintp(dv),
                        np.uintp(fu),
                        np.uintp(fv),
                        points_here,
                    )
                    block[a, b] += one
                    if b + 1 <= columns:
                        block[a, c] += two
                    if b + 2 <= columns:
                        block[a, d] += three
                    if b + 3 <= columns:
                        block[a, f] += four
                if a < columns:
                    with_depth(work, u, v, flat_cross, np.uintp(place[a]) * n + here, points_here, a < 6)
                else:
                    with_depth(work, u, v, depth_gradient, here, points_here, False)
            with_depth(
                work, np.uintp((U + 7) * BLOCK), np.uintp((V + 7) * BLOCK), depth_hessian, here, points_here, False
            )
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
            _take_away(flat_cross, np.uintp(a) * n, np.uintp(first) * n, adj[:, a], count)
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
