"""Rays of a lens: where it bends them to, and windows that miss nothing."""

from __future__ import annotations

import numpy as np
import pytest

from das3r_ns.demo.room import looking, turn_y
from das3r_ns.demo.textures import Texture
from das3r_ns.demo.world import SUPERSAMPLING, Box, Ellipsoid, Rays, cast_ellipsoids, slabs

WHITE = Texture(np.ones((8, 8, 3), np.float32), (1.0, 1.0))


def test_no_lens_is_a_pinhole() -> None:
    rays = Rays.of_camera(np.eye(4), 40.0, 32, 18)
    assert rays.samples == SUPERSAMPLING and rays.bend == 0.0
    assert rays.direction.shape == (3, 18 * SUPERSAMPLING, 32 * SUPERSAMPLING)
    half = SUPERSAMPLING // 2
    np.testing.assert_allclose(rays.direction[:, half, half], (-15.5 / 40, -8.5 / 40, 1.0), rtol=1e-6)


@pytest.mark.parametrize("k1", [-0.18, 0.08])
def test_a_lens_bends_as_opencv_has_it(k1: float) -> None:
    rays = Rays.of_camera(np.eye(4), 20.0, 32, 18, 1, k1)
    local = rays.direction[:2] / rays.direction[2]
    seen = local * (1 + k1 * (local**2).sum(0))
    np.testing.assert_allclose(seen[0], np.broadcast_to((np.arange(32) + 0.5 - 16) / 20, (18, 32)), atol=2e-3)
    np.testing.assert_allclose(seen[1], np.broadcast_to(((np.arange(18) + 0.5 - 9) / 20)[:, None], (18, 32)), atol=2e-3)


@pytest.mark.parametrize("k1", [0.0, -0.18, 0.08])
def test_windows_miss_nothing(k1: float) -> None:
    rng = np.random.default_rng(0)
    pose = looking(np.array([0.3, -1.2, -0.5]), np.array([0.0, -0.8, 4.0]))
    rays = Rays.of_camera(pose, 40.0, 64, 36, 1, k1)
    for _ in range(12):
        centre, radii = rng.uniform((-2, -2, 2), (2, 0, 5)), rng.uniform(0.1, 0.9, 3)
        part = Ellipsoid(centre, radii, turn_y(float(rng.uniform(0, 3))), WHITE)
        shape = rays.direction.shape[1:]
        hit = cast_ellipsoids([part], rays, np.full(shape, 99.0, np.float32), np.zeros((*shape, 3), np.float32))
        to_local = (part.rotation / radii).T
        local, start = np.tensordot(to_local, rays.direction.astype(float), 1), to_local @ (pose[:3, 3] - centre)
        inside = np.tensordot(start, local, 1) ** 2 - (local**2).sum(0) * (start @ start - 1)
        clear = np.abs(inside) > 1e-4  # else rounding decides
        np.testing.assert_array_equal(hit[clear], (inside > 0)[clear])


def test_a_box_that_reaches_behind_the_camera_is_met_by_no_ray_outside_its_window() -> None:
    pose = looking(np.array([0.2, -1.4, 0.0]), np.array([0.5, -1.2, 4.0]), 0.1)
    rays = Rays.of_camera(pose, 60.0, 80, 48)
    box = Box(
        np.array([0.6, -2.0, -3.0]), np.array([0.9, -1.0, 3.0]), [Texture(np.ones((4, 4, 3), np.float32), (1, 1))] * 6
    )
    rows, columns = rays.window(box.corners)
    inside = np.zeros(rays.direction.shape[1:], bool)
    inside[rows, columns] = True
    _, _, found = slabs(box, rays.origin, rays.inverse)
    assert found.any() and inside.mean() < 0.9
    assert not (found & ~inside).any()
    assert rays.window(box.corners - 8 * pose[:3, 2])[0] == slice(0, 0)  # all of it behind
