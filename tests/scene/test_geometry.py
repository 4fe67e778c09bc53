"""Projection, rigid motions and the flow of a static world against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from das3r_ns.scene import geometry as geo


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_project_undoes_unproject(rng: np.random.Generator) -> None:
    intrinsics = geo.pinhole(300.0, 64, 48)
    pixels, depth = rng.uniform(0, 64, (50, 2)), rng.uniform(0.1, 9, 50)
    again, z = geo.project(geo.unproject(pixels, depth, intrinsics), intrinsics)
    np.testing.assert_allclose(again, pixels, atol=1e-9)
    np.testing.assert_allclose(z, depth)


def test_the_centre_of_the_picture_looks_straight_ahead() -> None:
    centre = geo.unproject(np.array([32.0, 24.0]), np.array(2.0), geo.pinhole(300.0, 64, 48))
    np.testing.assert_allclose(centre, [0, 0, 2])
    # The four middle pixels lie round the principal point, half a pixel away: centres are at +0.5.
    np.testing.assert_allclose(geo.pixel_centres(48, 64)[23:25, 31:33].mean(axis=(0, 1)), [32, 24])


def test_resized_intrinsics_see_the_same_point_at_the_same_place(rng: np.random.Generator) -> None:
    small = geo.resize_intrinsics(geo.pinhole(300.0, 64, 48), (64, 48), (192, 96))
    points = rng.uniform(1, 2, (20, 3))
    before, _ = geo.project(points, geo.pinhole(300.0, 64, 48))
    after, _ = geo.project(points, small)
    np.testing.assert_allclose(after, before * [3, 2])


@pytest.mark.parametrize("size", [1e-9, 1e-5, 0.3, 3.0])
def test_se3_exp_and_log_are_inverse_and_form_a_group(rng: np.random.Generator, size: float) -> None:
    direction = rng.normal(size=(20, 6))
    tangent = direction / np.linalg.norm(direction[:, 3:], axis=1, keepdims=True) * size
    pose = geo.se3_exp(tangent)
    np.testing.assert_allclose(geo.se3_log(pose), tangent, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(pose @ geo.se3_exp(-tangent), np.broadcast_to(np.eye(4), pose.shape), atol=1e-12)
    np.testing.assert_allclose(geo.invert_rigid(pose), np.linalg.inv(pose), atol=1e-12)
    np.testing.assert_allclose(geo.se3_exp(0.25 * tangent) @ geo.se3_exp(0.75 * tangent), pose, atol=1e-12)


def test_rigid_flow_of_a_plane_is_its_homography() -> None:
    height, width = 40, 60
    k_i, k_j = geo.pinhole(50.0, width, height), geo.pinhole(55.0, width, height)
    c2w_i, c2w_j = geo.se3_exp(np.array([[0.1, 0.2, -0.1, 0.02, 0.1, 0.0], [0.3, -0.1, 0.2, -0.1, 0.05, 0.1]]))
    normal, offset = np.array([0.1, -0.2, 1.0]), 3.0  # n . X = offset in the frame of camera i
    rays = geo.unproject(geo.pixel_centres(height, width).astype(np.float64), np.ones((height, width)), k_i)
    depth = offset / (rays @ normal)
    flow, valid = geo.rigid_flow(depth, k_i, k_j, c2w_i, c2w_j)

    relative = np.linalg.inv(c2w_j) @ c2w_i
    homography = k_j @ (relative[:3, :3] + np.outer(relative[:3, 3], normal) / offset) @ np.linalg.inv(k_i)
    source = np.concatenate([geo.pixel_centres(height, width), np.ones((height, width, 1))], axis=-1)
    target = source @ homography.T
    target = target[..., :2] / target[..., 2:]
    np.testing.assert_allclose(flow, target - source[..., :2], atol=1e-3)
    inside = (target >= 0).all(axis=-1) & (target[..., 0] <= width) & (target[..., 1] <= height)
    assert (valid == inside).mean() > 0.999
    assert 0.2 < valid.mean() < 1.0


def test_rigid_flow_marks_points_behind_the_other_camera() -> None:
    k = geo.pinhole(20.0, 16, 12)
    ahead = np.eye(4)
    ahead[2, 3] = 5.0
    depth = np.full((12, 16), 3.0)
    flow, valid = geo.rigid_flow(depth, k, k, np.eye(4), ahead)
    assert not valid.any()
    assert np.isfinite(flow).all()


@pytest.mark.parametrize("scale", [0.1, 7.0])
def test_umeyama_recovers_a_similarity(rng: np.random.Generator, scale: float) -> None:
    pose = geo.se3_exp(rng.normal(size=6))
    source = rng.normal(size=(12, 3))
    target = scale * geo.transform_points(pose, source) - scale * pose[:3, 3] + 2.0
    found_scale, rotation, translation = geo.umeyama_sim3(source, target)
    assert found_scale == pytest.approx(scale)
    np.testing.assert_allclose(rotation, pose[:3, :3], atol=1e-9)
    np.testing.assert_allclose(translation, 2.0, atol=1e-9)


def test_umeyama_never_mirrors_and_survives_coincident_points(rng: np.random.Generator) -> None:
    source = rng.normal(size=(12, 3))
    _, rotation, _ = geo.umeyama_sim3(source, source * [1, 1, -1])
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    scale, rotation, _ = geo.umeyama_sim3(np.zeros((4, 3)), source[:4])
    assert scale == 1.0
    assert np.isfinite(rotation).all()
