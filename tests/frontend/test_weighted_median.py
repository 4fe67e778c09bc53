"""Order statistics with weights, on cases whose answer is known by hand."""

from __future__ import annotations

import numpy as np

from das3r_ns.frontend.weighted_median import weighted_median


def test_half_of_the_weight_decides() -> None:
    values = np.array([5.0, 1.0, 3.0])
    assert weighted_median(values, np.array([1.0, 1.0, 3.0])) == 3.0
    assert weighted_median(values, np.array([9.0, 1.0, 3.0])) == 5.0
    assert weighted_median(values, np.array([0.0, 1.0, 0.0])) == 1.0


def test_row_by_row_and_without_weight() -> None:
    values = np.array([[5.0, 1.0, 3.0], [2.0, 8.0, 4.0], [7.0, 9.0, 8.0]])
    weights = np.array([[1.0, 1.0, 1.0], [1.0, 9.0, 1.0], [0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(weighted_median(values, weights), [3.0, 8.0, 8.0])


def test_equal_weights_are_the_plain_median() -> None:
    values = np.random.default_rng(0).normal(size=(4, 101))
    np.testing.assert_array_equal(weighted_median(values, np.ones_like(values)), np.median(values, axis=1))
