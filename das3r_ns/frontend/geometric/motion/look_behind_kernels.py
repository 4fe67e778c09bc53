"""Compiled inner loops: the depth of the static world as other frames see it, and how their colours there compare."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from numba import njit

from das3r_ns.frontend.geometric.visible import IN_FRONT, MIN_Z


@njit(cache=True, nogil=True)
def project(x, y, d, ray, offset):
    """Image coordinates of a pixel of inverse depth d in another frame, after its depth there over its depth here."""
    z = ray[2, 0] * x + ray[2, 1] * y + ray[2, 2] + offset[2] * d
    scale = 1.0 / max(z, MIN_Z)
    u = (ray[0, 0] * x + ray[0, 1] * y + ray[0, 2] + offset[0] * d) * scale
    v = (ray[1, 0] * x + ray[1, 1] * y + ray[1, 2] + offset[1] * d) * scale
    return z, u, v


@njit(cache=True, nogil=True)
def _splat(inverse_depth, trust, ray, offset, seen, weight):
    """Draw the points of one frame into another, nearest first, over the four pixels around each."""
    height, width = seen.shape
    for row in range(inverse_depth.shape[0]):
        for col in range(inverse_depth.shape[1]):
            if trust[row, col] <= 0.0:
                continue
            d = inverse_depth[row, col]
            z, u, v = project(col + 0.5, row + 0.5, d, ray, offset)
            if z < MIN_Z:
                continue
            first_row, first_col = int(np.floor(v - 0.5)), int(np.floor(u - 0.5))
            for i in range(max(first_row, 0), min(first_row + 2, height)):
                for j in range(max(first_col, 0), min(first_col + 2, width)):
                    if d / z > seen[i, j]:
                        seen[i, j] = d / z
                        weight[i, j] = trust[row, col]


@njit(cache=True, nogil=True)
def inverse_depth_from_others(
    inverse_depth: Float[np.ndarray, "M H W"],
    trust: Float[np.ndarray, "M H W"],
    rays: Float[np.ndarray, "M 3 3"],
    offsets: Float[np.ndarray, "M 3"],
    share: float,
    tolerance: float,
    far: float,
) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Inverse depth of what other frames have in front of a camera: the nearest surface that enough of them agree on.

    Args:
        inverse_depth: Of the other frames.
        trust: Of it; points of trust 0 are left out.
        rays: Homographies of the other frames' pixels at infinity into this one's.
        offsets: What is added to them per inverse depth.
        share: Share of the trust at a pixel that a surface needs.
        tolerance: Relative difference up to which two inverse depths are of one surface.
        far: Inverse depth below which differences count relative to this instead.

    Returns:
        Inverse depth, 0 where no frame shows anything; and the trust of those that agree on it.
    """
    count, height, width = inverse_depth.shape
    seen = np.zeros((count, height, width), dtype=np.float32)
    weight = np.zeros((count, height, width), dtype=np.float32)
    for m in range(count):
        _splat(inverse_depth[m], trust[m], rays[m], offsets[m], seen[m], weight[m])
    out = np.zeros((height, width), dtype=np.float32)
    support = np.zeros((height, width), dtype=np.float32)
    for row in range(height):
        for col in range(width):
            total = 0.0
            for m in range(count):
                total += weight[m, row, col]
            nearest = 0.0
            for m in range(count):
                d = seen[m, row, col]
                if d <= nearest:
                    continue
                agree = 0.0
                mean = 0.0
                for n in range(count):
                    e = seen[n, row, col]
                    if e > 0.0 and abs(e - d) <= tolerance * max(d, far):
                        agree += weight[n, row, col]
                        mean += weight[n, row, col] * e
                if agree > 0.0 and agree >= share * total:
                    nearest = d
                    out[row, col] = mean / agree
                    support[row, col] = agree
    return out, support


@njit(cache=True, nogil=True)
def bilinear(picture, x, y, out):
    """Colour of a picture at (x, y), in pixels from the centre of its first one, inside it."""
    col, row = min(int(x), picture.shape[1] - 2), min(int(y), picture.shape[0] - 2)
    a, b = x - col, y - row
    for k in range(len(out)):
        above = (1 - a) * picture[row, col, k] + a * picture[row, col + 1, k]
        below = (1 - a) * picture[row + 1, col, k] + a * picture[row + 1, col + 1, k]
        out[k] = (1 - b) * above + b * below


