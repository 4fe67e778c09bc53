"""Compiled loop of ``shutter``: what a turn and a shift during a row do to directions."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numba import njit


@njit(cache=True, nogil=True, error_model="numpy")
def moved(
    directions: Float[np.ndarray, "M 2"],
    moments: Float[np.ndarray, " M"],
    motion: Float[np.ndarray, "2 6"],
) -> Float[np.ndarray, "M 2"]:
    """Directions (x, y, 1) after R(s) (x, y, 1) + t(s), to the third power of an angle of a few degrees.

    Args:
        directions: x and y.
        moments: s of the row that shows each, in frame times from the middle one.
        motion: a and b: after s frame times s a + s^2 b, translation first, then rotation vector.
    """
    out = np.empty_like(directions)
    a, b = motion[0], motion[1]
    for n in range(len(moments)):
        s = moments[n]
        square = s * s
        x, y = directions[n, 0], directions[n, 1]
        wx = s * a[3] + square * b[3]
        wy = s * a[4] + square * b[4]
        wz = s * a[5] + square * b[5]
        cx, cy, cz = wy - wz * y, wz * x - wx, wx * y - wy * x
        px = x + cx + 0.5 * (wy * cz - wz * cy) + (s * a[0] + square * b[0])
        py = y + cy + 0.5 * (wz * cx - wx * cz) + (s * a[1] + square * b[1])
        pz = 1.0 + cz + 0.5 * (wx * cy - wy * cx) + (s * a[2] + square * b[2])
        out[n, 0] = px / pz
        out[n, 1] = py / pz
    return out
