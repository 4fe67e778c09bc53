"""Compiled loop of ``geometry.rigid_flow``."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from numba import njit


@njit(cache=True, nogil=True, error_model="numpy")
def rigid_flow(
    depth: Float[np.ndarray, "h w"],
    homography: Float[np.ndarray, "3 3"],
    parallax: Float[np.ndarray, " 3"],
    step: int,
    size: tuple[int, int],
    least: float,
) -> tuple[Float[np.ndarray, "h w 2"], Bool[np.ndarray, "h w"]]:
    """Flow by x_j ~ A x_i z + b, and whether the point is in front of the camera and in its picture.

    Args:
        depth: z of every so many rows and columns, float32.
        homography: A, float32.
        parallax: b, float32.
        step: How many.
        size: Width and height of the picture.
        least: Depth of what lies in front of a camera, at least.
    """
    height, width = depth.shape
    flow, valid = np.empty((height, width, 2), np.float32), np.empty((height, width), np.bool_)
    zero, half, one, near = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(least)
    right, bottom = np.float32(size[0]), np.float32(size[1])
    a, b = homography, parallax
    for row in range(height):
        y = np.float32(row * step) + half
        for col in range(width):
            x, far = np.float32(col * step) + half, depth[row, col]
            z = far * (a[2, 0] * x + a[2, 1] * y + a[2, 2]) + b[2]
            front = (far > near) & (z > near)
            inverse = one / (z if front else one)
            u = (far * (a[0, 0] * x + a[0, 1] * y + a[0, 2]) + b[0]) * inverse
            v = (far * (a[1, 0] * x + a[1, 1] * y + a[1, 2]) + b[1]) * inverse
            valid[row, col] = front & (u >= zero) & (v >= zero) & (u <= right) & (v <= bottom)
            flow[row, col, 0] = u - x if front else zero
            flow[row, col, 1] = v - y if front else zero
    return flow, valid
