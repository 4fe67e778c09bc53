"""Small dense linear algebra of the pose solver: damped steps."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from jaxtyping import Bool, Float


def solve_positive(matrix: Float[np.ndarray, "L L"], right: Float[np.ndarray, " L"]) -> Float[np.ndarray, " L"]:
    """Solve a positive definite system, damped further for as long as rounding keeps it from being one."""
    damping = 0.0
    while True:
        try:
            factor = scipy.linalg.cho_factor(matrix + damping * np.diag(np.diag(matrix)), check_finite=False)
            return scipy.linalg.cho_solve(factor, right, check_finite=False)
        except np.linalg.LinAlgError:
            if damping > 1e6:
                return np.zeros_like(right)
            damping = max(1e-6, 100 * damping)


def damped_step(
    hessian: Float[np.ndarray, "L L"], gradient: Float[np.ndarray, " L"], free: Bool[np.ndarray, " L"], damping: float
) -> Float[np.ndarray, " L"]:
    """Damped step of the free unknowns, zero for the others."""
    if not free.any():
        return np.zeros(len(gradient))
    h = hessian[np.ix_(free, free)]
    diagonal = np.diag(h)
    h = h + np.diag(damping * diagonal + 1e-9 * diagonal.max() + 1e-12)
    step = np.zeros(len(gradient))
    step[free] = -solve_positive(h, gradient[free])
    return step
