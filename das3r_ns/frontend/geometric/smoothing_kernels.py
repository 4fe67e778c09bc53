"""Compiled loops of smoothing along the edges of a picture."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numba import njit

FAST = {"nnan", "ninf", "nsz", "reassoc", "contract", "arcp"}
"""Fast arithmetic but for functions."""

STRIP = 32
"""Rows that are turned and solved together: they stay in the nearest caches."""


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _eliminate(guide, ratio, inverse, before, lines, at, strength, first, last):
    """One step of the Thomas algorithm for many lines: ``ratio``, and what values are to be multiplied by."""
    to_last, to_next = 0.0 if first else strength, 0.0 if last else strength
    behind = at if first else at - np.uintp(lines)
    for p in range(lines):
        i, b = at + np.uintp(p), behind + np.uintp(p)
        near = to_last * guide[b]
        after = to_next * guide[i]
        inverse[p] = 1.0 / (1.0 + near + after + near * (0.0 if first else ratio[b]))
        ratio[i] = -after * inverse[p]
        before[p] = near


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _forward(values, inverse, before, lines, at, behind):
    for p in range(lines):
        i = at + np.uintp(p)
        values[i] = (values[i] + before[p] * values[behind + np.uintp(p)]) * inverse[p]


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _backward(values, ratio, lines, at, place):
    for p in range(lines):
        values[at + np.uintp(p)] -= ratio[place + np.uintp(p)] * values[at + np.uintp(lines + p)]


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _smooth_lines(values, guide, strength, channels, length, lines):
    """Solve (1 + strength * Laplacian) x = values along the second of three axes, in place (Thomas algorithm).

    Args:
        values: channels x length x lines, flat.
        guide: length x lines, flat.
        strength: Factor of the guide.
        channels: Pictures.
        length: Of a line.
        lines: That are solved side by side.
    """
    size = np.uintp(length * lines)
    ratio = np.empty(length * lines, np.float32)
    inverse, before = np.empty(lines), np.empty(lines)
    for k in range(length):
        at = np.uintp(k * lines)
        _eliminate(guide, ratio, inverse, before, lines, at, strength, k == 0, k + 1 == length)
        for c in range(channels):
            here = np.uintp(c) * size + at
            _forward(values, inverse, before, lines, here, here if k == 0 else here - np.uintp(lines))
    for k in range(length - 2, -1, -1):
        for c in range(channels):
            _backward(values, ratio, lines, np.uintp(c) * size + np.uintp(k * lines), np.uintp(k * lines))


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def smooth_along_image(
    values: Float[np.ndarray, "C H W"],
    across: Float[np.ndarray, "H W"],
    down: Float[np.ndarray, "H W"],
    strength: float,
    rounds: int,
) -> Float[np.ndarray, "C H W"]:
    """Edge-aware smoothing by alternating one-dimensional solves (Min et al., TIP 2014, eq. 7 and section III-B).

    Args:
        values: Pictures to smooth, all alike.
        across: Likeness, 0 to 1, of each pixel and the one to its right.
        down: Likeness of each pixel and the one below.
        strength: How far to smooth.
        rounds: Number of pairs of passes, each a quarter as strong as the last.
    """
    channels, height, width = values.shape
    out = values.copy()
    strips = (height + STRIP - 1) // STRIP
    guides = np.zeros((strips, width, STRIP), np.float32)
    for row in range(height):
        for col in range(width):
            guides[row // STRIP, col, row % STRIP] = across[row, col]
    turned = np.zeros((channels, width, STRIP), np.float32)
    for k in range(rounds):
        lam = 1.5 * strength * 4.0 ** (rounds - 1 - k) / (4.0**rounds - 1.0)
        for s in range(strips):
            rows = out[:, s * STRIP : (s + 1) * STRIP]
            for c in range(channels):
                for r in range(rows.shape[1]):
                    for col in range(width):
                        turned[c, col, r] = rows[c, r, col]
            _smooth_lines(turned.reshape(-1), guides[s].reshape(-1), lam, channels, width, STRIP)
            for c in range(channels):
                for r in range(rows.shape[1]):
                    for col in range(width):
                        rows[c, r, col] = turned[c, col, r]
        _smooth_lines(out.reshape(-1), down.reshape(-1), lam, channels, height, width)
    return out
