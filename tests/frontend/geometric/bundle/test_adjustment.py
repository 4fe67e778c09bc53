"""The bundle adjustment against finite differences, dense solves and scenes that are known exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from das3r_ns.frontend.geometric.bundle import flow_kernels as kernels
from das3r_ns.frontend.geometric.bundle.adjustment import BundleAdjustmentConfig, bundle_adjust
from das3r_ns.frontend.geometric.bundle.flow_samples import best_points, grid_shape
from das3r_ns.frontend.geometric.bundle.pose_kernels import adjoints
from das3r_ns.frontend.geometric.bundle.result import BundleResult
from das3r_ns.scene import geometry as geo

COARSE = BundleAdjustmentConfig(coarse_grid=12, fine_grid=20)
"""Few points, for speed; exact flow needs no more."""


def adjust(*args: Any, **kwargs: Any) -> BundleResult:
    return bundle_adjust(*args, config=COARSE, **kwargs)


def test_a_picture_of_fewer_pixels_than_the_grid_has_cells() -> None:
    rows, columns = grid_shape(36, 32, 80)
    y, x = best_points(np.ones((32, 36)), rows, columns)
    assert (rows, columns) == (32, 36) and len(set(zip(y, x, strict=True))) == 32 * 36
    assert grid_shape(427, 240, 40) == (22, 40)


@pytest.fixture
def problem() -> dict[str, Any]:
    """One frame with five points and two edges, far from any solution."""
    rng = np.random.default_rng(1)
    return {
        "points": rng.uniform(10, 90, (5, 2)),
        "inverse_depth": rng.uniform(0.3, 1.0, 5),
        "targets": rng.uniform(10, 90, (2, 5, 2)),
        "weights": rng.uniform(0.1, 1.0, (2, 5)),
        "w2c": geo.se3_exp(0.1 * rng.normal(size=(3, 6))),
        "focal": 80.0,
        "centre": np.array([50.0, 40.0]),
    }


def residual_vector(p: dict[str, Any], step: np.ndarray) -> np.ndarray:
    """Weighted residuals after a step of [three poses | log focal | five inverse depths]."""
    w2c = geo.se3_exp(step[:18].reshape(3, 6)) @ p["w2c"]
    intrinsics = geo.pinhole(p["focal"] * np.exp(step[18]), 100, 80)
    points = geo.unproject(p["points"], 1.0 / (p["inverse_depth"] + step[19:]), intrinsics)
    out = []
    for e in range(2):
        relative = w2c[e + 1] @ geo.invert_rigid(w2c[0])
        pixels, _ = geo.project(geo.transform_points(relative, points), intrinsics)
        out.append((pixels - p["targets"][e]) * np.sqrt(p["weights"][e])[:, None])
    return np.concatenate(out).ravel()


def call_kernel(p: dict[str, Any]) -> tuple[np.ndarray, ...]:
    relative = p["w2c"][1:] @ geo.invert_rigid(p["w2c"][:1])
    return kernels.normal_equations(
        p["points"],
        p["inverse_depth"],
        p["targets"],
        p["weights"],
        np.ascontiguousarray(relative[:, :3]),
        adjoints(relative),
        p["focal"],
        p["centre"],
        np.empty((5, 2, 0), np.float32),
        np.empty((2, 5, 2, 0), np.float32),
    )


def numeric_jacobian(p: dict[str, Any]) -> np.ndarray:
    eps = 1e-6
    return np.stack(
        [(residual_vector(p, eps * unit) - residual_vector(p, -eps * unit)) / (2 * eps) for unit in np.eye(24)], axis=1
    )


def test_normal_equations_match_finite_differences(problem: dict[str, Any]) -> None:
    hessian, gradient, cross, depth_hessian, depth_gradient = call_kernel(problem)
    jacobian = numeric_jacobian(problem)
    full, slope = jacobian.T @ jacobian, jacobian.T @ residual_vector(problem, np.zeros(24))
    np.testing.assert_allclose(hessian, full[:19, :19], rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(gradient, slope[:19], rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(cross, full[:19, 19:], rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(np.diag(depth_hessian), full[19:, 19:], rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(depth_gradient, slope[19:], rtol=1e-5, atol=1e-3)


def test_eliminating_the_depths_gives_the_step_of_the_dense_system(problem: dict[str, Any]) -> None:
    hessian, gradient, cross, depth_hessian, depth_gradient = call_kernel(problem)
    damped = hessian + np.eye(19)
    full = np.block([[damped, cross], [cross.T, np.diag(depth_hessian)]])
    dense = np.linalg.solve(full, -np.concatenate([gradient, depth_gradient]))
    reduced, right = kernels.eliminate_depth(damped, gradient, cross, depth_hessian, depth_gradient)
    step = np.linalg.solve(reduced, -right)
    np.testing.assert_allclose(step, dense[:19], rtol=1e-6, atol=1e-9)
    depths = -(depth_gradient + step @ cross) / depth_hessian
    np.testing.assert_allclose(depths, dense[19:], rtol=1e-6, atol=1e-9)


def test_residual_kernel_is_the_projection_error(problem: dict[str, Any]) -> None:
    p = {**problem, "weights": np.ones((2, 5))}
    relative = np.ascontiguousarray((p["w2c"][1:] @ geo.invert_rigid(p["w2c"][:1]))[:, :3])
    found = kernels.residuals(p["points"], p["inverse_depth"], p["targets"], relative, p["focal"], p["centre"])
    expected = np.linalg.norm(residual_vector(p, np.zeros(24)).reshape(2, 5, 2), axis=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def sampled_depth_error(result: BundleResult, room: Any, static_only: bool = True) -> float:
    """Median relative error of the inverse depths at static points, after scale."""
    rows, columns = (result.points[..., 1].astype(int), result.points[..., 0].astype(int))
    frames = np.arange(len(rows))[:, None, None]
    ratio = result.inverse_depth * room.depth[frames, rows, columns]
    ratio = ratio[room.static_weight[frames, rows, columns] > 0.5]
    return float(np.median(np.abs(ratio / np.median(ratio) - 1.0)))


@pytest.mark.parametrize("focal", [200.0, 280.0, 400.0])
def test_exact_flow_gives_exact_cameras_from_identity(make_room: Callable[..., Any], focal: float) -> None:
    room = make_room(focal=focal, count=10, speed=0.16, turn=0.03)
    result = adjust(room.flows)
    assert result.camera_kind == "general"
    assert result.focal == pytest.approx(focal, rel=0.01)
    assert room.path_error(result.c2w_cv) < 1e-3
    assert sampled_depth_error(result, room) < 0.01
    np.testing.assert_allclose(result.c2w_cv[0], np.eye(4), atol=1e-12)


def test_noise_and_a_mover_over_a_third_of_the_picture(make_room: Callable[..., Any]) -> None:
    room = make_room(count=10, noise=0.1, mover=True)
    result = adjust(room.flows)
    assert result.focal == pytest.approx(room.focal, rel=0.10)
    assert room.path_error(result.c2w_cv) < 0.01
    masked = adjust(room.flows, room.static_weight, initial=result)
    assert masked.focal == pytest.approx(room.focal, rel=0.05)
    assert room.path_error(masked.c2w_cv) < 0.005
    assert sampled_depth_error(masked, room) < 0.05


def test_portrait(make_room: Callable[..., Any]) -> None:
    room = make_room(size=(192, 320), noise=0.1)
    result = adjust(room.flows)
    assert result.focal == pytest.approx(room.focal, rel=0.05)
    assert room.path_error(result.c2w_cv) < 0.005
    assert result.inverse_depth.shape[1] > result.inverse_depth.shape[2]


def test_two_frames(make_room: Callable[..., Any]) -> None:
    room = make_room(count=2, speed=0.3, turn=0.03)
    result = adjust(room.flows)
    true_step = geo.invert_rigid(room.c2w_cv[0]) @ room.c2w_cv[1]
    found, expected = result.c2w_cv[1, :3, 3], true_step[:3, 3]
    assert found @ expected / np.linalg.norm(found) / np.linalg.norm(expected) > 0.999
    assert np.isfinite(result.inverse_depth).all()


def test_a_turning_camera_is_recognised_and_its_focal_found(make_room: Callable[..., Any]) -> None:
    room = make_room(speed=0.0, turn=0.03, noise=0.1, mover=True)
    result = adjust(room.flows)
    assert result.camera_kind == "rotation"
    assert any("turns on the spot" in message for message in result.messages)
    assert result.focal == pytest.approx(room.focal, rel=0.05)
    np.testing.assert_allclose(result.c2w_cv[:, :3, 3], 0.0)
    error = geo.se3_log(geo.invert_rigid(result.c2w_cv) @ geo.invert_rigid(room.c2w_cv[0]) @ room.c2w_cv)[:, 3:]
    assert np.linalg.norm(error, axis=1).max() < 0.003


def test_a_tripod_is_recognised(make_room: Callable[..., Any]) -> None:
    result = adjust(make_room(speed=0.0, turn=0.0, noise=0.1, mover=True).flows)
    assert result.camera_kind == "tripod"
    assert any("stands still" in message for message in result.messages)
    np.testing.assert_array_equal(result.c2w_cv, np.broadcast_to(np.eye(4), (6, 4, 4)))


def test_flow_that_means_nothing_gives_a_warning_and_finite_numbers(make_room: Callable[..., Any]) -> None:
    room = make_room(count=4)
    rng = np.random.default_rng(0)
    for pair in room.flows.fields:
        room.flows.fields[pair] = rng.uniform(-40, 40, room.flows.fields[pair].shape).astype(np.float16)
    result = adjust(room.flows)
    assert any("Hardly anything could be matched" in message for message in result.messages)
    assert_finite(result)


def assert_finite(result: BundleResult) -> None:
    for value in (result.c2w_cv, result.inverse_depth, result.information, result.focal, result.residual):
        assert np.isfinite(value).all()
    assert (result.inverse_depth > 0).all()


def test_where_nothing_is_static_numbers_are_finite(make_room: Callable[..., Any]) -> None:
    room = make_room(count=3, size=(160, 96))
    first = adjust(room.flows)
    for initial in (None, first):
        result = adjust(room.flows, 0 * room.static_weight, initial=initial, departures=("zooms", "bends", "rolls"))
        assert any("Hardly anything could be matched" in message for message in result.messages)
        assert_finite(result)
    kept = room.static_weight.copy()
    kept[1] = 0.0  # one frame is all mover
    assert_finite(adjust(room.flows, kept, initial=first))


def test_the_same_flow_gives_the_same_result(make_room: Callable[..., Any]) -> None:
    flows = make_room(count=5, noise=0.2).flows
    first, second = adjust(flows), adjust(flows)
    np.testing.assert_array_equal(first.c2w_cv, second.c2w_cv)
    np.testing.assert_array_equal(first.inverse_depth, second.inverse_depth)


def test_one_frame_is_refused(make_room: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="at least two frames"):
        adjust(make_room(count=1).flows)
