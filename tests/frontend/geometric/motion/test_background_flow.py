"""The two-dimensional background survives movers."""

import numpy as np
import pytest

from das3r_ns.frontend.geometric.motion.background_flow import MIN_SCALE, fit_background, quadratic_basis

HEIGHT, WIDTH = 120, 200
COEFFICIENTS = np.array([[3.0, -1.0], [1.5, 0.2], [-0.4, 2.0], [0.5, 0.3], [-0.3, 0.4], [0.2, -0.6]])


def _field() -> np.ndarray:
    x, y = np.meshgrid(np.linspace(-1, 1, WIDTH), np.linspace(-1, 1, HEIGHT))
    return (quadratic_basis(x, y) @ COEFFICIENTS).astype(np.float32)


def test_recovers_a_quadratic_field_under_outliers() -> None:
    field = _field()
    corrupted = field.copy()
    # 30 % of the picture moves on its own, touching one edge.
    corrupted[30:110, 110:200] += (9.0, -6.0)
    assert np.isclose((corrupted != field).any(axis=-1).mean(), 0.3)
    found = fit_background(corrupted)
    assert np.abs(found.flow(HEIGHT, WIDTH) - field).max() < 0.25
    assert found.scale < 2 * MIN_SCALE


def test_scale_is_the_noise() -> None:
    noise = np.random.default_rng(0).normal(0, 1.0, (HEIGHT, WIDTH, 2)).astype(np.float32)
    # The median length of a two-dimensional normal vector is sqrt(2 ln 2).
    expected = 1.4826 * np.sqrt(2 * np.log(2))
    assert fit_background(_field() + noise).scale == pytest.approx(expected, rel=0.1)


def test_tiny_picture() -> None:
    found = fit_background(np.full((5, 6, 2), 2.0, np.float32))
    assert np.allclose(found.flow(5, 6), 2.0, atol=0.01)
