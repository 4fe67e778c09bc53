"""Zoom and bent lenses: the model against OpenCV's, its derivatives, and cameras from exact flow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from das3r_ns.frontend.geometric.bundle.adjustment import BundleAdjustmentConfig, bundle_adjust
from das3r_ns.frontend.geometric.bundle.departures import is_likely
from das3r_ns.frontend.geometric.bundle.flow_samples import Samples, sample_flows
from das3r_ns.frontend.geometric.bundle.optics import Optics
from das3r_ns.frontend.geometric.bundle.pose_solver import Solver
from das3r_ns.frontend.geometric.bundle.state import Robust, State, Terms
from das3r_ns.frontend.geometric.pair_flows import PairFlows
from das3r_ns.scene import geometry as geo
from das3r_ns.scene.lens import Lens

COARSE = BundleAdjustmentConfig(coarse_grid=12, fine_grid=20)
CENTRE = np.array([160.0, 96.0])
FRAMES = np.arange(3)


@pytest.fixture
def optics() -> Optics:
    return Optics(np.array([-0.1, 0.0, 0.2]), np.array([-0.2, 0.03]))


@pytest.fixture
def points() -> np.ndarray:
    return np.random.default_rng(0).uniform([5, 5], [315, 187], (3, 40, 2))


def test_straightens_as_opencv_does(points: np.ndarray) -> None:
    focal = 250.0
    optics = Optics(np.zeros(3), np.array([-0.2, 0.03]))
    k1, k2 = optics.coefficients(focal, CENTRE)
    matrix, criteria = geo.pinhole(focal, 320, 192), (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 100, 1e-10)
    flat = points.reshape(-1, 1, 2)
    expected = cv2.undistortPointsIter(flat, matrix, np.array([k1, k2, 0, 0]), np.eye(3), matrix, criteria)
    np.testing.assert_allclose(optics.straightened(points, FRAMES, CENTRE).reshape(-1, 1, 2), expected, atol=1e-3)


def test_bends_what_it_has_straightened(optics: Optics, points: np.ndarray) -> None:
    np.testing.assert_allclose(
        optics.bent(optics.straightened(points, FRAMES, CENTRE), FRAMES, CENTRE), points, atol=1e-3
    )


def test_takes_the_coefficients_that_it_gives(optics: Optics) -> None:
    again = Optics.of_lens(optics.zoom, optics.coefficients(250.0, CENTRE), 250.0, CENTRE)
    np.testing.assert_allclose(again.unknowns, optics.unknowns)


def test_slopes_match_finite_differences(optics: Optics, points: np.ndarray) -> None:
    slopes = optics.slopes(optics.straightened(points, FRAMES, CENTRE), FRAMES, CENTRE)
    eps = 1e-3
    for column, step in enumerate(eps * np.eye(6)[[1, 3, 4]]):
        ahead, behind = (optics.moved(sign * step).straightened(points, FRAMES, CENTRE) for sign in (1, -1))
        numeric = (ahead.astype(float) - behind) / (2 * eps)
        rows = slice(1, 2) if column == 0 else slice(None)
        np.testing.assert_allclose(slopes[rows, ..., column], numeric[rows], rtol=0.01, atol=0.1)


def test_gradient_for_zoom_and_bend_is_that_of_the_cost(optics: Optics) -> None:
    rng = np.random.default_rng(1)
    points = rng.uniform([20, 20], [300, 172], (3, 24, 2)).astype(np.float32)
    sources, sinks = np.array([0, 0, 1, 1, 2, 2]), np.array([1, 2, 0, 2, 0, 1])
    targets = (points[sources] + rng.normal(0, 5, (6, 24, 2))).astype(np.float32)
    weights = np.ones((6, 24), dtype=np.float32)
    samples = Samples(4, 6, 320, 192, points, sources, sinks, targets, weights, zooms=True, bends=True)
    w2c = geo.se3_exp(0.03 * rng.normal(size=(3, 6)))
    state = State(w2c, rng.uniform(0.5, 1.5, (3, 24)), 250.0, optics=optics)
    solver = Solver(samples)
    robust = Robust(np.full(6, 1e4, dtype=np.float32))  # so wide that the loss is a square
    terms = Terms(smoothness=0.0, focal_prior=False)
    places = solver.linearise(state, solver.residuals(state), robust, terms)[0].layout
    blocks = [places.index[places.of(i)] for i in range(3)]
    assert all(set(block) >= {22, 23} for block in blocks)  # the bend, shared
    gradient = _plain_gradient(solver, state)
    eps = 1e-3
    for place, step in enumerate(eps * np.eye(6)[:5]):
        cost = [
            (solver.residuals(State(w2c, state.inverse_depth, 250.0, optics=optics.moved(sign * step))) ** 2).sum()
            for sign in (1.0, -1.0)
        ]
        # A bend also changes the size of the pixels in which residuals count; the model leaves that out.
        assert gradient[place] == pytest.approx((cost[0] - cost[1]) / (4 * eps), rel=0.05, abs=50.0)


def _plain_gradient(solver: Solver, state: State) -> np.ndarray:
    """Half the gradient of the sum of squares for the optics, depths held."""
    from das3r_ns.frontend.geometric.bundle import flow_kernels as kernels
    from das3r_ns.frontend.geometric.bundle.pose_kernels import adjoints

    seen, relative = solver.seen(state), solver.relative_poses(state)
    point_slopes, target_slopes = solver._slopes(state)
    out = np.zeros(5)
    assert state.optics is not None
    for i in range(3):
        e = solver.edges[i]
        scale = np.broadcast_to(state.optics.magnification(seen.sinks[e]) ** 2, seen.weights[e].shape)
        gradient = kernels.normal_equations(
            seen.points[i], state.inverse_depth[i], seen.targets[e], np.ascontiguousarray(scale),
            np.ascontiguousarray(relative[e, :3]), adjoints(relative[e]), state.focal, seen.centre,
            point_slopes[i], target_slopes[e],
        )[1][19:]  # fmt: skip
        for frame, part in zip([i, *seen.sinks[e]], gradient.reshape(3, 4), strict=True):
            out[frame] += part[0]
            out[3:] += part[1:3]
    return out


@pytest.mark.parametrize("rate", [0.03, -0.03])
def test_exact_flow_of_a_zoom_gives_every_focal(make_room: Callable[..., Any], rate: float) -> None:
    zoom = np.exp(rate * np.clip(np.arange(12) - 2, 0, 8))
    room = make_room(focal=280.0, count=12, speed=0.16, turn=0.03, zoom=zoom)
    result = bundle_adjust(room.flows, config=COARSE, departures=("zooms",))
    np.testing.assert_allclose(result.frame_intrinsics[:, 0, 0], 280.0 * zoom, rtol=0.02)
    assert room.path_error(result.c2w_cv) < 0.003
    assert any("zooms" in message for message in result.messages)
    again = bundle_adjust(room.flows, room.static_weight, COARSE, initial=result)
    np.testing.assert_allclose(again.frame_intrinsics[:, 0, 0], 280.0 * zoom, rtol=0.02)


def test_a_camera_that_does_not_zoom_keeps_one_straight_lens(make_room: Callable[..., Any]) -> None:
    room = make_room(count=10, noise=0.1, mover=True)
    result = bundle_adjust(room.flows, config=COARSE, departures=("zooms", "bends"))
    plain = bundle_adjust(room.flows, config=COARSE)
    assert result.zoom is None and result.bend is None
    np.testing.assert_array_equal(result.c2w_cv, plain.c2w_cv)


def _through_a_lens(room: Any, focal: float, bend: tuple[float, float]) -> tuple[PairFlows, np.ndarray]:
    """The flow of a room as a lens shows it, and a weight of 1 where that is known."""
    width, height = room.flows.width, room.flows.height
    lens = Lens.central((width, height), focal, *bend)
    # What the lens shows at a pixel the pinhole shows elsewhere, and it goes where the lens shows the end of that flow.
    pinhole = (lens.directions * focal + [width / 2, height / 2]).astype(np.float32)
    fields = {}
    for pair in room.flows.pairs:
        moved = [
            cv2.remap(room.flows.flow(*pair)[..., axis], pinhole[..., 0] - 0.5, pinhole[..., 1] - 0.5, cv2.INTER_LINEAR)
            for axis in (0, 1)
        ]
        ends = (pinhole + np.stack(moved, axis=-1) - [width / 2, height / 2]) / focal
        fields[pair] = (lens.distort(ends) - geo.pixel_centres(height, width)).astype(np.float16)
    inside = (pinhole > 0).all(axis=-1) & (pinhole < [width, height]).all(axis=-1)
    weight = np.repeat(inside[None].astype(np.float32), room.flows.num_frames, axis=0)
    return PairFlows(height, width, room.flows.num_frames, fields, room.flows.texture), weight


def test_exact_flow_through_a_lens_gives_focal_k1_and_k2(make_room: Callable[..., Any]) -> None:
    room = make_room(focal=240.0, count=10, speed=0.16, turn=0.03)
    flows, weight = _through_a_lens(room, 240.0, (-0.25, 0.05))
    result = bundle_adjust(flows, weight, config=COARSE, departures=("zooms", "bends"))
    assert result.bend is not None and result.zoom is None
    assert result.focal == pytest.approx(240.0, rel=0.02)
    np.testing.assert_allclose(result.bend, (-0.25, 0.05), rtol=0.15)
    assert room.path_error(result.c2w_cv) < 0.003


def test_a_second_pass_finds_the_lens_that_the_first_one_missed(make_room: Callable[..., Any]) -> None:
    room = make_room(focal=240.0, count=10, speed=0.16, turn=0.03)
    flows, weight = _through_a_lens(room, 240.0, (-0.25, 0.05))
    straight = bundle_adjust(flows, weight, config=COARSE)
    assert straight.bend is None
    result = bundle_adjust(flows, weight, config=COARSE, initial=straight, departures=("zooms", "bends"))
    assert result.bend is not None and result.zoom is None
    assert result.focal == pytest.approx(240.0, rel=0.02)
    np.testing.assert_allclose(result.bend, (-0.25, 0.05), rtol=0.15)


def test_large_bend_is_not_believed_where_the_focal_is_a_guess(make_room: Callable[..., Any]) -> None:
    samples = replace(sample_flows(make_room().flows, 12, None), bends=True)
    state = State(np.tile(np.eye(4), (6, 1, 1)), np.ones(samples.points.shape[:2]), 280.0)
    for bend, focal_std, likely in ((0.7, 0.3, False), (0.7, 0.05, True), (-0.15, 0.3, True)):
        bent = replace(state, optics=Optics(np.zeros(6), np.array([bend, 0.0])))
        assert is_likely(samples, bent, focal_std) is likely


def test_kernels_are_the_plain_formulas() -> None:
    rng = np.random.default_rng(2)
    points, frames = rng.uniform([-10, -10], [330, 200], (3, 50, 2)).astype(np.float32), np.array([1, 0, 1])
    zoom, (b1, b2) = np.array([0.1, -0.2]), (-0.2, 0.03)
    optics = Optics(zoom, np.array([b1, b2]))
    offset = points - CENTRE
    seen = np.linalg.norm(offset, axis=-1) / CENTRE.max()
    radius = seen.copy()
    for _ in range(10):
        slope = np.maximum(1 + 3 * b1 * radius**2 + 5 * b2 * radius**4, 0.05)
        radius = np.clip(radius - (radius * (1 + b1 * radius**2 + b2 * radius**4) - seen) / slope, 0, 3)
    grow = np.exp(zoom[frames])[:, None, None]
    expected = CENTRE + offset / (1 + b1 * radius**2 + b2 * radius**4)[..., None] / grow
    straight = optics.straightened(points, frames, CENTRE)
    np.testing.assert_allclose(straight, expected, rtol=1e-6)
    square = (((straight - CENTRE) * grow / CENTRE.max()) ** 2).sum(axis=-1)
    rate = -1 / np.maximum(1 + 3 * b1 * square + 5 * b2 * square**2, 0.05)
    factors = np.stack([-np.ones_like(square), rate * square, rate * square**2, 0 * square], axis=-1)
    slopes = (straight - CENTRE)[..., None] * factors[..., None, :]
    np.testing.assert_allclose(optics.slopes(straight, frames, CENTRE, 4), slopes, rtol=1e-5, atol=1e-6)
    assert optics.slopes(straight, frames, CENTRE).shape == (3, 50, 2, 3)
