"""Compiled loops of ``optics``: where the pinhole shows what a lens bends, and the derivatives of that."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numba import njit

STEEPEST = 0.05
"""How slowly the picture may grow with the distance from its centre, at least: where the model would fold it over."""

NEWTON_STEPS = 10
"""Steps by which the radius is straightened; four suffice for any lens that has been seen."""


@njit(cache=True, nogil=True, fastmath=False, error_model="numpy")
def straightened(
    points: Float[np.ndarray, "M K 2"],
    shrink: Float[np.ndarray, " M"],
    bend: Float[np.ndarray, " 2"],
    centre: Float[np.ndarray, " 2"],
    unit: float,
) -> Float[np.ndarray, "M K 2"]:
    """Image coordinates as the pinhole has them, float32: the radius by Newton's method, then the zoom.

    Args:
        points: Image coordinates as they were filmed.
        shrink: exp(-z) of each row's frame.
        bend: b1 and b2.
        centre: Principal point.
        unit: Pixels in which a radius is 1.
    """
    out = np.empty(points.shape, dtype=np.float32)
    b1, b2 = bend[0], bend[1]
    bends = b1 != 0.0 or b2 != 0.0
    for m in range(points.shape[0]):
        for k in range(points.shape[1]):
            x = points[m, k, 0] - centre[0]
            y = points[m, k, 1] - centre[1]
            if bends:
                seen = np.sqrt(x * x + y * y) / unit
                radius = seen
                for _ in range(NEWTON_STEPS):
                    square = radius * radius
                    slope = max(1.0 + 3.0 * b1 * square + 5.0 * b2 * (square * square), STEEPEST)
                    growth = 1.0 + b1 * square + b2 * (square * square)
                    before = radius
                    radius = min(max(radius - (radius * growth - seen) / slope, 0.0), 3.0)
                    if radius == before:  # and so it would stay
                        break
                square = radius * radius
                factor = 1.0 / (1.0 + b1 * square + b2 * (square * square))
                x *= factor
                y *= factor
            out[m, k, 0] = centre[0] + shrink[m] * x
            out[m, k, 1] = centre[1] + shrink[m] * y
    return out


@njit(cache=True, nogil=True, fastmath=False, error_model="numpy")
def slopes(
    straight: Float[np.ndarray, "M K 2"],
    grow: Float[np.ndarray, " M"],
    bend: Float[np.ndarray, " 2"],
    centre: Float[np.ndarray, " 2"],
    unit: float,
    columns: int,
) -> Float[np.ndarray, "M K 2 P"]:
    """Derivatives of :func:`straightened` for z, b1 and b2, float32.

    Args:
        straight: What it gave.
        grow: exp(z) of each row's frame.
        bend: b1 and b2.
        centre: Principal point.
        unit: Pixels in which a radius is 1.
        columns: P, 3 or more; what is beyond the three is 0.
    """
    rows, count = straight.shape[:2]
    out = np.zeros((rows, count, 2, columns), dtype=np.float32)
    b1, b2 = bend[0], bend[1]
    for m in range(rows):
        for k in range(count):
            x = straight[m, k, 0] - centre[0]
            y = straight[m, k, 1] - centre[1]
            u = x * grow[m] / unit
            v = y * grow[m] / unit
            square = u * u + v * v
            # v (1 + b1 s^2 + b2 s^4) stays as it is, and v keeps its direction.
            rate = -1.0 / max(1.0 + 3.0 * b1 * square + 5.0 * b2 * (square * square), STEEPEST)
            first, second = rate * square, rate * (square * square)
            out[m, k, 0, 0], out[m, k, 1, 0] = -x, -y
            out[m, k, 0, 1], out[m, k, 1, 1] = x * first, y * first
            out[m, k, 0, 2], out[m, k, 1, 2] = x * second, y * second
    return out
