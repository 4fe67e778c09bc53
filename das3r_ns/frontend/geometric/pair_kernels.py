"""Compiled loops over the pixels of a pair of frames: one way through memory in place of one for every operation."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int, UInt16
from numba import njit

FAST = {"nnan", "nsz", "contract"}
"""Arithmetic that may be fused, but neither put in another order nor taken for finite."""

ZERO, HALF, ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
ONE_ON, TWO = np.uintp(1), np.uintp(2)


@njit(cache=True, nogil=True)
def widened(half: UInt16[np.ndarray, "H W 2"]) -> Float[np.ndarray, "H W 2"]:
    """Numbers of half precision, by their bits, in single precision; exact, but for NaN, which there is none of.

    Numpy does the same one by one.
    """
    flat = half.reshape(-1)
    bits = np.empty(half.size, np.uint32)
    sign, rest = np.uint32(0x8000), np.uint32(0x7FFF)
    for k in range(half.size):
        value = np.uint32(flat[k])
        bits[k] = ((value & sign) << np.uint32(16)) | ((value & rest) << np.uint32(13))
    out = bits.view(np.float32)
    for k in range(half.size):
        value = out[k] * np.float32(2.0**112)  # the exponents of the two begin so far apart
        out[k] = value if abs(value) < np.float32(65536.0) else value * np.float32(np.inf)
    return out.reshape(half.shape)


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def places(flow: Float[np.ndarray, "h w 2"], step: int) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """Where the flow takes every so many rows and columns, as ``cv2.remap`` counts: the first pixel's centre at 0."""
    height, width = flow.shape[:2]
    x, y = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
    for row in range(height):
        for col in range(width):
            x[row, col] = np.float32(col * step) + flow[row, col, 0]
            y[row, col] = np.float32(row * step) + flow[row, col, 1]
    return x, y


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def missed(
    there: Float[np.ndarray, "h w 2"],
    back: Float[np.ndarray, "h w 2"],
    x: Float[np.ndarray, "h w"],
    y: Float[np.ndarray, "h w"],
    width: int,
    height: int,
) -> Float[np.ndarray, "h w"]:
    """Length of the sum of two flows; infinite where (x, y) is not in the picture."""
    out = np.empty(x.size, np.float32)
    right, bottom = np.float32(width - 1), np.float32(height - 1)
    flat, flat_back, xs, ys = there.reshape(-1), back.reshape(-1), x.reshape(-1), y.reshape(-1)
    for k in range(x.size):
        i = TWO * np.uintp(k)
        u, v = flat[i] + flat_back[i], flat[i + ONE_ON] + flat_back[i + ONE_ON]
        a, b = xs[k], ys[k]
        outside = (a < ZERO) | (b < ZERO) | (a > right) | (b > bottom)
        out[k] = np.float32(np.inf) if outside else np.sqrt(u * u + v * v)
    return out.reshape(x.shape)


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def differences(
    warped: Float[np.ndarray, "H W 3"],
    here: Float[np.ndarray, "H W 3"],
    x: Float[np.ndarray, "H W"],
    y: Float[np.ndarray, "H W"],
    cap: float,
) -> tuple[Float[np.ndarray, "H W"], Bool[np.ndarray, "H W"]]:
    """Sums over three channels of absolute differences, at most ``cap``, and whether (x, y) is in the picture."""
    height, width = x.shape
    error, inside = np.empty(x.size, np.float32), np.empty(x.size, np.bool_)
    right, bottom, most = np.float32(width - 1), np.float32(height - 1), np.float32(cap)
    a, b, xs, ys = warped.reshape(-1), here.reshape(-1), x.reshape(-1), y.reshape(-1)
    for k in range(x.size):
        i = (TWO + ONE_ON) * np.uintp(k)
        total = abs(a[i] - b[i]) + abs(a[i + ONE_ON] - b[i + ONE_ON]) + abs(a[i + TWO] - b[i + TWO])
        error[k] = total if total < most else most
    for k in range(x.size):
        u, v = xs[k], ys[k]
        inside[k] = (u >= ZERO) & (v >= ZERO) & (u <= right) & (v <= bottom)
    return error.reshape(x.shape), inside.reshape(x.shape)


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def trust(flow: Float[np.ndarray, "h w 2"], error: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """See ``motion.pair_evidence.flow_trust``."""
    out = np.empty(error.size, np.float32)
    flat, misses = flow.reshape(-1), error.reshape(-1)
    for k in range(error.size):
        i = TWO * np.uintp(k)
        u, v = flat[i], flat[i + ONE_ON]
        tolerance = HALF + np.float32(0.05) * np.sqrt(u * u + v * v)
        miss = misses[k]
        ratio = (miss if miss < np.float32(99.0) else np.float32(99.0)) / tolerance
        out[k] = ONE / (ONE + ratio * ratio)
    return out.reshape(error.shape)


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def tolerances(
    flow: Float[np.ndarray, "H W 2"], error: Float[np.ndarray, "H W"], share: float
) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """By how much a flow may miss its start on the way back (half a pixel and a share of its length), and the square of
    how often it misses by that, 50 at most."""
    tolerance, square = np.empty(error.size, np.float32), np.empty(error.size, np.float32)
    flat, misses = flow.reshape(-1), error.reshape(-1)
    for k in range(error.size):
        i = TWO * np.uintp(k)
        u, v = flat[i], flat[i + ONE_ON]
        allowed = HALF + np.float32(share) * np.sqrt(u * u + v * v)
        ratio = misses[k] / allowed
        ratio *= ratio
        tolerance[k] = allowed
        square[k] = ratio if ratio < np.float32(50.0) else np.float32(50.0)
    return tolerance.reshape(error.shape), square.reshape(error.shape)


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def significance(residual: Float[np.ndarray, "H W 2"], scale: float) -> Float[np.ndarray, "H W"]:
    """Length of a residual against its scale in pixels, 0 to 1."""
    out = np.empty(residual.size // 2, np.float32)
    noise = np.float32(3.0 * scale + 0.3)
    flat = residual.reshape(-1)
    for k in range(out.size):
        i = TWO * np.uintp(k)
        length = np.sqrt(flat[i] * flat[i] + flat[i + ONE_ON] * flat[i + ONE_ON])
        out[k] = length / (length + noise)
    return out.reshape(residual.shape[:2])


@njit(cache=True, nogil=True)
def region_sums(labels: Int[np.ndarray, " A"], values: Float[np.ndarray, " A"], count: int) -> Float[np.ndarray, " n"]:
    """See ``motion.superpixels.region_sum``; as ``np.bincount`` has it."""
    out = np.zeros(count)
    for k in range(len(labels)):
        out[np.uintp(labels[k])] += values[k]
    return out


@njit(cache=True, nogil=True)
def weighted_mean(values: Float[np.ndarray, "p H W"], weights: Float[np.ndarray, "p H W"]) -> Float[np.ndarray, "H W"]:
    """Mean over the first axis."""
    pairs, height, width = values.shape
    out, total = np.zeros((height, width), np.float32), np.empty(width, np.float32)
    for row in range(height):
        total[:] = 0.0
        for p in range(pairs):
            for col in range(width):
                out[row, col] += values[p, row, col] * weights[p, row, col]
                total[col] += weights[p, row, col]
        for col in range(width):
            out[row, col] /= total[col]
    return out


@njit(cache=True, nogil=True)
def lower_quantile(
    values: Float[np.ndarray, "M H W"], share: float
) -> tuple[Float[np.ndarray, "H W"], Int[np.ndarray, "H W"]]:
    """The quantile over the first axis of what is finite, 0 where nothing is; and how much is.

    Only as many of the least values are kept as the quantile asks for.
    """
    count, height, width = values.shape
    kept = int(np.rint(share * (count - 1))) + 1
    least, known = np.empty((kept, width), np.float32), np.empty((height, width), np.int32)
    out = np.empty((height, width), np.float32)
    for row in range(height):
        least[:] = np.inf
        known[row] = 0
        for m in range(count):
            for col in range(width):
                value = values[m, row, col]
                known[row, col] += np.int32(1) if value < np.float32(np.inf) else np.int32(0)
                for k in range(kept):
                    before = least[k, col]
                    least[k, col] = value if value < before else before
                    value = before if value < before else value
        for col in range(width):
            found = least[int(np.rint(share * max(known[row, col] - 1, 0))), col]
            out[row, col] = found if known[row, col] > 0 else np.float32(0.0)
    return out, known
