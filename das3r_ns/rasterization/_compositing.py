"""Kernels: blend the splats of every tile front to back, and the gradient back to front.

Eight pixels of a row go at a time, see ``_simd``.

gsplat's rules: a pixel's centre lies at +0.5; alpha is at most 0.999; what is fainter than 1/255 is skipped; a pixel
ends before the splat that would take its transmittance to 1e-4 or below.

After the constants of ``_simd`` a tile keeps its pixels as planes of TILE_HEIGHT rows of STRIDE floats; the padding
lets eight lanes run past the edge. A negative transmittance marks a pixel that has ended (its size stays the value), or
that lies outside the image.
"""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from das3r_ns.rasterization._binning import TILE_HEIGHT, TILE_WIDTH
from das3r_ns.rasterization._simd import (
    F32,
    I32,
    LANES,
    MAGIC,
    MAX_ALPHA,
    MIN_P,
    MIN_TRANSMITTANCE,
    TABLE,
    VECTOR,
    Code,
    Vec,
    fetch,
    fold,
)  # fmt: skip
from das3r_ns.rasterization._threads import device, kernel

SUMS = 8  # v, v u, v u^2, v dy, v dy^2, v u dy, |gradient of x|, |gradient of y|, over the pixels of a pair
_SPLAT = 11  # columns of geometry before the channels, see _projection
_STRIDE = TILE_WIDTH + LANES
_PLANE = TILE_HEIGHT * _STRIDE + 2 * LANES
_HEADER = len(TABLE)
_MIN_LEVEL = np.float32(MIN_P)
_LN2 = np.float32(math.log(2.0))
_HALF, _EIGHT, _ROUND, _NEVER = np.float32(0.5), np.float32(LANES), np.float32(MAGIC), np.float32(1e9)
_ZERO, _ONE, _TWO, _SEVEN = np.float32(0.0), np.float32(1.0), np.float32(2.0), np.float32(7.0)
_AHEAD = 6  # splats between asking for one and using it: they lie anywhere, and memory is slow
_CHECK = 32  # splats between two looks at whether the whole tile has ended


def _density(code, u, peak, a, edge):
    """u per lane; 2^p; and where a lane is lit: before the edge, and not fainter than 1/255."""
    u = code.lanes() + code.broadcast(u)
    p = code.broadcast(peak) - u * u * code.broadcast(a)
    lit = code.builder.and_(p.compare(">=", MIN_P), u.compare("<", code.broadcast(edge)))
    return u, p.exp2(), lit


@intrinsic
def _blend(typing, state, at, u, peak, a, edge, rank, splats, row, channels):
    """Blend a splat over eight pixels. Planes: transmittance, the rank at which the pixel ended, the channels."""
    f32 = types.float32
    signature = types.void(state, types.intp, f32, f32, f32, f32, f32, splats, types.intp, channels)

    def generate(context, builder, signature, arguments):
        state, at, u, peak, a, edge, rank, splats, row, _ = arguments
        code = Code(context, builder, signature.args[0], state, at, _PLANE)
        _, density, lit = _density(code, u, peak, a, edge)
        before = code.load(0)
        weight = density.at_most(MAX_ALPHA) * before
        after = before - weight
        goes_on = after.compare(">", MIN_TRANSMITTANCE)
        blended = builder.and_(lit, goes_on)
        weight = weight.where_or_zero(blended)
        for k in range(signature.args[9].count):
            code.store(
                2 + k, code.load(2 + k) + weight * code.entry(context, signature.args[7], splats, row, _SPLAT + k)
            )
        code.store(0, after.where(blended, before))
        ends = builder.and_(builder.and_(lit, builder.not_(goes_on)), before.compare(">", 0.0))
        none = ir.Constant(ir.IntType(LANES), 0)
        some = builder.icmp_unsigned("!=", builder.bitcast(ends, none.type), none)
        with builder.if_then(some, likely=False):
            code.store(0, before.negative().where(ends, code.load(0)))
            code.store(1, code.broadcast(rank).where(ends, code.load(1)))
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _new_sums(typing, channels):
    """Vectors of zeros, SUMS of them and one per channel, that LLVM keeps in registers; a pointer to them."""

    def generate(context, builder, signature, arguments):
        kind = ir.ArrayType(VECTOR, SUMS + signature.args[0].count)
        sums = cgutils.alloca_once(builder, kind)
        builder.store(ir.Constant(kind, None), sums)
        return builder.bitcast(sums, F32.as_pointer())

    return types.CPointer(types.float32)(channels), generate


