"""Up is up, also where the camera looks down all the time; and its height above the ground."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from das3r_ns.export.gravity import height_above_ground, static_surface, up_direction
from das3r_ns.scene.estimate import SceneEstimate

UP = np.array([0.0, -1.0, 0.0])
"""In the worlds of these tests y is down."""
HEIGHT, FAR = 1.6, 4.0
"""Of the cameras above the floor, and distance of the wall that they face, metres."""
SIZE = (64, 48)


def room(pitch: float, yaw: float, roll: float, noise: float = 0.0) -> SceneEstimate:
    """A floor and a wall before eight cameras that look down by ``pitch`` and turn from -yaw to yaw; degrees."""
    generator = np.random.default_rng(0)
    turns = np.stack([np.linspace(-yaw, yaw, 8), np.full(8, -pitch), roll * generator.normal(size=8)], axis=1)
    c2w = np.tile(np.eye(4), (8, 1, 1))
    c2w[:, :3, :3] = Rotation.from_euler("YXZ", turns, degrees=True).as_matrix()
    c2w[:, 0, 3] = np.linspace(-0.4, 0.4, 8)
    k = np.array([[50.0, 0, 32], [0, 50, 24], [0, 0, 1]])
    x, y = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
    rays = np.stack([(x - 32) / 50, (y - 24) / 50, np.ones_like(x)], axis=-1)
    world = np.einsum("nij,hwj->nhwi", c2w[:, :3, :3], rays)
    floor, wall = HEIGHT / np.maximum(world[..., 1], 1e-6), FAR / np.maximum(world[..., 2], 1e-6)
    depth = np.minimum(floor, wall)
    depth *= np.exp(noise * generator.normal(size=depth.shape))
    ones = np.ones(depth.shape, np.float32)
    return SceneEstimate(
        [str(i) for i in range(8)], c2w, np.tile(k, (8, 1, 1)), depth.astype(np.float32), ones, 0 * ones
    )


def degrees_off(up: Float[np.ndarray, "3"], truth: Float[np.ndarray, "3"] = UP) -> float:
    """Angle between two directions."""
    return math.degrees(math.acos(np.clip(up @ truth, -1, 1)))


@pytest.mark.parametrize(
    ("pitch", "yaw", "roll", "within"), [(0, 20, 1, 1.5), (25, 2, 1, 1.5), (35, 30, 2, 10), (20, 10, 4, 10)]
)
def test_up_is_up(pitch: float, yaw: float, roll: float, within: float) -> None:
    """To a degree where the planes have to be asked; else as well as the camera was held."""
    estimate = room(pitch, yaw, roll, noise=0.001)
    assert degrees_off(up_direction(estimate)) < within
    mean = -estimate.c2w_cv[:, :3, 1].mean(axis=0)
    assert degrees_off(mean / np.linalg.norm(mean)) > pitch - 3  # nerfstudio's


def test_a_few_normals_are_no_witness() -> None:
    estimate = room(10, 5, 0)
    mean = -estimate.c2w_cv[:, :3, 1].mean(axis=0)
    few = np.zeros_like(estimate.confidence)
    few[0, 20:23, 20:23] = 1
    tilted = dataclasses.replace(estimate, confidence=few, depth=estimate.depth * np.linspace(1, 2, SIZE[0], dtype="f"))
    assert degrees_off(up_direction(tilted), mean / np.linalg.norm(mean)) < 4


def test_a_camera_that_only_turns_goes_by_its_level() -> None:
    """The depth is a guess there, so that a wrong one changes nothing."""
    estimate = dataclasses.replace(room(30, 60, 0.5), camera_kind="rotation")
    assert degrees_off(up_direction(estimate)) < 3
    flat = dataclasses.replace(estimate, depth=np.ones_like(estimate.depth))
    np.testing.assert_array_equal(up_direction(flat), up_direction(estimate))


def test_without_any_witness_it_is_nerfstudios() -> None:
    estimate = room(30, 0, 0)
    nothing = dataclasses.replace(estimate, confidence=0 * estimate.confidence)
    mean = -estimate.c2w_cv[:, :3, 1].mean(axis=0)
    assert degrees_off(up_direction(nothing), mean) < 0.5
    assert height_above_ground(nothing, UP) is None


def test_the_camera_is_as_high_as_it_is() -> None:
    estimate = room(25, 10, 1, noise=0.001)
    assert height_above_ground(estimate, UP) == pytest.approx(HEIGHT, rel=0.02)
    assert height_above_ground(dataclasses.replace(estimate, camera_kind="tripod"), UP) is None


def test_normals_look_at_the_camera() -> None:
    surface = static_surface(room(25, 0, 0))
    floor = np.abs(surface.xyz[:, 1] - HEIGHT) < 1e-3
    assert floor.any() and not floor.all()
    np.testing.assert_allclose(surface.normals[floor], np.tile(UP, (floor.sum(), 1)), atol=1e-3)
    np.testing.assert_allclose(surface.normals[~floor], np.tile([0, 0, -1.0], ((~floor).sum(), 1)), atol=1e-3)


def test_the_demo_stands_upright(demo_video) -> None:
    pose = np.loadtxt(demo_video.folder / "poses.txt")[0].reshape(3, 4)
    assert degrees_off(up_direction(demo_video.estimate), pose[:, :3].T @ UP) < 10  # within what planes may be tilted