@njit(cache=True, nogil=True)
def median(values, count):
    """Median of the first few values, which are left in order."""
    for i in range(1, count):
        value = values[i]
        j = i - 1
        while j >= 0 and values[j] > value:
            values[j + 1] = values[j]
            j -= 1
        values[j + 1] = value
    return 0.5 * (values[(count - 1) // 2] + values[count // 2])


@njit(cache=True, nogil=True, error_model="numpy")
def _in_order(values, count, width):
    """Sort every column of so many rows, flat, by exchanging neighbours: all columns side by side, without a branch."""
    n = np.uintp(width)
    for turn in range(count):
        for m in range(turn % 2, count - 1, 2):
            here = np.uintp(m) * n
            for column in range(width):
                k = here + np.uintp(column)
                a, b = values[k], values[k + n]
                values[k] = a if a < b else b
                values[k + n] = b if a < b else a


@njit(cache=True, nogil=True, error_model="numpy")
def _medians(values, known, count, width, out):
    """Median of what is known of every column, the first few of so many rows; what is beyond them is infinite.

    The rows are left in order.
    """
    _in_order(values, count, width)
    for k in range(width):
        n = int(known[k])
        out[k] = 0.5 * (values[(n - 1) // 2 * width + k] + values[n // 2 * width + k]) if n > 0 else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _distances(colours, others, count, width, channels, out):
    """Differences, summed over channels, of colours (channels x count x width, flat) from others (channels x width)."""
    n = np.uintp(width)
    for m in range(count):
        to = np.uintp(m) * n
        for column in range(width):
            out[to + np.uintp(column)] = np.float32(0.0)
        for c in range(channels):
            at, of = np.uintp(c * count + m) * n, np.uintp(c) * n
            for column in range(width):
                k = np.uintp(column)
                out[to + k] += abs(colours[at + k] - others[of + k])


@njit(cache=True, nogil=True)
def colours_behind(
    picture: Float[np.ndarray, "H W C"],
    inverse_depth: Float[np.ndarray, "H W"],
    pictures: Float[np.ndarray, "M H W C"],
    static: Bool[np.ndarray, "M H W"],
    surfaces: Float[np.ndarray, "M H W"],
    rays: Float[np.ndarray, "M 3 3"],
    offsets: Float[np.ndarray, "M 3"],
    slack: float,
) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Compare a picture with what other frames show at the points of a depth map.

    Args:
        picture: The frame.
        inverse_depth: Where the static world is in it.
        pictures: The other frames.
        static: Where they show the static world.
        surfaces: Their own inverse depth; frames with something in front of the point do not see it.
        rays: Homographies of the frame's pixels at infinity into those of the others.
        offsets: What is added to them per inverse depth.
        slack: Inverse depth that a surface may be nearer besides.

    Returns:
        The median difference in colour from the others, summed over channels; the spread of the colours that they
        show (median distance from their median); and how many of them see the point.
    """
    count, height, width, channels = pictures.shape
    error = np.zeros((height, width), dtype=np.float32)
    spread = np.zeros((height, width), dtype=np.float32)
    seen = np.zeros((height, width), dtype=np.float32)
    colours, values = np.empty(channels * count * width, np.float32), np.empty(count * width, np.float32)
    here, middle = np.empty(channels * width, np.float32), np.empty(channels * width, np.float32)
    one = np.uintp(1)
    for row in range(height):
        colours[:] = np.inf
        for k in range(channels):
            for col in range(width):
                here[k * width + col] = picture[row, col, k]
        for col in range(width):
            d = inverse_depth[row, col]
            x, y = col + 0.5, row + 0.5
            n = 0
            for m in range(count):
                # As ``project`` and ``bilinear`` have it: a view of an array costs more than either.
                z = rays[m, 2, 0] * x + rays[m, 2, 1] * y + rays[m, 2, 2] + offsets[m, 2] * d
                scale = 1.0 / max(z, MIN_Z)
                u = (rays[m, 0, 0] * x + rays[m, 0, 1] * y + rays[m, 0, 2] + offsets[m, 0] * d) * scale
                v = (rays[m, 1, 0] * x + rays[m, 1, 1] * y + rays[m, 1, 2] + offsets[m, 1] * d) * scale
                if z < MIN_Z or u < 0.5 or v < 0.5 or u > width - 0.5 or v > height - 0.5:
                    continue
                i, j = np.uintp(min(int(v), height - 1)), np.uintp(min(int(u), width - 1))
                if not (static[m, i, j] and surfaces[m, i, j] <= IN_FRONT * d / z + slack):
                    continue
                a, b = u - 0.5, v - 0.5
                left, top = np.uintp(min(int(a), width - 2)), np.uintp(min(int(b), height - 2))
                a, b = a - left, b - top
                for k in range(channels):
                    above = (1 - a) * pictures[m, top, left, k] + a * pictures[m, top, left + one, k]
                    below = (1 - a) * pictures[m, top + one, left, k] + a * pictures[m, top + one, left + one, k]
                    colours[(k * count + n) * width + col] = (1 - b) * above + b * below
                n += 1
            seen[row, col] = n
        _distances(colours, here, count, width, channels, values)
        _medians(values, seen[row], count, width, error[row])
        for k in range(channels):
            values[:] = colours[k * count * width : (k + 1) * count * width]
            _medians(values, seen[row], count, width, middle[k * width : (k + 1) * width])
        _distances(colours, middle, count, width, channels, values)
        _medians(values, seen[row], count, width, spread[row])
    return error, spread, seen
