"""Poses over edges and steps, against the geometry that everything else uses."""

from __future__ import annotations

import numpy as np
import pytest

from das3r_ns.frontend.geometric.bundle import pose_kernels as kernels
from das3r_ns.scene import geometry as geo

COUNT = 7


@pytest.fixture
def w2c() -> np.ndarray:
    return geo.se3_exp(np.random.default_rng(0).normal(0, 0.8, (COUNT, 6)))


def test_relative_poses_and_adjoints(w2c: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    sources, sinks = rng.integers(0, COUNT, (2, 20))
    found = kernels.relative_poses(w2c, sources, sinks)
    np.testing.assert_allclose(found, w2c[sinks] @ geo.invert_rigid(w2c)[sources], atol=1e-14)
    # Ad(T) x is the tangent of T exp(x) T^-1.
    step = 1e-3 * rng.normal(size=6)
    for pose, adjoint in zip(found, kernels.adjoints(found), strict=True):
        np.testing.assert_allclose(geo.se3_log(pose @ geo.se3_exp(step) @ geo.invert_rigid(pose)), adjoint @ step)


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e-6, 0.0])
def test_poses_move_as_the_exponential_says(w2c: np.ndarray, size: float) -> None:
    step = size * np.random.default_rng(2).normal(0, 1, (COUNT, 6))
    np.testing.assert_allclose(kernels.moved_poses(step, w2c), geo.se3_exp(step) @ w2c, atol=1e-14)


def test_no_inverse_depth_more_than_halves_or_doubles_or_leaves_its_bounds() -> None:
    before = np.array([[1.0, 1.0, 1.0, 0.001, 19.0, 30.0]])
    step = np.array([[0.2, -5.0, 5.0, -0.0009, 4.0, 1.0]])
    kept = kernels.moved_depths(before, step, 1e-3, 20.0, True)
    np.testing.assert_allclose(kept, [[1.2, 0.5, 2.001, 0.001, 20.0, 20.0]])
    free = kernels.moved_depths(before, step, 1e-3, 20.0, False)
    np.testing.assert_allclose(free, [[1.2, 0.5, 2.001, 0.001, 20.0, 30.0]])
