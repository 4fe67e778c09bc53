"""Order statistics with weights, for every step that must not believe all it is given."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

RAYLEIGH_MEDIAN = 1.1774
"""Median length of a 2-vector of independent normal numbers of standard deviation 1."""


def weighted_median(
    values: Float[np.ndarray, "*batch K"], weights: Float[np.ndarray, "*batch K"]
) -> Float[np.ndarray, "*batch"]:
    """Weighted median along the last axis; the plain lower median's value where there is no weight."""
    order = np.argsort(values, axis=-1)
    ranked = np.take_along_axis(weights, order, axis=-1).cumsum(axis=-1)
    total = ranked[..., -1:]
    ranked = np.where(total > 0, ranked, np.arange(1, values.shape[-1] + 1))
    half = 0.5 * ranked[..., -1:]
    middle = (ranked < half).sum(axis=-1, keepdims=True).clip(max=values.shape[-1] - 1)
    return np.take_along_axis(values, np.take_along_axis(order, middle, axis=-1), axis=-1)[..., 0]
