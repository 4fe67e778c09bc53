"""Derivatives of the residuals of one edge, block by block, and their products; see ``flow_kernels``."""

from __future__ import annotations

import numpy as np
from numba import njit

FAST = {"nnan", "ninf", "nsz", "reassoc", "contract", "arcp"}
"""Fast arithmetic but for functions."""

BLOCK = 64
"""Points that are seen to together."""

U, V = 4, 13
"""See :func:`derivatives`."""

MIN_Z = 0.02
"""Points that come nearer than this to the plane of the other camera (in units of their own depth) are left out."""


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def derivatives(points, inverse_depth, targets, weights, first, pose, focal, cx, cy, work):
    """Derivatives of the residuals of one edge, each times the root of its weight; 0 for those that do not count.

    Of a block of points side by side, so that the compiler makes vector instructions of it.

    Args:
        points: Image coordinates, flat; as all that follows, see ``flow_kernels.normal_equations``.
        inverse_depth: Of each point.
        targets: Of the edge, flat.
        weights: Of the residuals of the edge.
        first: The first point of the block.
        pose: Relative pose.
        focal: In pixels.
        cx: Principal point.
        cy: Likewise.
        work: To be filled, flat: rows of BLOCK numbers each. At 0 the root of the weight, px, py and 1 / z of the
            points; at U the derivatives of u for the pose (6), log focal and inverse depth, then the residual; at V the
            same of v. What is always 0 must be so before.
    """
    r00, r01, r02, t0 = pose[0, 0], pose[0, 1], pose[0, 2], pose[0, 3]
    r10, r11, r12, t1 = pose[1, 0], pose[1, 1], pose[1, 2], pose[1, 3]
    r20, r21, r22, t2 = pose[2, 0], pose[2, 1], pose[2, 2], pose[2, 3]
    for k in range(min(BLOCK, len(inverse_depth) - first)):
        i = np.uintp(first + k)
        x = (points[i + i] - cx) / focal
        y = (points[i + i + np.uintp(1)] - cy) / focal
        d = inverse_depth[i]
        fx, fy, fz = r00 * x + r01 * y, r10 * x + r11 * y, r20 * x + r21 * y
        qz = fz + r22 + t2 * d
        w = weights[i]
        counts = (w > 0.0) & (qz >= MIN_Z)
        iz = 1.0 / (qz if counts else 1.0)
        s = np.sqrt(w if counts else 0.0)
        px = (fx + r02 + t0 * d) * iz
        py = (fy + r12 + t1 * d) * iz
        f = s * focal
        g = f * iz
        at = np.uintp(k)
        work[at] = s
        work[at + np.uintp(BLOCK)] = px
        work[at + np.uintp(2 * BLOCK)] = py
        work[at + np.uintp(3 * BLOCK)] = iz
        # d p / d Q = g [1 0 -px; 0 1 -py]; Q moves by d rho + omega x Q.
        work[at + np.uintp(U * BLOCK)] = g * d
        work[at + np.uintp((U + 2) * BLOCK)] = -g * d * px
        work[at + np.uintp((U + 3) * BLOCK)] = -f * px * py
        work[at + np.uintp((U + 4) * BLOCK)] = f * (1.0 + px * px)
        work[at + np.uintp((U + 5) * BLOCK)] = -f * py
        work[at + np.uintp((V + 1) * BLOCK)] = g * d
        work[at + np.uintp((V + 2) * BLOCK)] = -g * d * py
        work[at + np.uintp((V + 3) * BLOCK)] = -f * (1.0 + py * py)
        work[at + np.uintp((V + 4) * BLOCK)] = f * px * py
        work[at + np.uintp((V + 5) * BLOCK)] = f * px
        # log focal: p grows with f, while the ray closes in on the axis: x' = -(x, y, 0).
        work[at + np.uintp((U + 6) * BLOCK)] = f * px - g * (fx - px * fz)
        work[at + np.uintp((V + 6) * BLOCK)] = f * py - g * (fy - py * fz)
        work[at + np.uintp((U + 7) * BLOCK)] = g * (t0 - px * t2)
        work[at + np.uintp((V + 7) * BLOCK)] = g * (t1 - py * t2)
        work[at + np.uintp((U + 8) * BLOCK)] = f * px + s * (cx - targets[i + i])
        work[at + np.uintp((V + 8) * BLOCK)] = f * py + s * (cy - targets[i + i + np.uintp(1)])


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def optics_derivatives(point_slopes, target_slopes, first, pose, rows, work):
    """The same for the P unknowns of the optics of the source and the P of the target.

    Args:
        point_slopes: See ``flow_kernels.normal_equations``.
        target_slopes: Those of the edge.
        first: The first point of the block.
        pose: Relative pose.
        rows: Where the derivatives of u and v for each column begin.
        work: See :func:`derivatives`.
    """
    own = point_slopes.shape[2]
    for a in range(own):
        (su, sv), (tu, tv) = rows[7 + a], rows[7 + own + a]
        for k in range(min(BLOCK, len(point_slopes) - first)):
            root, px, py = work[k], work[BLOCK + k], work[2 * BLOCK + k]
            scale = root * work[3 * BLOCK + k]
            sx, sy = scale * point_slopes[first + k, 0, a], scale * point_slopes[first + k, 1, a]
            work[su + k] = (pose[0, 0] - px * pose[2, 0]) * sx + (pose[0, 1] - px * pose[2, 1]) * sy
            work[sv + k] = (pose[1, 0] - py * pose[2, 0]) * sx + (pose[1, 1] - py * pose[2, 1]) * sy
            work[tu + k] = -root * target_slopes[first + k, 0, a]
            work[tv + k] = -root * target_slopes[first + k, 1, a]
            if a == 0:  # residuals count in pixels of the target, which grow with its zoom, the first of its unknowns
                work[tu + k] += work[(U + 8) * BLOCK + k]
                work[tv + k] += work[(V + 8) * BLOCK + k]


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def products(work, u, v, au, av, bu, bv, cu, cv, du, dv, count):
    """Sums over the points of a block of the products of one derivative and four others."""
    one, two, three, four = 0.0, 0.0, 0.0, 0.0
    for k in range(count):
        i = np.uintp(k)
        x, y = work[u + i], work[v + i]
        one += x * work[au + i] + y * work[av + i]
        two += x * work[bu + i] + y * work[bv + i]
        three += x * work[cu + i] + y * work[cv + i]
        four += x * work[du + i] + y * work[dv + i]
    return one, two, three, four


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def with_depth(work, u, v, out, to, count, fresh):
    """Products of one derivative and that of the inverse depth, point by point; ``fresh``: nothing is there yet."""
    keep = 0.0 if fresh else 1.0
    for k in range(count):
        i = np.uintp(k)
        at_u, at_v = work[i + np.uintp((U + 7) * BLOCK)], work[i + np.uintp((V + 7) * BLOCK)]
        out[to + i] = keep * out[to + i] + (work[u + i] * at_u + work[v + i] * at_v)
