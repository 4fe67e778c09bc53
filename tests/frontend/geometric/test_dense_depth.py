"""Dense depth from known cameras, its confidence, and what fills the gaps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from das3r_ns.frontend.geometric import dense_depth as depth_module
from das3r_ns.frontend.geometric.bundle.result import BundleResult
from das3r_ns.frontend.geometric.dense_depth import DenseDepth, dense_depth
from das3r_ns.frontend.geometric.smoothing_kernels import smooth_along_image
from das3r_ns.scene import geometry as geo


def exact_bundle(room: Any, **changes: Any) -> BundleResult:
    """The true cameras, and an inverse depth grid that knows nothing."""
    count, height, width = room.depth.shape
    c2w = geo.invert_rigid(room.c2w_cv[0]) @ room.c2w_cv
    scale = float(np.median(room.depth))
    c2w[:, :3, 3] /= scale
    fields: dict[str, Any] = {
        "width": width,
        "height": height,
        "c2w_cv": c2w,
        "focal": room.focal,
        "focal_std": 0.0,
        "points": np.zeros((count, 6, 10, 2)),
        "inverse_depth": np.ones((count, 6, 10)),
        "information": np.ones((count, 6, 10)),
        "residual": 0.1,
    }
    return BundleResult(**{**fields, **changes})


def grey(room: Any, scale: int = 1) -> np.ndarray:
    count, height, width = room.depth.shape
    return np.full((count, scale * height, scale * width, 3), 128, dtype=np.uint8)


def test_true_cameras_give_true_depth(make_room: Callable[..., Any]) -> None:
    room = make_room(noise=0.1)
    depth, confidence = dense_depth(room.flows, exact_bundle(room), grey(room))
    relative = np.abs(depth * np.median(room.depth) / room.depth - 1.0)
    sure = confidence > 0.5
    assert sure.mean() > 0.2
    assert np.median(relative[sure]) < 0.01
    assert np.quantile(relative[sure], 0.99) < 0.05
    # The confidence means something: what is not trusted is worse.
    assert relative[confidence < 0.2].mean() > 2 * relative[sure].mean()


def test_it_is_the_same_in_torch(make_room: Callable[..., Any]) -> None:
    room = make_room(noise=0.1, mover=True)
    there, here = (
        dense_depth(room.flows, exact_bundle(room), grey(room), room.static_weight, device=device)
        for device in (None, torch.device("cpu"))
    )
    assert (np.abs(here[0] / there[0] - 1) > 2e-3).mean() < 0.01
    assert (np.abs(here[1] - there[1]) > 5e-3).mean() < 0.01


def test_movers_are_not_trusted_and_are_filled_from_around(make_room: Callable[..., Any]) -> None:
    room = make_room(noise=0.05, mover=True)
    depth, confidence = dense_depth(room.flows, exact_bundle(room), grey(room), room.static_weight)
    moving = cv2.erode(1 - room.static_weight.transpose(1, 2, 0), np.ones((5, 5))).transpose(2, 0, 1) > 0.5
    assert confidence[moving].max() < 0.05
    relative = np.abs(depth * np.median(room.depth) / room.depth - 1.0)
    assert np.median(relative[moving]) < 0.25
    assert np.isfinite(depth).all()
    assert (depth > 0).all()


def test_depth_comes_at_the_resolution_of_the_images(make_room: Callable[..., Any]) -> None:
    room = make_room(count=3, size=(160, 96), focal=140.0, speed=0.15)
    depth, confidence = dense_depth(room.flows, exact_bundle(room), grey(room, 2))
    assert depth.shape == confidence.shape == (3, 192, 320)
    half = cv2.resize(depth[1], (160, 96), interpolation=cv2.INTER_AREA) * np.median(room.depth) / room.depth[1]
    assert np.median(np.abs(half - 1.0)) < 0.02


@pytest.mark.parametrize("kind", ["rotation", "tripod"])
def test_a_camera_without_parallax_sees_a_sphere(make_room: Callable[..., Any], kind: str) -> None:
    room = make_room(count=2)
    depth, confidence = dense_depth(room.flows, exact_bundle(room, camera_kind=kind), grey(room, 2))
    points = geo.unproject(geo.pixel_centres(384, 640), depth[0], geo.pinhole(2 * room.focal, 640, 384))
    np.testing.assert_allclose(np.linalg.norm(points, axis=-1), 1.0, rtol=1e-5)
    assert not confidence.any()


def test_flow_that_means_nothing_gives_finite_depth_without_confidence(make_room: Callable[..., Any]) -> None:
    room = make_room(count=3)
    rng = np.random.default_rng(0)
    for pair in room.flows.fields:
        room.flows.fields[pair] = rng.uniform(-40, 40, room.flows.fields[pair].shape).astype(np.float16)
    depth, confidence = dense_depth(room.flows, exact_bundle(room), grey(room))
    assert np.isfinite(depth).all()
    assert (depth > 0).all()
    assert confidence.mean() < 0.02


def test_smoothing_stops_at_edges_and_keeps_the_mean() -> None:
    rng = np.random.default_rng(0)
    step = np.where(np.arange(40) < 20, 0.0, 10.0)[None, :] + rng.normal(size=(30, 40))
    across = np.ones((30, 40), dtype=np.float32)
    across[:, 19] = 0.0
    smooth = smooth_along_image(step[None].astype(np.float32), across, np.ones((30, 40), dtype=np.float32), 500.0, 4)[0]
    assert smooth[:, :20].std() < 0.1
    assert smooth[:, 20:].std() < 0.1
    assert smooth[:, 20:].mean() - smooth[:, :20].mean() == pytest.approx(
        step[:, 20:].mean() - step[:, :20].mean(), abs=1e-3
    )


def near_and_far(gap: int) -> tuple[DenseDepth, np.ndarray]:
    """A near surface that is sure beside plain ground, four times as far away, that is not; at its edge nothing is."""
    inverse_depth = np.full((30, 60), 0.25, np.float32)
    inverse_depth[:, :30] = 1.0
    confidence = np.where(inverse_depth == 1.0, 1.0, 0.15).astype(np.float32)
    inverse_depth[:, 30 : 30 + gap], confidence[:, 30 : 30 + gap] = 1.0, 0.0
    image = np.full((30, 60, 3), 180, np.uint8)
    image[:, :30] = 60
    return DenseDepth(inverse_depth, confidence), image


@pytest.mark.parametrize("gap", [0, 4])
def test_what_stereo_has_matched_is_not_drawn_to_what_is_near(gap: int) -> None:
    frame, image = near_and_far(gap)
    depth, confidence = depth_module._fill(frame, image, depth_module.CLOSE)
    np.testing.assert_array_equal(confidence, frame.confidence)
    np.testing.assert_allclose(depth[:, :30], 1.0)
    np.testing.assert_allclose(depth[:, 30 + gap :], 4.0, rtol=1e-3)
    # The gap takes the depth of the ground that it looks like, although the near surface is measured better.
    assert (depth[:, 30 : 30 + gap] > 3.0).all()


def test_what_moves_is_covered_from_far_away() -> None:
    """A wide mover in front of even ground, where neither smoothing leaves any of its own depth."""
    inverse_depth, confidence = np.full((60, 200), 0.5, np.float32), np.full((60, 200), 0.9, np.float32)
    inverse_depth[:, 60:140], confidence[:, 60:140] = 3.0, 0.0
    image = np.full((60, 200, 3), 120, np.uint8)
    for filling in (depth_module.SMOOTH, depth_module.CLOSE):
        depth, _ = depth_module._fill(DenseDepth(inverse_depth, confidence), image, filling)
        np.testing.assert_allclose(depth, 2.0, rtol=0.05)
