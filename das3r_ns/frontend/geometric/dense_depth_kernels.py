"""Compiled inner loops over pixels: inverse depth from many flows, agreement between frames, edge-aware smoothing."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numba import njit

SAME_START = 0.1
"""Relative difference of two inverse depths up to which one of them is as good a start as the other."""

MIN_Z = 0.02
"""As in the bundle adjustment: a point nearer than this to the other camera's plane has no projection."""


@njit(cache=True, nogil=True)
def _cost(d, x, y, rays, offsets, targets, weights, scales, row, col, fx, cx, cy):
    """Sum of the Geman-McClure losses of one pixel at inverse depth d."""
    total = 0.0
    for e in range(len(weights)):
        w = weights[e, row, col]
        if w <= 0.0:
            continue
        h, t = rays[e], offsets[e]
        qz = h[2, 0] * x + h[2, 1] * y + h[2, 2] + t[2] * d
        if qz < MIN_Z:
            total += w
            continue
        ru = fx * (h[0, 0] * x + h[0, 1] * y + h[0, 2] + t[0] * d) / qz + cx - targets[e, row, col, 0] - col - 0.5
        rv = fx * (h[1, 0] * x + h[1, 1] * y + h[1, 2] + t[1] * d) / qz + cy - targets[e, row, col, 1] - row - 0.5
        square = ru * ru + rv * rv
        s = scales[e, row, col]
        total += w * square / (s * s + square)
    return total


@njit(cache=True, nogil=True)
def _refine(d, x, y, rays, offsets, targets, weights, scales, row, col, fx, cx, cy, widen, steps, low, high):
    """Gauss-Newton steps of one inverse depth; returns it with its information in 1 / px^2."""
    information = 0.0
    for _ in range(steps):
        information = 0.0
        gradient = 0.0
        for e in range(len(weights)):
            w = weights[e, row, col]
            if w <= 0.0:
                continue
            h, t = rays[e], offsets[e]
            qz = h[2, 0] * x + h[2, 1] * y + h[2, 2] + t[2] * d
            if qz < MIN_Z:
                continue
            px = (h[0, 0] * x + h[0, 1] * y + h[0, 2] + t[0] * d) / qz
            py = (h[1, 0] * x + h[1, 1] * y + h[1, 2] + t[1] * d) / qz
            ru = fx * px + cx - targets[e, row, col, 0] - col - 0.5
            rv = fx * py + cy - targets[e, row, col, 1] - row - 0.5
            ju = fx / qz * (t[0] - px * t[2])
            jv = fx / qz * (t[1] - py * t[2])
            s = widen * scales[e, row, col]
            ratio = 1.0 + (ru * ru + rv * rv) / (s * s)
            w = w / (s * s * ratio * ratio)
            information += w * (ju * ju + jv * jv)
            gradient += w * (ju * ru + jv * rv)
        if information <= 0.0:
            return d, 0.0
        d = min(max(d - gradient / information, max(0.5 * d, low)), min(2.0 * d, high))
    return d, information


