"""Kernels: sort the lit splats by depth, and list for every tile of the image the splats that touch it, in order.

A *pair* is a splat and a tile it touches. Pairs are numbered splat by splat, so that the rows of gradient which the
tiles write for one splat lie side by side and a second pass can add them up: no atomics, and always in one order.
Tiles are a matter of speed alone; which pixels a splat may light is decided by its box.
"""

import math

import numpy as np

from das3r_ns.rasterization._simd import fetch
from das3r_ns.rasterization._threads import device, kernel

TILE_WIDTH = 64  # pixels
TILE_HEIGHT = 32  # pixels
_DIGIT = 11  # bits the radix sort takes at a time; three digits cover a float32
_AHEAD = 8  # splats between asking for one and using it: by depth they lie anywhere in memory
_LOG2_MIN_ALPHA = math.log2(1.0 / 255.0)


@kernel
def sort_by_depth(depths, lit):
    """Rows of the lit splats, near to far; equal depths keep their order. depths is float32 [C * N], all > 0."""
    n_lit = 0
    for row in range(depths.shape[0]):
        n_lit += lit[row]
    # The bits of a positive float sort like the float.
    bits = depths.view(np.uint32)
    rows, keys = np.empty(n_lit, np.int32), np.empty(n_lit, np.uint32)
    other_rows, other_keys = np.empty(n_lit, np.int32), np.empty(n_lit, np.uint32)
    mask = np.uint32((1 << _DIGIT) - 1)
    starts = np.zeros((3, 1 << _DIGIT), np.int64)
    n_lit = 0
    for row in range(depths.shape[0]):
        if lit[row]:
            key = bits[row]
            rows[n_lit], keys[n_lit] = row, key
            n_lit += 1
            for digit in range(3):
                starts[digit, (key >> np.uint32(digit * _DIGIT)) & mask] += 1
    for digit in range(3):
        total = 0
        for value in range(1 << _DIGIT):
            total, starts[digit, value] = total + starts[digit, value], total
        shift = np.uint32(digit * _DIGIT)
        for j in range(n_lit):
            value = (keys[j] >> shift) & mask
            place = starts[digit, value]
            starts[digit, value] = place + 1
            other_rows[place], other_keys[place] = rows[j], keys[j]
        rows, other_rows, keys, other_keys = other_rows, rows, other_keys, keys
    return rows


@device
def _columns(splat, ty):
    """Tile columns [first, last) that the splat touches in tile row ty: a bound on its ellipse in that strip."""
    x0, x1 = int(splat[7]), int(splat[9])
    if x1 - x0 > TILE_WIDTH:
        # On the line dy the ellipse spans centre(dy) +- w(dy), with centre = x - shear dy and a w^2 + k dy^2 = q. The
        # right edge is concave in dy, with its top at dy = -reach; the left edge mirrors it.
        x, shear, a, k = float(splat[0]), float(splat[2]), float(splat[3]), float(splat[4])
        q = splat[5] - _LOG2_MIN_ALPHA
        reach = shear * a / k * math.sqrt(q / (a + shear * shear * a * a / k))
        low = max(float(splat[8]), float(ty * TILE_HEIGHT)) + 0.5 - splat[1]
        high = min(float(splat[10]), float((ty + 1) * TILE_HEIGHT)) - 0.5 - splat[1]
        right, left = min(max(-reach, low), high), min(max(reach, low), high)
        end = x - shear * right + math.sqrt(max(q - k * right * right, 0.0) / a)
        begin = x - shear * left - math.sqrt(max(q - k * left * left, 0.0) / a)
        x0, x1 = max(x0, int(max(begin - 1.0, 0.0))), min(x1, int(max(end + 1.0, 0.0)) + 1)
        if x0 >= x1:
            return 0, 0
    return x0 // TILE_WIDTH, (x1 - 1) // TILE_WIDTH + 1


@kernel
def bin_splats(order, splats, lit, n_gaussians, n_cameras, tiles_x, tiles_y):
    """List the pairs.

    Returns:
        first_pair [C * N + 1]: the pairs of a splat are first_pair[row] up to first_pair[row + 1].
        tile_start [C * tiles + 1]: the entries of a tile.
        tile_rows, tile_pairs [P]: the splat and the pair of each entry, near to far within a tile.
    """
    tiles = tiles_x * tiles_y
    first_pair = np.empty(lit.shape[0] + 1, np.int32)
    tile_start = np.zeros(n_cameras * tiles + 1, np.int32)
    n_pairs = 0
    for row in range(lit.shape[0]):
        first_pair[row] = n_pairs
        if lit[row]:
            splat = splats[row]
            base = (row // n_gaussians) * tiles + 1
            for ty in range(int(splat[8]) // TILE_HEIGHT, (int(splat[10]) - 1) // TILE_HEIGHT + 1):
                first, last = _columns(splat, ty)
                n_pairs += last - first
                for tx in range(first, last):
                    tile_start[base + ty * tiles_x + tx] += 1
    first_pair[lit.shape[0]] = n_pairs
    for tile in range(n_cameras * tiles):
        tile_start[tile + 1] += tile_start[tile]
    tile_rows, tile_pairs = np.empty(n_pairs, np.int32), np.empty(n_pairs, np.int32)
    cursor = tile_start.copy()
    for j in range(order.shape[0]):
        fetch(splats, order[min(j + _AHEAD, order.shape[0] - 1)])  # pyright: ignore[reportCallIssue]
        row = order[j]
        splat = splats[row]
        base, pair = (row // n_gaussians) * tiles, first_pair[row]
        for ty in range(int(splat[8]) // TILE_HEIGHT, (int(splat[10]) - 1) // TILE_HEIGHT + 1):
            first, last = _columns(splat, ty)
            for tx in range(first, last):
                tile = base + ty * tiles_x + tx
                place = cursor[tile]
                cursor[tile] = place + 1
                tile_rows[place], tile_pairs[place] = row, pair
                pair += 1
    return first_pair, tile_start, tile_rows, tile_pairs
