"""Compiled inner loops of multi-view stereo: the matching costs of a plane sweep, and their semi-global optimum.

The innermost loops run over the levels of one pixel and are written so that the compiler makes vector instructions of
them: each in a function of its own, on flat arrays with unsigned indices (a view costs more than a dozen levels), and
with a choice in place of ``min``. Least values are found among the bits of the floats, read as integers: those of
numbers that are not negative lie in the same order, and only of integers does the compiler know how to look for the
least eight at a time.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8, UInt64
from numba import njit

MIN_Z = np.float32(1e-3)
"""A point nearer to the plane of a camera than this share of its depth has no projection."""

EXACT_DIVISION = {"nnan", "ninf", "nsz", "reassoc", "contract"}
"""Fast arithmetic but for approximate reciprocals, by which a pixel at the edge of a picture would fall outside."""

OUTSIDE = np.float32(1e9)
"""Cost of levels that there are not."""

ONE, TWO = np.uintp(1), np.uintp(2)


@njit(cache=True, nogil=True)
def packed(pictures: UInt8[np.ndarray, "N H W 3"], usable: Bool[np.ndarray, "N H W"]) -> UInt64[np.ndarray, "N A"]:
    """All that a sample of a picture needs of a row, in one word: each pixel and the one on its right.

    Args:
        pictures: RGB.
        usable: Pixels that show the static scene.

    Returns:
        A = H W words; of each pixel, from the lowest byte, its colour, whether it is usable, and the same of the next.
    """
    count, height, width = usable.shape
    out = np.zeros((count, height * width), dtype=np.uint64)
    for n in range(count):
        after = np.uint64(0)
        for at in range(height * width - 1, -1, -1):
            row, col = at // width, at % width
            word = np.uint64(usable[n, row, col]) << np.uint64(24)
            for c in range(3):
                word |= np.uint64(pictures[n, row, col, c]) << np.uint64(8 * c)
            out[n, at] = word | after << np.uint64(32)
            after = word
    return out


@njit(cache=True, nogil=True, fastmath=EXACT_DIVISION, error_model="numpy")
def _places(bx, by, bz, tx, ty, tz, levels, width, height, at, right, below):
    """Where a source sees the point at each level: number of the pixel, -1 for none, and what is left of u and v."""
    half, zero = np.float32(0.5), np.float32(0.0)
    most_u, most_v = np.float32(width - 1), np.float32(height - 1)
    for k in range(len(levels)):
        z = bz + tz * levels[k]
        front = z >= MIN_Z
        positive = z if front else MIN_Z
        u = (bx + tx * levels[k]) / positive - half
        v = (by + ty * levels[k]) / positive - half
        inside = front & (u >= zero) & (v >= zero) & (u < most_u) & (v < most_v)
        u = u if inside else zero
        v = v if inside else zero
        col, row = np.int32(u), np.int32(v)
        right[k] = u - np.float32(col)
        below[k] = v - np.float32(row)
        at[k] = row * width + col if inside else np.int32(-1)


@njit(cache=True, nogil=True)
def _fetch(words, first, at, width, upper, lower):
    """The words of those pixels and of the ones below."""
    for k in range(len(at)):
        n = first + np.uintp(at[k] if at[k] > 0 else np.int32(0))
        upper[k] = words[n]
        lower[k] = words[n + width]


@njit(cache=True, nogil=True, fastmath=EXACT_DIVISION, error_model="numpy")
def _channel(pixel, shift):
    return np.float32(np.int32((pixel >> np.uint32(shift)) & np.uint32(255)))


@njit(cache=True, nogil=True, fastmath=EXACT_DIVISION, error_model="numpy")
def _compare(at, right, below, upper, lower, red, green, blue, cap, seen_by, best, second, third):
    """Differences of a colour from samples of a source, put among the three least so far."""
    for k in range(len(at)):
        a, b = upper[TWO * np.uintp(k)], upper[TWO * np.uintp(k) + ONE]
        c, d = lower[TWO * np.uintp(k)], lower[TWO * np.uintp(k) + ONE]
        fu, fv = right[k], below[k]
        w11 = fu * fv
        w01, w10, w00 = fu - w11, fv - w11, np.float32(1.0) - fu - fv + w11
        r = _channel(a, 0) * w00 + _channel(b, 0) * w01 + _channel(c, 0) * w10 + _channel(d, 0) * w11
        g = _channel(a, 8) * w00 + _channel(b, 8) * w01 + _channel(c, 8) * w10 + _channel(d, 8) * w11
        b = _channel(a, 16) * w00 + _channel(b, 16) * w01 + _channel(c, 16) * w10 + _channel(d, 16) * w11
        error = abs(r - red) + abs(g - green) + abs(b - blue)
        seen = (at[k] >= 0) & (a >> np.uint32(24) > 0)
        error = error if seen & (error < cap) else cap
        seen_by[k] += np.int32(1) if seen else np.int32(0)
        first, next_, last = best[k], second[k], third[k]
        best[k] = error if error < first else first
        left = error if error > first else first
        second[k] = left if left < next_ else next_
        left = left if left > next_ else next_
        third[k] = left if left < last else last


@njit(cache=True, nogil=True, fastmath=EXACT_DIVISION, error_model="numpy")
def matching_costs(
    image: UInt8[np.ndarray, "H W 3"],
    words: UInt64[np.ndarray, "N A"],
    others: Int[np.ndarray, " M"],
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
        words: Of all frames, as :func:`packed` gives them.
        others: Numbers of the sources, the frames it is compared with, at most as many as fit three better ones.
        rays: For each source, the matrix from image coordinates here to homogeneous image coordinates there, for points
            at infinity. float32.
        offsets: For each source, what one unit of inverse depth adds to that. float32.
        levels: Inverse depths to try. float32.
        limit: Largest cost of one pixel.

    Returns:
        Costs, 0 to ``limit``; ``limit`` where no two sources see the point at any depth.
    """
    height, width = image.shape[:2]
    tried, area = len(levels), np.uintp(height * width)
    half, cap = np.float32(0.5), np.float32(limit)
    costs = np.empty((height, width, tried), dtype=np.float32)
    best, second, third = np.empty(tried, np.float32), np.empty(tried, np.float32), np.empty(tried, np.float32)
    right, below = np.empty(tried, np.float32), np.empty(tried, np.float32)
    seen_by, at = np.empty(tried, np.int32), np.empty(tried, np.int32)
    upper, lower = np.empty(tried, np.uint64), np.empty(tried, np.uint64)
    pixels_above, pixels_below = upper.view(np.uint32), lower.view(np.uint32)
    flat, flat_words = costs.reshape(-1), words.reshape(-1)
    out = np.uintp(0)
    for row in range(height):
        for col in range(width):
            x, y = np.float32(col) + half, np.float32(row) + half
            red, green, blue = (
                np.float32(image[row, col, 0]),
                np.float32(image[row, col, 1]),
                np.float32(image[row, col, 2]),
            )
            for k in range(tried):
                seen_by[k] = 0
                best[k] = cap
                second[k] = cap
                third[k] = cap
            for m in range(len(others)):
                bx = rays[m, 0, 0] * x + rays[m, 0, 1] * y + rays[m, 0, 2]
                by = rays[m, 1, 0] * x + rays[m, 1, 1] * y + rays[m, 1, 2]
                bz = rays[m, 2, 0] * x + rays[m, 2, 1] * y + rays[m, 2, 2]
                tx, ty, tz = offsets[m, 0], offsets[m, 1], offsets[m, 2]
                _places(bx, by, bz, tx, ty, tz, levels, np.int32(width), np.int32(height), at, right, below)
                _fetch(flat_words, np.uintp(others[m]) * area, at, np.uintp(width), upper, lower)
                _compare(
                    at, right, below, pixels_above, pixels_below, red, green, blue, cap, seen_by, best, second, third
                )
            total, compared = np.float32(0.0), 0
            for k in range(tried):
                of_two = half * (best[k] + second[k])
                cost = (best[k] + second[k] + third[k]) / np.float32(3.0) if seen_by[k] > 4 else of_two
                flat[out + np.uintp(k)] = cost
                total += cost if seen_by[k] > 1 else np.float32(0.0)
                compared += 1 if seen_by[k] > 1 else 0
            if compared < tried:
                typical = total / np.float32(compared) if compared > 0 else cap
                for k in range(tried):
                    if seen_by[k] < 2:
                        flat[out + np.uintp(k)] = typical if seen_by[k] == 0 else half * (best[k] + typical)
            out += np.uintp(tried)
    return costs


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _jumps(guide, dy, dx, scale, wide, single):
    """Penalty of a jump between each pixel and the one dy below and dx to its right; of a step where there is none."""
    height, width = guide.shape[:2]
    out = np.full((height, width), single, np.float32)
    for row in range(height - dy):
        for col in range(max(0, -dx), min(width, width - dx)):
            difference = np.float32(0.0)
            for c in range(3):
                difference += abs(guide[row, col, c] - guide[row + dy, col + dx, c])
            penalty = wide * np.exp(-difference / scale)
            out[row, col] = penalty if penalty > single else single
    return out


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _extend(costs, own, paths, bits, before, after, tried, floor, jump, single):
    """Carry the paths that end in one pixel on to the next; returns the bits of the least cost there.

    Args:
        costs: Of all pixels, flat.
        own: Where those of the next pixel begin.
        paths: Costs of paths, flat; on either side of those of a pixel stands what there is not.
        bits: The same as integers.
        before: Where those of the pixel begin.
        after: Where those of the next one are to.
        tried: Number of levels.
        floor: The least of those of the pixel.
        jump: Penalty of a jump.
        single: Penalty of a step.
    """
    most = floor + jump
    for k in range(tried):
        below, same, above = paths[before + k], paths[before + k + ONE], paths[before + k + TWO]
        way = below if below < above else above
        way += single
        same = same if same < most else most
        way = way if way < same else same
        paths[after + k + ONE] = costs[own + k] + (way - floor)
    least = bits[after + ONE]
    for k in range(tried):
        value = bits[after + k + ONE]
        least = value if value < least else least
    return least


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _add_paths(total, to, paths, a, b, c, d, tried, first):
    """Add an eighth of the costs of four paths to the total; ``first``: it holds nothing yet."""
    share, old = np.float32(1.0 / 8.0), np.float32(0.0 if first else 1.0)
    for k in range(tried):
        mean = share * ((paths[a + k] + paths[b + k]) + (paths[c + k] + paths[d + k]))
        total[to + k] = old * total[to + k] + mean


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def semi_global_costs(
    costs: Float[np.ndarray, "H W L"],
    guide: Float[np.ndarray, "H W 3"],
    step_penalty: float,
    jump_penalty: float,
    edge: float,
) -> Float[np.ndarray, "H W L"]:
    """Mean over eight directions of the least cost of a path that ends in each pixel at each level.

    Hirschmueller, "Stereo Processing by Semiglobal Matching and Mutual Information" (TPAMI 2008), eq. 13; the penalty
    of a jump falls with the difference of the picture, as proposed there. Four directions at a time go down the
    picture and four up, so that costs are read twice and not eight times.

    Args:
        costs: Cost of each level in each pixel, not negative.
        guide: The frame.
        step_penalty: Cost of a change by one level from one pixel to the next.
        jump_penalty: Cost of a larger one on plain ground.
        edge: Difference of the picture, summed over channels, at which that has fallen to 1/e.
    """
    height, width, count = costs.shape
    total = np.zeros((height, width, count), dtype=np.float32)
    single = np.float32(step_penalty)
    # To the pixel before, on the way down: (row, column), and by which maps of jumps.
    steps = ((0, -1), (-1, 1), (-1, 0), (-1, -1))
    jumps = np.empty((4, height, width), np.float32)
    for n, (dy, dx) in enumerate(steps):
        jumps[n] = _jumps(
            guide, abs(dy), abs(dx) if dy == 0 else -dx, np.float32(edge), np.float32(jump_penalty), single
        )
    tried = np.uintp(count)
    pad, line = tried + TWO, np.uintp(width + 2)
    # Of this row and the one before, of four directions each; beyond the sides of the picture a path costs nothing yet.
    paths = np.empty((8 * (width + 2), count + 2), np.float32)
    floors = np.zeros(8 * (width + 2), np.float32)
    flat, bits, floor_bits = paths.reshape(-1), paths.reshape(-1).view(np.int32), floors.view(np.int32)
    flat_costs, flat_total = costs.reshape(-1), total.reshape(-1)
    for way in (1, -1):
        paths[:, 1:-1] = 0.0
        paths[:, 0] = OUTSIDE
        paths[:, -1] = OUTSIDE
        floors[:] = 0.0
        for r in range(height):
            row = r if way > 0 else height - 1 - r
            now, last = np.uintp(4 * (r % 2)), np.uintp(4 - 4 * (r % 2))
            for c in range(width):
                col = c if way > 0 else width - 1 - c
                own = np.uintp(row * width + col) * tried
                for n in range(4):
                    y, x = row + way * steps[n][0], col + way * steps[n][1]
                    jump = single
                    if 0 <= x < width and 0 <= y < height:
                        jump = jumps[n, y, x] if way > 0 else jumps[n, row, col]
                    before = ((now if n == 0 else last) + np.uintp(n)) * line + np.uintp(x + 1)
                    after = (now + np.uintp(n)) * line + np.uintp(col + 1)
                    floor_bits[after] = _extend(
                        flat_costs, own, flat, bits, before * pad, after * pad, tried, floors[before], jump, single
                    )
                here = (now * line + np.uintp(col + 1)) * pad + ONE
                a, b, d, e = here, here + line * pad, here + TWO * line * pad, here + np.uintp(3) * line * pad
                _add_paths(flat_total, own, flat, a, b, d, e, tried, way > 0)
    return total


