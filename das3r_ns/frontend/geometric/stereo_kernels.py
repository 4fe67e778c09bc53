"""Compiled inner loops of multi-view stereo: the matching costs of a plane sweep, and their semi-global optimum."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from numba import njit

MIN_Z = np.float32(1e-3)
"""A point nearer to the plane of a camera than this share of its depth has no projection."""

EXACT_DIVISION = {"nnan", "ninf", "nsz", "reassoc", "contract"}
"""Fast arithmetic but for approximate reciprocals, by which a pixel at the edge of a picture would fall outside."""


@njit(cache=True, nogil=True, fastmath=True)
def _difference(source, u, v, colour):
    """Sum over the channels of the absolute difference of a colour and a picture at (u, v), from its first pixel's
    centre."""
    # Unsigned, or every access would first ask whether the index counts from the end.
    col, row = np.uintp(u), np.uintp(v)
    right, below = col + np.uintp(1), row + np.uintp(1)
    fu, fv = u - np.float32(col), v - np.float32(row)
    w11 = fu * fv
    w01, w10, w00 = fu - w11, fv - w11, np.float32(1.0) - fu - fv + w11
    error = np.float32(0.0)
    for c in range(3):
        above = source[row, col, c] * w00 + source[row, right, c] * w01
        error += abs(above + source[below, col, c] * w10 + source[below, right, c] * w11 - colour[c])
    return error


@njit(cache=True, nogil=True, fastmath=EXACT_DIVISION)
def matching_costs(
    image: Float[np.ndarray, "H W 3"],
    sources: Float[np.ndarray, "M H W 3"],
    usable: Bool[np.ndarray, "M H W"],
    rays: Float[np.ndarray, "M 3 3"],
    offsets: Float[np.ndarray, "M 3"],
    levels: Float[np.ndarray, " L"],
    limit: float,
) -> Float[np.ndarray, "H W L"]:
    """How badly each pixel of a frame matches other frames at each inverse depth.

    The cost of one source is the sum of absolute differences of the three channels, at most ``limit``. Of the sources
    that see the point the better half counts: those are the ones in which nothing stands in front of it (Kang, Szeliski
    and Chai, CVPR 2001, section 3.2). A single source may match by chance, so it counts by half only. What the rest
    costs is taken from the depths that more sources see: a depth that takes the point out of their pictures is neither
    better nor worse for it, or plain ground would match wherever most of them happen to look.

    Args:
        image: The frame.
        sources: The frames it is compared with, at most as many as fit three better ones.
        usable: Pixels of the sources that show the static scene.
        rays: For each source, the matrix from image coordinates here to homogeneous image coordinates there, for points
            at infinity. float32.
        offsets: For each source, what one unit of inverse depth adds to that. float32.
        levels: Inverse depths to try. float32.
        limit: Largest cost of one pixel.

    Returns:
        Costs, 0 to ``limit``; ``limit`` where no two sources see the point at any depth.
    """
    height, width = image.shape[:2]
    count, tried = len(sources), len(levels)
    half, one, cap = np.float32(0.5), np.float32(1.0), np.float32(limit)
    costs = np.empty((height, width, tried), dtype=np.float32)
    us, vs, seen_by = np.empty(tried, np.float32), np.empty(tried, np.float32), np.empty(tried, np.int32)
    best, second, third = np.empty(tried, np.float32), np.empty(tried, np.float32), np.empty(tried, np.float32)
    for row in range(height):
        for col in range(width):
            x, y = np.float32(col) + half, np.float32(row) + half
            seen_by[:] = 0
            best[:] = cap
            second[:] = cap
            third[:] = cap
            for m in range(count):
                h, t = rays[m], offsets[m]
                bx = h[0, 0] * x + h[0, 1] * y + h[0, 2]
                by = h[1, 0] * x + h[1, 1] * y + h[1, 2]
                bz = h[2, 0] * x + h[2, 1] * y + h[2, 2]
                # In a loop of its own, which the compiler turns into vector instructions.
                for k in range(tried):
                    z = bz + t[2] * levels[k]
                    positive = max(z, MIN_Z)
                    us[k] = (bx + t[0] * levels[k]) / positive - half if z >= MIN_Z else -one
                    vs[k] = (by + t[1] * levels[k]) / positive - half
                for k in range(tried):
                    u, v = us[k], vs[k]
                    if not (u >= 0 and v >= 0 and u < width - 1 and v < height - 1):
                        continue
                    if not usable[m, np.uintp(v), np.uintp(u)]:
                        continue
                    error = min(_difference(sources[m], u, v, image[row, col]), cap)
                    seen_by[k] += 1
                    # The three least so far, without a branch.
                    left = max(error, best[k])
                    best[k] = min(error, best[k])
                    third[k] = min(max(left, second[k]), third[k])
                    second[k] = min(left, second[k])
            total, compared = np.float32(0.0), 0
            for k in range(tried):
                if seen_by[k] > 4:
                    costs[row, col, k] = (best[k] + second[k] + third[k]) / np.float32(3.0)
                else:
                    costs[row, col, k] = half * (best[k] + second[k])
                if seen_by[k] > 1:
                    total += costs[row, col, k]
                    compared += 1
            typical = total / np.float32(compared) if compared > 0 else cap
            for k in range(tried):
                if seen_by[k] < 2:
                    costs[row, col, k] = typical if seen_by[k] == 0 else half * (best[k] + typical)
    return costs


@njit(cache=True, nogil=True, fastmath=True)
def semi_global_costs(
    costs: Float[np.ndarray, "H W L"],
    guide: Float[np.ndarray, "H W 3"],
    step_penalty: float,
    jump_penalty: float,
    edge: float,
) -> Float[np.ndarray, "H W L"]:
    """Mean over eight directions of the least cost of a path that ends in each pixel at each level.

    Hirschmueller, "Stereo Processing by Semiglobal Matching and Mutual Information" (TPAMI 2008), eq. 13; the penalty
    of a jump falls with the difference of the picture, as proposed there.

    Args:
        costs: Cost of each level in each pixel.
        guide: The frame.
        step_penalty: Cost of a change by one level from one pixel to the next.
        jump_penalty: Cost of a larger one on plain ground.
        edge: Difference of the picture, summed over channels, at which that has fallen to 1/e.
    """
    height, width, tried = costs.shape
    total = np.zeros((height, width, tried), dtype=np.float32)
    share, single, wide, scale = (
        np.float32(1.0 / 8.0),
        np.float32(step_penalty),
        np.float32(jump_penalty),
        np.float32(edge),
    )
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1)):
        line, before = np.empty((width, tried), np.float32), np.empty((width, tried), np.float32)
        least, least_before = np.empty(width, np.float32), np.empty(width, np.float32)
        for r in range(height):
            row = r if dy >= 0 else height - 1 - r
            for c in range(width):
                col = c if dx >= 0 else width - 1 - c
                y, x = row - dy, col - dx
                own, out = costs[row, col], line[col]
                lowest = np.float32(1e9)
                if y < 0 or x < 0 or y >= height or x >= width:
                    for k in range(tried):
                        out[k] = own[k]
                        lowest = min(lowest, own[k])
                        total[row, col, k] += share * own[k]
                else:
                    a, b = guide[row, col], guide[y, x]
                    difference = abs(a[0] - b[0]) + abs(a[1] - b[1]) + abs(a[2] - b[2])
                    jump = max(wide * np.exp(-difference / scale), single)
                    last = line[x] if dy == 0 else before[x]
                    floor = least[x] if dy == 0 else least_before[x]
                    for k in range(tried):
                        way = min(last[k], floor + jump)
                        if k > 0:
                            way = min(way, last[k - 1] + single)
                        if k + 1 < tried:
                            way = min(way, last[k + 1] + single)
                        cost = own[k] + way - floor
                        out[k] = cost
                        lowest = min(lowest, cost)
                        total[row, col, k] += share * cost
                least[col] = lowest
            line, before = before, line
            least, least_before = least_before, least
    return total


@njit(cache=True, nogil=True)
def best_levels(
    total: Float[np.ndarray, "H W L"], costs: Float[np.ndarray, "H W L"]
) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """The level of least total cost in each pixel, to a fraction of a level.

    Args:
        total: See :func:`semi_global_costs`.
        costs: See :func:`matching_costs`.

    Returns:
        Position among the levels, refined by a parabola; by how much the best level more than two away is worse; and
        the matching cost there.
    """
    height, width, tried = total.shape
    position = np.empty((height, width), dtype=np.float32)
    margin = np.empty((height, width), dtype=np.float32)
    misfit = np.empty((height, width), dtype=np.float32)
    for row in range(height):
        for col in range(width):
            line = total[row, col]
            best = 0
            for k in range(1, tried):
                if line[k] < line[best]:
                    best = k
            offset = 0.0
            if 0 < best < tried - 1:
                bend = line[best - 1] - 2.0 * line[best] + line[best + 1]
                if bend > 1e-6:
                    offset = 0.5 * (line[best - 1] - line[best + 1]) / bend
            other = np.inf
            for k in range(tried):
                if abs(k - best) > 2 and line[k] < other:
                    other = line[k]
            position[row, col] = best + offset
            margin[row, col] = other - line[best]
            misfit[row, col] = costs[row, col, best]
    return position, margin, misfit