@njit(cache=True, nogil=True)
def inverse_depth_from_flows(
    start: Float[np.ndarray, "S H W"],
    flows: Float[np.ndarray, "M H W 2"],
    weights: Float[np.ndarray, "M H W"],
    scales: Float[np.ndarray, "M H W"],
    rays: Float[np.ndarray, "M 3 3"],
    offsets: Float[np.ndarray, "M 3"],
    focal: float,
    bounds: tuple[float, float],
) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Inverse depth of every pixel of one frame, cameras held, from all the flows that leave it.

    Args:
        start: Inverse depths to start from; the one that fits best is refined.
        flows: Displacement of each pixel, in pixels.
        weights: How far each is to be believed.
        scales: Geman-McClure scale of each, in pixels.
        rays: Rotations of the relative poses.
        offsets: Translations of the relative poses.
        focal: In pixels; the principal point is the centre.
        bounds: Smallest and largest inverse depth.

    Returns:
        Inverse depth; its information (one over the variance, at residuals of one scale); and the loss per weight, 0
        (all flows agree) to 1 (none does, or there is none).
    """
    height, width = start.shape[1:]
    cx, cy = width / 2, height / 2
    low, high = bounds
    inverse_depth = np.empty((height, width), dtype=np.float32)
    information = np.empty((height, width), dtype=np.float32)
    loss = np.empty((height, width), dtype=np.float32)
    for row in range(height):
        for col in range(width):
            x = (col + 0.5 - cx) / focal
            y = (row + 0.5 - cy) / focal
            total = 0.0
            for e in range(len(weights)):
                total += weights[e, row, col]
            best = float(start[0, row, col])
            if total <= 1e-6:
                inverse_depth[row, col] = best
                information[row, col] = 0.0
                loss[row, col] = 1.0
                continue
            best_cost = 1e30
            for s in range(len(start)):
                d = min(max(float(start[s, row, col]), low), high)
                if s > 0 and abs(d - start[0, row, col]) < SAME_START * d:
                    continue  # on smooth ground the starts differ by less than the first step mends
                d, _ = _refine(
                    d, x, y, rays, offsets, flows, weights, scales, row, col, focal, cx, cy, 4.0, 3, low, high
                )
                cost = _cost(d, x, y, rays, offsets, flows, weights, scales, row, col, focal, cx, cy)
                if cost < best_cost:
                    best, best_cost = d, cost
            best, info = _refine(
                best, x, y, rays, offsets, flows, weights, scales, row, col, focal, cx, cy, 1.0, 4, low, high
            )
            inverse_depth[row, col] = best
            information[row, col] = info
            loss[row, col] = best_cost / total
    return inverse_depth, information, loss


@njit(cache=True, nogil=True)
def compare_frames(
    inverse_depth: Float[np.ndarray, "H W"],
    others: Float[np.ndarray, "M H W"],
    trust: Float[np.ndarray, "M H W"],
    rays: Float[np.ndarray, "M 3 3"],
    offsets: Float[np.ndarray, "M 3"],
    focal: float,
    tolerance: float,
    far: float,
) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Look up every point of one frame in the depth of others.

    Args:
        inverse_depth: Of the frame.
        others: Inverse depths of the other frames.
        trust: Weight of each of their pixels.
        rays: Rotations of the relative poses from the frame to the others.
        offsets: Translations.
        focal: In pixels.
        tolerance: Relative difference of inverse depth that counts as agreement.
        far: Inverse depth below which the difference is taken relative to this instead.

    Returns:
        Weighted sum of the others' inverse depths that agree, brought into the frame; their weight; and the weight of
        those that should agree and do not. A surface in front of the point may hide it and says nothing; one behind it
        contradicts it.
    """
    height, width = inverse_depth.shape
    cx, cy = width / 2, height / 2
    summed = np.zeros((height, width), dtype=np.float32)
    agree = np.zeros((height, width), dtype=np.float32)
    contradict = np.zeros((height, width), dtype=np.float32)
    for row in range(height):
        for col in range(width):
            x = (col + 0.5 - cx) / focal
            y = (row + 0.5 - cy) / focal
            d = inverse_depth[row, col]
            for e in range(len(others)):
                h, t = rays[e], offsets[e]
                base = h[2, 0] * x + h[2, 1] * y + h[2, 2]
                qz = base + t[2] * d
                if qz < MIN_Z:
                    continue
                u = int(np.floor(focal * (h[0, 0] * x + h[0, 1] * y + h[0, 2] + t[0] * d) / qz + cx))
                v = int(np.floor(focal * (h[1, 0] * x + h[1, 1] * y + h[1, 2] + t[1] * d) / qz + cy))
                if u < 0 or v < 0 or u >= width or v >= height:
                    continue
                w = trust[e, v, u]
                if w <= 0.0:
                    continue
                other = others[e, v, u]
                expected = d / qz
                if abs(other - expected) < tolerance * max(expected, far):
                    # The d of this frame that the other one means solves 1 / other = (base + t_z d) / d.
                    denominator = 1.0 / other - t[2]
                    if denominator > 1e-9:
                        summed[row, col] += w * base / denominator
                        agree[row, col] += w
                elif other < expected:
                    contradict[row, col] += w
    return summed, agree, contradict


@njit(cache=True, nogil=True)
def _smooth_lines(values: Float[np.ndarray, "C L P"], guide: Float[np.ndarray, "L P"], strength: float) -> None:
    """Solve (1 + strength * Laplacian) x = values along the second axis of every line, in place (Thomas algorithm)."""
    channels, length, lines = values.shape
    ratio = np.empty((length, lines), dtype=np.float32)
    for p in range(lines):
        ratio[0, p] = 0.0
    previous = np.zeros(lines, dtype=np.float32)
    for k in range(length):
        for p in range(lines):
            before = -strength * guide[k - 1, p] if k > 0 else 0.0
            after = -strength * guide[k, p] if k + 1 < length else 0.0
            pivot = 1.0 - before - after - before * previous[p]
            previous[p] = after / pivot
            ratio[k, p] = previous[p]
            for c in range(channels):
                above = values[c, k - 1, p] if k > 0 else 0.0
                values[c, k, p] = (values[c, k, p] - before * above) / pivot
    for k in range(length - 2, -1, -1):
        for p in range(lines):
            for c in range(channels):
                values[c, k, p] -= ratio[k, p] * values[c, k + 1, p]


@njit(cache=True, nogil=True)
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
    out = values.copy()
    flipped = np.ascontiguousarray(across.T)
    for k in range(rounds):
        lam = 1.5 * strength * 4.0 ** (rounds - 1 - k) / (4.0**rounds - 1.0)
        turned = np.ascontiguousarray(out.transpose(0, 2, 1))
        _smooth_lines(turned, flipped, lam)
        out = np.ascontiguousarray(turned.transpose(0, 2, 1))
        _smooth_lines(out, down, lam)
    return out