def _sum_place(builder, sums, number):
    vectors = builder.bitcast(sums, VECTOR.as_pointer())
    return builder.gep(vectors, [ir.Constant(I32, number)])


@intrinsic
def _unblend(typing, state, at, u, peak, a, edge, rank, dy, slope, drop, splats, row, channels, sums):
    """Gradient of a splat over eight pixels, added to sums; a step back in transmittance and in what lies behind.

    Planes: transmittance after the splat, rank at which the pixel ended, value behind the splat, and the gradient of
    each channel. slope and drop: 2 a shear and 2 k dy.
    """
    f32 = types.float32
    signature = types.void(
        state, types.intp, f32, f32, f32, f32, f32, f32, f32, f32, splats, types.intp, channels, sums
    )

    def generate(context, builder, signature, arguments):
        state, at, u, peak, a, edge, rank, dy, slope, drop, splats, row, _, sums = arguments
        code = Code(context, builder, signature.args[0], state, at, _PLANE)

        def add(number, vector):
            place = _sum_place(builder, sums, number)
            builder.store((Vec(code, builder.load(place)) + vector).value, place)

        u, density, lit = _density(code, u, peak, a, edge)
        lit = builder.and_(lit, code.load(1).compare(">", code.broadcast(rank)))
        # An alpha of zero leaves a pixel as it is.
        alpha = density.at_most(MAX_ALPHA).where_or_zero(lit)
        behind, one = code.load(2), code.constant(1.0)
        inverse = one / (one - alpha)
        before = code.load(0) * inverse
        weight = alpha * before
        pull = None
        for k in range(signature.args[12].count):
            gradient, colour = code.load(3 + k), code.entry(context, signature.args[10], splats, row, _SPLAT + k)
            pull = gradient * colour if pull is None else pull + gradient * colour
            add(SUMS + k, weight * gradient)
        assert pull is not None
        code.store(0, before)
        code.store(2, behind + weight * pull)
        # Where alpha is held at its largest nothing moves it.
        moves = density.compare("<=", MAX_ALPHA)
        v = ((before * pull - behind * inverse) * alpha).where_or_zero(moves)
        vu, dy = v * u, code.broadcast(dy)
        v_dy = v * dy
        add(0, v)
        add(1, vu)
        add(2, vu * u)
        add(3, v_dy)
        add(4, v_dy * dy)
        add(5, vu * dy)
        add(6, vu.magnitude())
        add(7, (vu * code.broadcast(slope) + v * code.broadcast(drop)).magnitude())
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _store_sums(typing, sums, channels, rows, row):
    """Add up the lanes of each of the sums, into rows[row, :]; its columns are a multiple of eight."""
    signature = types.void(sums, channels, rows, types.intp)

    def generate(context, builder, signature, arguments):
        sums, _, rows, row = arguments
        array = cgutils.create_struct_proxy(signature.args[2])(context, builder, rows)
        columns = cgutils.unpack_tuple(builder, array.shape)[1]
        target = builder.bitcast(builder.gep(array.data, [builder.mul(row, columns)]), VECTOR.as_pointer())
        total = SUMS + signature.args[1].count
        for first in range(0, total, LANES):
            vectors = [builder.load(_sum_place(builder, sums, n)) for n in range(first, min(total, first + LANES))]
            vectors += [ir.Constant(VECTOR, [0.0] * LANES)] * (LANES - len(vectors))
            place = builder.gep(target, [ir.Constant(I32, first // LANES)])
            builder.store(fold(builder, vectors), place, align=4)
        return context.get_dummy_value()

    return signature, generate


@device
def _window(splat, x0, y0, x1, y1):
    """Of a splat in a tile: left, right, top, bottom (pixels), half its longest line, and that line in groups."""
    left, right = max(splat[7], np.float32(x0)), min(splat[9], np.float32(x1))
    groups = int(min(_TWO * splat[6], np.float32(2 * TILE_WIDTH))) // LANES + 1
    return left, right, max(int(splat[8]), y0), min(int(splat[10]), y1), splat[6], groups


@device
def _span(centre, room, a, widest, groups, left, right):
    """The first pixel of a line that may be lit, and how many groups; u is zero at centre, p is room above its least.

    A line is short, so a processor that guesses its length wrong loses more time than the lanes it saves. Hence splats
    of one or two groups of lanes take that many on every line; the lanes that are not lit, see _density, do nothing.
    """
    if groups > 2:
        widest = np.float32(math.sqrt(max(room, _ZERO) / a))
    # ceil(x - 1/2) by adding 1.5 * 2^23, which rounds: ceil itself is a library call.
    first = (centre - widest + _ROUND) - _ROUND
    first = min(max(left, first), right)
    if groups > 2:
        groups = int(max(min(right, centre + widest + _HALF) - first, _ZERO) + _SEVEN) // LANES
    return first, groups


@device
def _tile_window(tile, tiles_x, width, height):
    x, y = (tile % tiles_x) * TILE_WIDTH, (tile // tiles_x) * TILE_HEIGHT
    return x, y, min(x + TILE_WIDTH, width), min(y + TILE_HEIGHT, height)


@device
def _all_ended(state):
    for pixel in range(_PLANE):  # noqa: SIM110 (numba has no generators in all)
        if state[pixel] > _ZERO:
            return False
    return True


@kernel
def composite(
    splats, tile_start, tile_rows, tiles_x, tiles_y, backgrounds, channels,
    colours, alphas, remaining, ended, tile_stop, worker, workers,
):  # fmt: skip
    """Fill colours [C, H, W, D], alphas [C, H, W]; and for the gradient remaining, ended [C, H, W], tile_stop [tiles].

    remaining is the transmittance left, ended the rank (in its tile) of the splat that ended the pixel, tile_stop the
    number of entries the tile looked at. channels is a tuple of D numbers: its length makes the kernel special to D.
    """
    n_channels = len(channels)
    height, width = alphas.shape[1], alphas.shape[2]
    planes = np.empty(_HEADER + (2 + n_channels) * _PLANE, np.float32)
    planes[:_HEADER] = TABLE
    for tile in range(worker, tile_stop.shape[0], workers):
        camera = tile // (tiles_x * tiles_y)
        x0, y0, x1, y1 = _tile_window(tile - camera * tiles_x * tiles_y, tiles_x, width, height)
        state = planes[_HEADER:]
        state[:_PLANE] = -_ONE
        state[_PLANE : 2 * _PLANE] = _NEVER
        state[2 * _PLANE :] = _ZERO
        for y in range(y1 - y0):
            state[y * _STRIDE : y * _STRIDE + x1 - x0] = _ONE
        start, stop = tile_start[tile], tile_start[tile + 1]
        for j in range(start, stop):
            if (j - start) % _CHECK == _CHECK - 1 and _all_ended(state):
                stop = j
                break
            fetch(splats, tile_rows[min(j + _AHEAD, stop - 1)])  # pyright: ignore[reportCallIssue]
            row = tile_rows[j]
            splat = splats[row]
            left, right, top, bottom, widest, groups = _window(splat, x0, y0, x1, y1)
            dy = np.float32(top) + _HALF - splat[1]
            for y in range(top, bottom):
                centre, peak = splat[0] - splat[2] * dy, splat[5] - splat[4] * dy * dy
                first, count = _span(centre, peak - _MIN_LEVEL, splat[3], widest, groups, left, right)
                u, edge = first + _HALF - centre, right - centre
                at = (y - y0) * _STRIDE - x0 + int(first)
                for _ in range(count):
                    _blend(planes, at, u, peak, splat[3], edge, j - start, splats, row, channels)
                    at, u = at + LANES, u + _EIGHT
                dy += _ONE
        tile_stop[tile] = stop - start
        for y in range(y0, y1):
            at = (y - y0) * _STRIDE - x0
            for x in range(x0, x1):
                left_over = abs(state[at + x])
                remaining[camera, y, x], alphas[camera, y, x] = left_over, _ONE - left_over
                ended[camera, y, x] = state[_PLANE + at + x]
                for k in range(n_channels):
                    colours[camera, y, x, k] = state[(2 + k) * _PLANE + at + x] + left_over * backgrounds[camera, k]


@kernel
def composite_backward(
    splats, tile_start, tile_rows, tile_pairs, tiles_x, tiles_y, backgrounds, channels,
    remaining, ended, tile_stop, v_colours, v_alphas, pair_sums, worker, workers,
):  # fmt: skip
    """Fill pair_sums [P, SUMS + D rounded up to lanes]: the sums of a pair, see SUMS, then those of its channels."""
    n_channels = len(channels)
    height, width = v_alphas.shape[1], v_alphas.shape[2]
    planes = np.empty(_HEADER + (3 + n_channels) * _PLANE, np.float32)
    planes[:_HEADER] = TABLE
    for tile in range(worker, tile_stop.shape[0], workers):
        camera = tile // (tiles_x * tiles_y)
        x0, y0, x1, y1 = _tile_window(tile - camera * tiles_x * tiles_y, tiles_x, width, height)
        state = planes[_HEADER:]
        state[:] = _ZERO
        for y in range(y0, y1):
            at = (y - y0) * _STRIDE - x0
            for x in range(x0, x1):
                value = -v_alphas[camera, y, x]
                for k in range(n_channels):
                    gradient = v_colours[camera, y, x, k]
                    state[(3 + k) * _PLANE + at + x] = gradient
                    value += gradient * backgrounds[camera, k]
                state[at + x] = remaining[camera, y, x]
                state[_PLANE + at + x] = ended[camera, y, x]
                state[2 * _PLANE + at + x] = remaining[camera, y, x] * value
        start, stop = tile_start[tile], tile_start[tile] + tile_stop[tile]
        for j in range(stop, tile_start[tile + 1]):
            pair_sums[tile_pairs[j]] = _ZERO
        for j in range(stop - 1, start - 1, -1):
            fetch(splats, tile_rows[max(j - _AHEAD, start)])  # pyright: ignore[reportCallIssue]
            fetch(pair_sums, tile_pairs[max(j - _AHEAD, start)])  # pyright: ignore[reportCallIssue]
            row = tile_rows[j]
            splat = splats[row]
            left, right, top, bottom, widest, groups = _window(splat, x0, y0, x1, y1)
            slope = splat[2] * splat[3] * _TWO
            sums = _new_sums(channels)  # pyright: ignore[reportCallIssue]
            dy = np.float32(top) + _HALF - splat[1]
            for y in range(top, bottom):
                centre, peak = splat[0] - splat[2] * dy, splat[5] - splat[4] * dy * dy
                first, count = _span(centre, peak - _MIN_LEVEL, splat[3], widest, groups, left, right)
                u, edge, drop = first + _HALF - centre, right - centre, splat[4] * dy * _TWO
                at = (y - y0) * _STRIDE - x0 + int(first)
                for _ in range(count):
                    _unblend(
                        planes, at, u, peak, splat[3], edge, j - start, dy, slope, drop, splats, row, channels, sums
                    )
                    at, u = at + LANES, u + _EIGHT
                dy += _ONE
            _store_sums(sums, channels, pair_sums, tile_pairs[j])


@kernel
def gather(
    first_pair, pair_sums, splats, n_channels, n_gaussians, lit, v_means2d, v_absolute, v_splats, worker, workers
):  # fmt: skip
    """Add up the pairs of each splat, and turn the sums into gradients of x, y (means2d) and of the other columns."""
    total = np.empty(pair_sums.shape[1], np.float32)
    share = (lit.shape[0] + workers - 1) // workers
    for row in range(worker * share, min(lit.shape[0], (worker + 1) * share)):
        if not lit[row]:
            continue
        total[:] = _ZERO
        for pair in range(first_pair[row], first_pair[row + 1]):
            for k in range(SUMS + n_channels):
                total[k] += pair_sums[pair, k]
        splat, gradient = splats[row], v_splats[row]
        shear, a, k = splat[2], splat[3], splat[4]
        camera, i = row // n_gaussians, row % n_gaussians
        v_means2d[camera, i, 0] = _LN2 * _TWO * a * total[1]
        v_means2d[camera, i, 1] = _LN2 * _TWO * (a * shear * total[1] + k * total[3])
        v_absolute[camera, i, 0] = _LN2 * _TWO * a * total[6]
        v_absolute[camera, i, 1] = _LN2 * total[7]
        gradient[2] = -_LN2 * _TWO * a * total[5]
        gradient[3] = -_LN2 * total[2]
        gradient[4] = -_LN2 * total[4]
        gradient[5] = _LN2 * total[0]
        for channel in range(n_channels):
            gradient[_SPLAT + channel] = total[SUMS + channel]
