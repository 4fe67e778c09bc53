"""Cameras placed by keypoints that are told by what they look like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from das3r_ns.frontend.geometric.bundle.state import State
from das3r_ns.frontend.geometric.points.keypoints import Keypoints, pose_by_keypoints
from das3r_ns.frontend.geometric.points.pyramids import build_pyramids
from das3r_ns.scene import geometry as geo

COUNT = 6


@pytest.fixture(scope="module")
def film(make_film: Callable[..., Any]) -> Any:
    return make_film(count=COUNT, speed=0.12, turn=0.02, grain=1.0)


def state_of(film: Any) -> State:
    good = film.solution()
    return State(geo.invert_rigid(good.c2w_cv), good.inverse_depth.reshape(COUNT, -1), good.focal)


def test_matches_lie_where_cameras_and_depth_have_them(film: Any) -> None:
    keypoints = Keypoints(build_pyramids(film.images, COUNT))
    pairs = keypoints.matches(0, 2)
    assert len(pairs) > 30
    np.testing.assert_array_equal(keypoints.matches(2, 0), pairs[:, ::-1])
    here, there = keypoints.places(0)[pairs[:, 0]], keypoints.places(2)[pairs[:, 1]]
    column, row = here.astype(int).T
    depth = film.room.depth[0][row, column]
    intrinsics = geo.pinhole(film.room.focal, film.room.flows.width, film.room.flows.height)
    world = geo.transform_points(film.room.c2w_cv[0], geo.unproject(here, depth, intrinsics))
    seen = geo.transform_points(geo.invert_rigid(film.room.c2w_cv[2]), world)
    expected = film.room.focal * seen[:, :2] / seen[:, 2:] + intrinsics[:2, 2]
    assert np.median(np.linalg.norm(expected - there, axis=1)) < 0.5


@pytest.mark.parametrize("new", [0, 5])
def test_a_frame_of_unknown_pose_is_placed(film: Any, new: int) -> None:
    state = state_of(film)
    truth = state.w2c[new].copy()
    state.w2c[new] = np.eye(4)
    known = sorted(set(range(COUNT)) - {new}, key=lambda k: abs(k - new))
    pose = pose_by_keypoints(Keypoints(build_pyramids(film.images, COUNT)), state, new, known)
    assert pose is not None
    step = np.linalg.norm(np.diff(film.solution().c2w_cv[:, :3, 3], axis=0), axis=1).mean()
    off = geo.invert_rigid(pose)[:3, 3] - geo.invert_rigid(truth)[:3, 3]
    assert np.linalg.norm(off) < 0.2 * step
    np.testing.assert_allclose(pose[:3, :3], truth[:3, :3], atol=2e-3)


def test_what_moves_has_no_keypoints(film: Any) -> None:
    static = np.ones((COUNT, 8, 8))
    static[:, :, :4] = 0.0
    keypoints = Keypoints(build_pyramids(film.images, COUNT), static)
    width = film.images.shape[2]
    assert len(keypoints.places(0)) > 0
    assert (keypoints.places(0)[:, 0] > width / 2 - width / 16).all()


def test_pictures_without_texture_place_nothing(film: Any) -> None:
    keypoints = Keypoints(build_pyramids(np.full_like(film.images, 90), COUNT))
    assert keypoints.matches(0, 1).shape == (0, 2)
    assert pose_by_keypoints(keypoints, state_of(film), 5, [4, 3, 2]) is None