@njit(cache=True, nogil=True)
def _least(bits, first, last):
    """The least of some bits of floats that are not negative; the largest there is where there are none."""
    least = np.int32(0x7F800000)  # of infinity
    for k in range(first, last):
        least = bits[k] if bits[k] < least else least
    return least


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
    height, width, count = total.shape
    tried = np.uintp(count)
    position = np.empty((height, width), dtype=np.float32)
    margin = np.empty((height, width), dtype=np.float32)
    misfit = np.empty((height, width), dtype=np.float32)
    flat = total.reshape(-1)
    bits = flat.view(np.int32)
    found = np.empty(1, np.float32)
    found_bits = found.view(np.int32)
    for row in range(height):
        for col in range(width):
            first = np.uintp(row * width + col) * tried
            end = first + tried
            least = _least(bits, first, end)
            best = first
            while best < end - ONE and bits[best] != least:
                best += ONE
            offset = 0.0
            if first < best < end - ONE:
                bend = flat[best - ONE] - 2.0 * flat[best] + flat[best + ONE]
                if bend > 1e-6:
                    offset = 0.5 * (flat[best - ONE] - flat[best + ONE]) / bend
            level = np.int64(best - first)
            before = _least(bits, first, first + np.uintp(max(level - 2, 0)))
            after = _least(bits, first + np.uintp(min(level + 3, count)), end)
            found_bits[0] = before if before < after else after
            position[row, col] = level + offset
            margin[row, col] = found[0] - flat[best]
            misfit[row, col] = costs[row, col, level]
    return position, margin, misfit
