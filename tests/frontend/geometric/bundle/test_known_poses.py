"""Bundle adjustment with a known focal or known cameras, against exact flow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from das3r_ns.frontend.geometric.bundle.adjustment import BundleAdjustmentConfig, bundle_adjust
from das3r_ns.frontend.geometric.bundle.result import BundleResult
from das3r_ns.frontend.geometric.dense_depth import dense_depth
from das3r_ns.scene import geometry as geo

COARSE = BundleAdjustmentConfig(coarse_grid=12, fine_grid=20)


def truth_at_samples(result: BundleResult, depth: np.ndarray) -> np.ndarray:
    rows, columns = result.points[..., 1].astype(int), result.points[..., 0].astype(int)
    return depth[np.arange(len(rows))[:, None, None], rows, columns]


@pytest.mark.parametrize("wrong", [0.8, 1.0, 1.25])
def test_a_known_focal_stays_even_if_it_is_wrong(make_room: Callable[..., Any], wrong: float) -> None:
    room = make_room(count=8, noise=0.1)
    result = bundle_adjust(room.flows, config=COARSE, known_focal=wrong * room.focal)
    assert result.focal == wrong * room.focal
    assert result.focal_std == 0.0
    again = bundle_adjust(room.flows, room.static_weight, COARSE, initial=result, known_focal=wrong * room.focal)
    assert again.focal == wrong * room.focal
    if wrong == 1.0:
        assert room.path_error(result.c2w_cv) < 2e-3


@pytest.mark.parametrize("kind", ["tripod", "rotation"])
def test_a_known_focal_stays_where_there_is_no_parallax(make_room: Callable[..., Any], kind: str) -> None:
    room = make_room(speed=0.0, turn=0.0 if kind == "tripod" else 0.03, noise=0.1)
    result = bundle_adjust(room.flows, config=COARSE, known_focal=301.0)
    assert (result.camera_kind, result.focal) == (kind, 301.0)


def test_a_focal_beyond_what_is_sought_stays_too(make_room: Callable[..., Any]) -> None:
    room = make_room(focal=1200.0, speed=0.3)
    assert bundle_adjust(room.flows, config=COARSE, known_focal=1200.0).focal == 1200.0


def known(room: Any, scale: float = 1.0, **kwargs: Any) -> BundleResult:
    """The room with its true cameras in another world frame, in units ``scale`` times smaller."""
    world = geo.se3_exp(np.array([5.0, -3.0, 2.0, 0.4, -1.0, 0.3]))
    c2w = world @ room.c2w_cv
    c2w[:, :3, 3] *= scale
    k = geo.pinhole(room.focal, room.flows.width, room.flows.height)
    intrinsics = kwargs.pop("intrinsics", np.repeat(k[None], len(c2w), axis=0))
    return bundle_adjust(room.flows, config=COARSE, known_c2w_cv=c2w, known_intrinsics=intrinsics, **kwargs)


@pytest.mark.parametrize("scale", [1.0, 250.0, 0.004])
def test_known_cameras_give_depth_in_their_own_unit(make_room: Callable[..., Any], scale: float) -> None:
    room = make_room(count=6, noise=0.05, mover=True)
    result = known(room, scale, static_weight=room.static_weight)
    expected = geo.invert_rigid(room.c2w_cv[0]) @ room.c2w_cv
    expected[:, :3, 3] *= scale
    found = result.c2w_cv.copy()
    found[:, :3, 3] *= result.unit
    np.testing.assert_allclose(found, expected, atol=1e-9 * scale)
    assert np.median(result.inverse_depth) == pytest.approx(1.0)
    static = truth_at_samples(result, room.static_weight) > 0.5
    error = truth_at_samples(result, room.depth) * scale * result.inverse_depth / result.unit - 1.0
    assert np.median(np.abs(error[static])) < 0.01
    assert np.percentile(np.abs(error[static]), 90) < 0.05
    assert not result.messages

    depth, confidence = dense_depth(room.flows, result, np.zeros((6, 192, 320, 3), np.uint8))
    sure = (confidence > 0.5) & (room.static_weight > 0.5)
    assert sure.mean() > 0.3
    assert np.median(np.abs(depth[sure] * result.unit / (room.depth[sure] * scale) - 1)) < 0.01


def test_every_known_camera_may_have_a_lens_of_its_own(
    make_room: Callable[..., Any], room_depth: Callable[..., np.ndarray]
) -> None:
    room = make_room(count=5, speed=0.15)
    h, w = room.flows.height, room.flows.width
    intrinsics = np.stack(
        [[[270 + 4 * i, 0, w / 2 + 9 - 3 * i], [0, 290 + 4 * i, h / 2 - 7 + i], [0, 0, 1.0]] for i in range(5)]
    )
    depth = np.stack([room_depth(pose, k, h, w) for pose, k in zip(room.c2w_cv, intrinsics, strict=True)])
    for i, j in room.flows.pairs:
        flow, _ = geo.rigid_flow(depth[i], intrinsics[i], intrinsics[j], room.c2w_cv[i], room.c2w_cv[j])
        room.flows.fields[i, j] = flow.astype(np.float16)
    result = known(room, intrinsics=intrinsics)
    error = truth_at_samples(result, depth) * result.inverse_depth / result.unit - 1.0
    assert np.percentile(np.abs(error), 90) < 0.01
    assert result.residual < 0.02
    np.testing.assert_array_equal(result.frame_intrinsics, intrinsics)
    dense, confidence = dense_depth(room.flows, result, np.zeros((5, h, w, 3), np.uint8))
    sure = confidence > 0.5
    assert sure.mean() > 0.5
    assert np.percentile(np.abs(dense[sure] * result.unit / depth[sure] - 1), 90) < 0.01


def test_known_cameras_at_one_place_give_no_depth(make_room: Callable[..., Any]) -> None:
    room = make_room(speed=0.0, turn=0.03)
    result = known(room)
    assert result.camera_kind == "rotation" and "all at one place" in result.messages[0]
    expected = geo.invert_rigid(room.c2w_cv[0]) @ room.c2w_cv
    np.testing.assert_allclose(result.c2w_cv, expected, atol=1e-9)
    _, confidence = dense_depth(room.flows, result, np.zeros((6, 192, 320, 3), np.uint8))
    assert not confidence.any()


def test_cameras_of_another_video_are_noticed(make_room: Callable[..., Any]) -> None:
    room = make_room(count=6, speed=0.15, turn=0.05)
    backwards = dataclasses.replace(room, c2w_cv=room.c2w_cv[::-1])
    assert any("do not fit the video" in message for message in known(backwards).messages)
