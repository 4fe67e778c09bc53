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
