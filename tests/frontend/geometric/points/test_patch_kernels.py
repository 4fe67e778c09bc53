"""Alignment of patches, against shifts that are known exactly."""

from __future__ import annotations

import numpy as np
import pytest

from das3r_ns.frontend.geometric.points.patch_kernels import align_patches

POINTS = np.array([[30.5, 28.5], [45.5, 50.5], [70.5, 33.5], [60.5, 66.5]])


def picture(x: np.ndarray, y: np.ndarray, gain: float = 1.0) -> np.ndarray:
    """Grey levels at image coordinates."""
    rng = np.random.default_rng(0)
    grey = np.zeros(x.shape)
    for _ in range(20):
        a, b = rng.uniform(-0.6, 0.6, 2)
        grey += 12 * np.sin(a * x + b * y + rng.uniform(0, 6))
    return np.rint(np.clip(120 + gain * grey, 0, 255)).astype(np.uint8)


def grid(height: int = 100, width: int = 100) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return x, y


@pytest.mark.parametrize("gain", [1.0, 0.7])
def test_a_shift_is_found_whatever_the_exposure(gain: float) -> None:
    x, y = grid()
    shift = np.array([1.37, -0.64])
    source, target = picture(x, y), picture(x - shift[0], y - shift[1], gain)
    affine = np.tile(np.eye(2), (len(POINTS), 1, 1))
    found, correlation = align_patches(source, target, POINTS, POINTS + np.array([0.9, -0.2]), affine, 3.0)
    np.testing.assert_allclose(found - POINTS, np.tile(shift, (len(POINTS), 1)), atol=0.04)
    assert correlation.min() > 0.98


def test_a_patch_is_looked_for_in_the_shape_it_should_have() -> None:
    x, y = grid()
    shape = np.array([[1.3, 0.4], [-0.3, 0.8]])
    centre = np.array([50.0, 50.0])
    back = np.linalg.inv(shape)
    sx, sy = (back @ np.stack([x.ravel() - 50, y.ravel() - 50])).reshape(2, *x.shape) + 50
    source, target = picture(x, y), picture(sx, sy)
    truth = (POINTS - centre) @ shape.T + centre
    shapes = np.tile(shape, (len(POINTS), 1, 1))
    found, correlation = align_patches(source, target, POINTS, truth + 0.4, shapes, 3.0)
    np.testing.assert_allclose(found, truth, atol=0.05)
    _, without = align_patches(source, target, POINTS, truth, np.tile(np.eye(2), (len(POINTS), 1, 1)), 3.0)
    assert correlation.min() > 0.97
    assert (without < correlation - 0.02).all()


def test_what_cannot_be_found_is_said_to_be_so() -> None:
    x, y = grid()
    source, plain = picture(x, y), np.full(x.shape, 90, dtype=np.uint8)
    affine = np.tile(np.eye(2), (len(POINTS), 1, 1))
    assert (align_patches(source, plain, POINTS, POINTS, affine, 3.0)[1] == -1).all()
    assert (align_patches(plain, source, POINTS, POINTS, affine, 3.0)[1] == -1).all()
    assert (align_patches(source, source, POINTS, POINTS - 1e6, affine, 3.0)[1] == -1).all()
    at_the_border = np.array([[2.5, 50.5]])
    assert align_patches(source, source, at_the_border, at_the_border, affine[:1], 3.0)[1][0] == -1
    far = picture(x - 2.5, y)
    start, correlation = align_patches(source, far, POINTS, POINTS, affine, 1.0)
    assert (correlation == -1).all()
    np.testing.assert_array_equal(start, POINTS)
