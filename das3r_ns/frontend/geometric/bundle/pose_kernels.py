"""Compiled loops over the edges of a video: relative poses and their adjoints, of which a step asks several times."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from numba import njit


@njit(cache=True, nogil=True, error_model="numpy")
def relative_poses(
    w2c: Float[np.ndarray, "N 4 4"], sources: Int[np.ndarray, " E"], sinks: Int[np.ndarray, " E"]
) -> Float[np.ndarray, "E 4 4"]:
    """Motion from the camera of each source to that of its sink."""
    out = np.zeros((len(sources), 4, 4))
    for e in range(len(sources)):
        there, here = w2c[sinks[e]], w2c[sources[e]]
        out[e, 3, 3] = 1.0
        for a in range(3):
            shift = there[a, 3]
            for b in range(3):
                turn = 0.0
                for c in range(3):
                    turn += there[a, c] * here[b, c]
                out[e, a, b] = turn
                shift -= turn * here[b, 3]
            out[e, a, 3] = shift
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def adjoints(pose: Float[np.ndarray, "E 4 4"]) -> Float[np.ndarray, "E 6 6"]:
    """Adjoint matrices for tangents in the order translation, rotation."""
    out = np.zeros((len(pose), 6, 6))
    for e in range(len(pose)):
        x, y, z = pose[e, 0, 3], pose[e, 1, 3], pose[e, 2, 3]
        for b in range(3):
            r0, r1, r2 = pose[e, 0, b], pose[e, 1, b], pose[e, 2, b]
            out[e, 0, b] = out[e, 3, 3 + b] = r0
            out[e, 1, b] = out[e, 4, 3 + b] = r1
            out[e, 2, b] = out[e, 5, 3 + b] = r2
            out[e, 0, 3 + b] = y * r2 - z * r1
            out[e, 1, 3 + b] = z * r0 - x * r2
            out[e, 2, 3 + b] = x * r1 - y * r0
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def moved_poses(step: Float[np.ndarray, "N 6"], w2c: Float[np.ndarray, "N 4 4"]) -> Float[np.ndarray, "N 4 4"]:
    """exp(step) times each pose; see ``scene.geometry.se3_exp``."""
    out = np.zeros((len(step), 4, 4))
    hat, motion = np.zeros((3, 3)), np.zeros((3, 4))
    for n in range(len(step)):
        x, y, z = step[n, 3], step[n, 4], step[n, 5]
        square = x * x + y * y + z * z
        angle = np.sqrt(square)
        if angle < 1e-4:  # where the closed forms would cancel
            a, b, c = 1.0 - square / 6.0, 0.5 - square / 24.0, 1.0 / 6.0 - square / 120.0
        else:
            a, b = np.sin(angle) / angle, (1.0 - np.cos(angle)) / square
            c = (angle - np.sin(angle)) / (square * angle)
        hat[0, 1], hat[0, 2], hat[1, 0] = -z, y, z
        hat[1, 2], hat[2, 0], hat[2, 1] = -x, -y, x
        for i in range(3):
            shift = 0.0
            for j in range(3):
                twice = 0.0
                for k in range(3):
                    twice += hat[i, k] * hat[k, j]
                same = 1.0 if i == j else 0.0
                motion[i, j] = same + a * hat[i, j] + b * twice
                shift += (same + b * hat[i, j] + c * twice) * step[n, j]
            motion[i, 3] = shift
        for i in range(3):
            for j in range(4):
                total = motion[i, 3] if j == 3 else 0.0
                for k in range(3):
                    total += motion[i, k] * w2c[n, k, j]
                out[n, i, j] = total
        out[n, 3, 3] = 1.0
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def moved_depths(
    inverse_depth: Float[np.ndarray, "N K"], delta: Float[np.ndarray, "N K"], low: float, high: float, within: bool
) -> Float[np.ndarray, "N K"]:
    """Inverse depths after a step, which neither more than halves nor doubles them, within bounds.

    Args:
        inverse_depth: As they were.
        delta: The step.
        low: Least one.
        high: Largest one.
        within: Whether what was beyond the bounds is drawn back into them.
    """
    out = np.empty(inverse_depth.shape)
    for n in range(inverse_depth.shape[0]):
        for k in range(inverse_depth.shape[1]):
            d = inverse_depth[n, k]
            moved = d + delta[n, k]
            least, most = 0.5 * d, 2.0 * d + 1e-3
            moved = moved if moved > least else least
            moved = moved if moved < most else most
            least, most = low, high
            if not within:
                least, most = d if d < low else low, d if d > high else high
            moved = moved if moved > least else least
            out[n, k] = moved if moved < most else most
    return out
