"""Compiled inner loops over pixels: inverse depth from many flows, and agreement between frames.

The innermost loops run over pixels next to each other in a row, so that the compiler makes vector instructions of them
(see also ``stereo_kernels``): what does not hold for a pixel is a choice between two values there, not a branch.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numba import njit

SAME_START = 0.1
"""Relative difference of two inverse depths up to which one of them is as good a start as the other."""

MIN_Z = 0.02
"""As in the bundle adjustment: a point nearer than this to the other camera's plane has no projection."""

NO_WEIGHT = 1e-6
"""Sum of the weights of all flows of a pixel up to which nothing is known of it."""

BLOCK = 64
"""Pixels of a row that are solved together: what they need stays in the nearest cache."""

FAST = {"nnan", "ninf", "nsz", "reassoc", "contract", "arcp"}
"""Fast arithmetic but for functions."""

NONE = np.float32(0.0)


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _seen(ray, y):
    """What one row of the linear part of a motion makes of a pixel: a factor of x, and the rest."""
    return ray[0], ray[1] * y + ray[2]


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _refine(d, information, gradient, x, y, count, rays, offsets, focal, flow, widen, steps, low, high):
    """Gauss-Newton steps of a block of inverse depths, in place, with their information in 1 / px^2.

    Args:
        d: Inverse depths.
        information: To be filled.
        gradient: Room for another.
        x: First coordinates of the rays.
        y: The second coordinate, of them all.
        count: Pixels in the block.
        rays: See :func:`inverse_depth_from_flows`.
        offsets: Likewise.
        focal: Likewise.
        flow: Weights, squared scales and targets (u, v) from the principal point, BLOCK for each flow.
        widen: Factor of the squared scales.
        steps: Number of steps.
        low: Smallest inverse depth.
        high: Largest one.
    """
    weights, squares, us, vs = flow
    for _ in range(steps):
        information[:] = 0.0
        gradient[:] = 0.0
        for e in range(len(rays)):
            (ax, bx), (ay, by), (az, bz) = _seen(rays[e, 0], y), _seen(rays[e, 1], y), _seen(rays[e, 2], y)
            tx, ty, tz = offsets[e, 0], offsets[e, 1], offsets[e, 2]
            for k in range(count):
                i = np.uintp(e * BLOCK) + np.uintp(k)
                qz = az * x[k] + bz + tz * d[k]
                front = qz >= MIN_Z
                iz = 1.0 / (qz if front else 1.0)
                px = (ax * x[k] + bx + tx * d[k]) * iz
                py = (ay * x[k] + by + ty * d[k]) * iz
                ru, rv = focal * px - us[i], focal * py - vs[i]
                ju, jv = focal * iz * (tx - px * tz), focal * iz * (ty - py * tz)
                square = widen * squares[i]
                total = square + (ru * ru + rv * rv)
                w = weights[i] * square / (total * total)
                w = w if front else 0.0
                information[k] += w * (ju * ju + jv * jv)
                gradient[k] += w * (ju * ru + jv * rv)
        for k in range(count):
            known = information[k] > 0.0
            moved = d[k] - gradient[k] / (information[k] if known else 1.0)
            least, most = 0.5 * d[k], 2.0 * d[k]
            least = least if least > low else low
            most = most if most < high else high
            moved = moved if moved > least else least
            moved = moved if moved < most else most
            d[k] = moved if known else d[k]


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _costs(d, out, x, y, count, rays, offsets, focal, flow):
    """Sums of the Geman-McClure losses of a block of pixels at inverse depths d; see :func:`_refine`."""
    weights, squares, us, vs = flow
    out[:] = 0.0
    for e in range(len(rays)):
        (ax, bx), (ay, by), (az, bz) = _seen(rays[e, 0], y), _seen(rays[e, 1], y), _seen(rays[e, 2], y)
        tx, ty, tz = offsets[e, 0], offsets[e, 1], offsets[e, 2]
        for k in range(count):
            i = np.uintp(e * BLOCK) + np.uintp(k)
            qz = az * x[k] + bz + tz * d[k]
            front = qz >= MIN_Z
            iz = 1.0 / (qz if front else 1.0)
            ru = focal * (ax * x[k] + bx + tx * d[k]) * iz - us[i]
            rv = focal * (ay * x[k] + by + ty * d[k]) * iz - vs[i]
            square = ru * ru + rv * rv
            loss = square / (squares[i] + square)
            out[k] += weights[i] * (loss if front else 1.0)


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def inverse_depth_from_flows(
    start: Float[np.ndarray, "S H W"],
    flows: Float[np.ndarray, "M H W 2"],
    weights: Float[np.ndarray, "M H W"],
    scales: Float[np.ndarray, "M H W"],
    rays: Float[np.ndarray, "M 3 3"],
    offsets: Float[np.ndarray, "M 3"],
    focal: float,
    bounds: tuple[float, float],
) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Inverse depth of every pixel of one frame, cameras held, from all the flows that leave it.

    Args:
        start: Inverse depths to start from; the one that fits best is refined.
        flows: Displacement of each pixel, in pixels.
        weights: How far each is to be believed.
        scales: Geman-McClure scale of each, in pixels.
        rays: Rotations of the relative poses.
        offsets: Translations of the relative poses.
        focal: In pixels; the principal point is the centre.
        bounds: Smallest and largest inverse depth.

    Returns:
        Inverse depth; its information (one over the variance, at residuals of one scale); and the loss per weight, 0
        (all flows agree) to 1 (none does, or there is none).
    """
    height, width = start.shape[1:]
    cx, cy = width / 2, height / 2
    low, high = bounds
    inverse_depth = np.empty((height, width), dtype=np.float32)
    information = np.empty((height, width), dtype=np.float32)
    loss = np.empty((height, width), dtype=np.float32)
    size = len(weights) * BLOCK
    flow = np.empty(size), np.empty(size), np.empty(size), np.empty(size)
    x, d, gradient, known, total = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    best, best_cost, cost = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    other = np.empty(BLOCK, np.bool_)
    for row in range(height):
        y = (row + 0.5 - cy) / focal
        for first in range(0, width, BLOCK):
            count = min(BLOCK, width - first)
            total[:] = 0.0
            for k in range(count):
                x[k] = (first + k + 0.5 - cx) / focal
            for e in range(len(weights)):
                for k in range(count):
                    at, col = e * BLOCK + k, first + k
                    flow[0][at] = weights[e, row, col]
                    flow[1][at] = scales[e, row, col] * scales[e, row, col]
                    flow[2][at] = flows[e, row, col, 0] + (col + 0.5 - cx)
                    flow[3][at] = flows[e, row, col, 1] + (row + 0.5 - cy)
                    total[k] += weights[e, row, col]
            for s in range(len(start)):
                some = False
                for k in range(count):
                    d[k] = min(max(float(start[s, row, first + k]), low), high)
                    # On smooth ground the starts differ by less than the first step mends.
                    near = abs(d[k] - start[0, row, first + k]) < SAME_START * d[k]
                    other[k] = s == 0 or (not near and total[k] > NO_WEIGHT)
                    some |= other[k]
                if not some:
                    continue
                _refine(d, known, gradient, x, y, count, rays, offsets, focal, flow, 16.0, 3, low, high)
                _costs(d, cost, x, y, count, rays, offsets, focal, flow)
                for k in range(count):
                    if other[k] and (s == 0 or cost[k] < best_cost[k]):
                        best[k], best_cost[k] = d[k], cost[k]
            _refine(best, known, gradient, x, y, count, rays, offsets, focal, flow, 1.0, 4, low, high)
            for k in range(count):
                any_flow = total[k] > NO_WEIGHT
                inverse_depth[row, first + k] = best[k] if any_flow else start[0, row, first + k]
                information[row, first + k] = known[k] if any_flow else 0.0
                loss[row, first + k] = best_cost[k] / total[k] if any_flow else 1.0
    return inverse_depth, information, loss


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _places(d, y, ray, offset, focal, width, height, at, base, expected):
    """Where another frame sees the points of a row: number of the pixel (-1 = none), z at infinity, inverse depth."""
    cx, cy = width / 2, height / 2
    (ax, bx), (ay, by), (az, bz) = _seen(ray[0], y), _seen(ray[1], y), _seen(ray[2], y)
    tx, ty, tz = offset[0], offset[1], offset[2]
    right, bottom = float(width), float(height)
    for k in range(len(d)):
        x = (k + 0.5 - cx) / focal
        base[k] = az * x + bz
        qz = base[k] + tz * d[k]
        front = qz >= MIN_Z
        iz = 1.0 / (qz if front else 1.0)
        u = focal * (ax * x + bx + tx * d[k]) * iz + cx
        v = focal * (ay * x + by + ty * d[k]) * iz + cy
        inside = front & (u >= 0.0) & (v >= 0.0) & (u < right) & (v < bottom)
        u = u if inside else 0.0
        v = v if inside else 0.0
        at[k] = np.int32(v) * np.int32(width) + np.int32(u) if inside else np.int32(-1)
        expected[k] = d[k] * iz


@njit(cache=True, nogil=True)
def _look_up(others, trust, first, at, seen, weight):
    """Inverse depth and trust there."""
    for k in range(len(at)):
        n = first + np.uintp(at[k] if at[k] > 0 else np.int32(0))
        seen[k] = others[n]
        weight[k] = trust[n] if at[k] >= 0 else NONE


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _judge(base, expected, seen, weight, tz, tolerance, far, summed, agree, contradict):
    """Add up what agrees and what contradicts."""
    for k in range(len(base)):
        gap = seen[k] - expected[k]
        same = abs(gap) < tolerance * (expected[k] if expected[k] > far else far)
        # The d of this frame that the other one means solves 1 / other = (base + t_z d) / d.
        denominator = 1.0 / seen[k] - tz
        fits = same & (denominator > 1e-9)
        back = weight[k] * base[k] / (denominator if fits else 1.0)
        summed[k] += np.float32(back if fits else 0.0)
        agree[k] += weight[k] if fits else NONE
        contradict[k] += weight[k] if (not same) & (gap < 0.0) else NONE


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def compare_frames(
    inverse_depth: Float[np.ndarray, "H W"],
    others: Float[np.ndarray, "M H W"],
    trust: Float[np.ndarray, "M H W"],
    rays: Float[np.ndarray, "M 3 3"],
    offsets: Float[np.ndarray, "M 3"],
    focal: float,
    tolerance: float,
    far: float,
) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Look up every point of one frame in the depth of others.

    Args:
        inverse_depth: Of the frame.
        others: Inverse depths of the other frames.
        trust: Weight of each of their pixels.
        rays: Rotations of the relative poses from the frame to the others.
        offsets: Translations.
        focal: In pixels.
        tolerance: Relative difference of inverse depth that counts as agreement.
        far: Inverse depth below which the difference is taken relative to this instead.

    Returns:
        Weighted sum of the others' inverse depths that agree, brought into the frame; their weight; and the weight of
        those that should agree and do not. A surface in front of the point may hide it and says nothing; one behind it
        contradicts it.
    """
    height, width = inverse_depth.shape
    summed = np.zeros((height, width), dtype=np.float32)
    agree = np.zeros((height, width), dtype=np.float32)
    contradict = np.zeros((height, width), dtype=np.float32)
    at, base, expected = np.empty(width, np.int32), np.empty(width), np.empty(width)
    seen, weight = np.empty(width, np.float32), np.empty(width, np.float32)
    flat_others, flat_trust = others.reshape(-1), trust.reshape(-1)
    for row in range(height):
        y = (row + 0.5 - height / 2) / focal
        for e in range(len(others)):
            _places(inverse_depth[row], y, rays[e], offsets[e], focal, width, height, at, base, expected)
            _look_up(flat_others, flat_trust, np.uintp(e * height * width), at, seen, weight)
            _judge(
                base, expected, seen, weight, offsets[e, 2], tolerance, far, summed[row], agree[row], contradict[row]
            )
    return summed, agree, contradict
