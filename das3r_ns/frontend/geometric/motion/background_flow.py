"""Two-dimensional background motion: one smooth quadratic flow field per pair of frames, fitted robustly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from das3r_ns.frontend.weighted_median import weighted_median

GRID_STEP = 8
ITERATIONS = 8
STARTS = 64
"""Affine fields through three random points each that are tried as a start."""

START_SCALE = 0.5
"""Pixels by which a point may differ from a start that it supports."""

MIN_SCALE = 0.15
"""Pixels; the scale of the residuals is never taken for smaller than DIS's own noise."""

RIDGE = 1e-3 * np.diag([0, 0.1, 0.1, 1, 1, 1])
"""Keeps the curvature of the field small where few points determine it."""


@dataclass(frozen=True)
class BackgroundFlow:
    """The flow of the background of one pair, and how well it fits."""

    coefficients: Float[np.ndarray, "6 2"]
    """Of :func:`quadratic_basis`, in pixels."""
    scale: float
    """Robust standard deviation, in pixels, of what the field leaves unexplained."""

    def flow(self, height: int, width: int, step: int = 1) -> Float[np.ndarray, "h w 2"]:
        """Displacement in pixels the background shows, float32, at every so many rows and columns."""
        x, y = (np.linspace(-1, 1, side, dtype=np.float32)[::step] for side in (width, height))
        y = y[:, None]
        c = self.coefficients.astype(np.float32)
        components = [(a[0] + a[1] * x + a[3] * x * x) + (a[2] * y + a[5] * y * y) + (a[4] * y) * x for a in c.T]
        return np.stack(components, axis=-1)


def quadratic_basis(x: Float[np.ndarray, "*shape"], y: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape 6"]:
    """[1, x, y, x^2, xy, y^2] at normalised coordinates: a turning camera, or a plane, to second order."""
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)


def fit_background(flow: Float[np.ndarray, "H W 2"]) -> BackgroundFlow:
    """Fit a quadratic flow field by iteratively reweighted least squares with the Geman-McClure weight.

    The edge of the picture counts more, since what moves on its own is more often near the middle. The start is the
    affine field through three points that most of the picture agrees with, and the scale is annealed, so that a mover
    of a third of the picture does not catch the fit even in a corner.

    Args:
        flow: Displacement from one frame to another, in pixels.
    """
    height, width = flow.shape[:2]
    rows, columns = (slice(min(GRID_STEP, size) // 2, None, GRID_STEP) for size in (height, width))
    sampled = flow[rows, columns].reshape(-1, 2).astype(np.float64)
    x, y = np.meshgrid(np.linspace(-1, 1, width)[columns], np.linspace(-1, 1, height)[rows])
    x, y = x.ravel(), y.ravel()
    basis = quadratic_basis(x, y)
    prior = 0.25 + np.maximum(abs(x), abs(y)) ** 2
    coefficients = _start(basis, sampled, prior)
    scale = MIN_SCALE
    for iteration in range(ITERATIONS):
        residual = np.linalg.norm(sampled - basis @ coefficients, axis=1)
        scale = _scale(residual, prior, max(1.0, 2.5 - 0.4 * iteration))
        coefficients = _solve(basis, sampled, prior / (1 + (residual / scale) ** 2) ** 2)
    residual = np.linalg.norm(sampled - basis @ coefficients, axis=1)
    return BackgroundFlow(coefficients, _scale(residual, prior, 1.0))


def _scale(residual: Float[np.ndarray, " M"], prior: Float[np.ndarray, " M"], factor: float) -> float:
    return max(MIN_SCALE, factor * 1.4826 * float(weighted_median(residual, prior)))


def _solve(
    basis: Float[np.ndarray, "M 6"], sampled: Float[np.ndarray, "M 2"], weights: Float[np.ndarray, " M"]
) -> Float[np.ndarray, "6 2"]:
    weighted = basis * (weights / weights.sum())[:, None]
    return np.linalg.solve(weighted.T @ basis + RIDGE, weighted.T @ sampled)


def _start(
    basis: Float[np.ndarray, "M 6"], sampled: Float[np.ndarray, "M 2"], prior: Float[np.ndarray, " M"]
) -> Float[np.ndarray, "6 2"]:
    """The candidate that most of the picture agrees with: least squares, or affine through three points."""
    candidates = np.zeros((STARTS + 1, 6, 2))
    candidates[0] = _solve(basis, sampled, prior)
    chosen = np.random.default_rng(0).integers(0, len(sampled), (STARTS, 3))
    normal = np.swapaxes(basis[chosen, :3], 1, 2)
    # The ridge keeps three points in a row, or twice the same point, from a field that grows without bound.
    gram = normal @ np.swapaxes(normal, 1, 2) + 1e-3 * np.eye(3)
    candidates[1:, :3] = np.linalg.solve(gram, normal @ sampled[chosen])
    predicted = basis @ np.moveaxis(candidates, 0, 1).reshape(6, -1)
    square = ((predicted.reshape(len(basis), -1, 2) - sampled[:, None]) ** 2).sum(axis=-1)
    cost = prior @ (square / (square + START_SCALE**2))
    return candidates[cost.argmin()]
