"""The kernels over runs of frames, against the plain formulas frame by frame; however frames are shared out."""

from __future__ import annotations

import numpy as np
import pytest

from das3r_ns.frontend.geometric.bundle import flow_kernels
from das3r_ns.frontend.geometric.bundle import share_kernels as kernels
from das3r_ns.frontend.geometric.bundle.equations import layout, smoothed
from das3r_ns.frontend.geometric.bundle.flow_samples import Samples
from das3r_ns.frontend.geometric.bundle.optics import Optics
from das3r_ns.frontend.geometric.bundle.pose_kernels import adjoints
from das3r_ns.frontend.geometric.bundle.pose_solver import NEAR_RANGE, Solver
from das3r_ns.frontend.geometric.bundle.state import Robust, State, Terms
from das3r_ns.scene import geometry as geo

EDGES = [(0, 1), (0, 2), (1, 0), (2, 0), (2, 1), (2, 3), (3, 2)]
"""Frames with one to three edges, so that their equations differ in size."""


def random_problem(zoomed: bool) -> tuple[Solver, State, Robust]:
    rng = np.random.default_rng(3)
    sources, sinks = np.array(EDGES).T
    points = rng.uniform([20, 20], [300, 172], (4, 24, 2)).astype(np.float32)
    targets = (points[sources] + rng.normal(0, 5, (7, 24, 2))).astype(np.float32)
    weights = rng.uniform(0, 1, (7, 24)).astype(np.float32)
    samples = Samples(4, 6, 320, 192, points, sources, sinks, targets, weights, zooms=zoomed, bends=zoomed)
    w2c = geo.se3_exp(0.05 * rng.normal(size=(4, 6)))
    w2c[3, 2, 3] -= 1.5  # so near that some points have no projection
    optics = Optics(np.array([0.0, 0.1, -0.1, 0.05]), np.array([-0.1, 0.02])) if zoomed else None
    state = State(w2c, rng.uniform(0.5, 1.5, (4, 24)), 250.0, optics=optics)
    return Solver(samples), state, Robust(rng.uniform(1, 4, 7).astype(np.float32))


@pytest.mark.parametrize("zoomed", [False, True])
def test_residuals_and_costs_are_those_of_the_plain_formulas(zoomed: bool) -> None:
    solver, state, robust = random_problem(zoomed)
    seen, relative = solver.seen(state), np.ascontiguousarray(solver.relative_poses(state)[:, :3])
    expected = np.concatenate(
        [
            flow_kernels.residuals(
                seen.points[i], state.inverse_depth[i], seen.targets[e], relative[e], state.focal, seen.centre
            )
            for i, e in enumerate(solver.edges)
        ]
    )
    if state.optics is not None:
        expected = np.where(expected >= 0, expected * state.optics.magnification(seen.sinks), expected)
    found = solver.residuals(state)
    assert (found < 0).any() and (found >= 0).any()
    np.testing.assert_array_equal(found, expected)
    plain = (solver.weights * robust.cost(found, slice(None))).sum(dtype=np.float64)
    assert solver.cost(found, robust) == pytest.approx(float(plain), rel=1e-12)
    ones = np.ones(7, dtype=np.float32)
    np.testing.assert_array_equal(
        kernels.robust_weights(found, robust.scale, 2 * ones, solver.weights),
        4 * (solver.weights * robust.weights(found, slice(None))),
    )


@pytest.mark.parametrize("zoomed", [False, True])
@pytest.mark.parametrize("near", [False, True])
def test_equations_are_those_of_the_frames_one_by_one(zoomed: bool, near: bool) -> None:
    solver, state, robust = random_problem(zoomed)
    state.inverse_depth[:, :5] = NEAR_RANGE[0]
    residual, terms = solver.residuals(state), Terms(near=near, smoothness=0.1, focal_prior=False)
    found, prior, target = solver.linearise(state, residual, robust, terms)
    whole = np.zeros((4 * 6 + 1 + (4 + 3 if zoomed else 0),) * 2)
    right = np.zeros(len(whole))
    step = np.random.default_rng(5).normal(size=len(whole))
    steps = found.depth_steps(step)
    seen, relative = solver.seen(state), solver.relative_poses(state)
    slopes = solver._slopes(state)
    held_some = False
    for i, e in enumerate(solver.edges):
        weights = solver.weights[e] * robust.weights(residual[e], e)
        if state.optics is not None:
            weights = weights * state.optics.magnification(seen.sinks[e]) ** 2
        block, part, cross, depth_hessian, depth_gradient = flow_kernels.normal_equations(
            seen.points[i], state.inverse_depth[i], seen.targets[e], weights.astype(np.float32),
            np.ascontiguousarray(relative[e, :3]), adjoints(relative[e]), state.focal, seen.centre,
            slopes[0][i], slopes[1][e],
        )  # fmt: skip
        depth_hessian, depth_gradient = (
            depth_hessian + prior,
            depth_gradient + prior * (state.inverse_depth[i] - target[i]),
        )
        if near:
            held = (depth_gradient > 0) & (state.inverse_depth[i] <= NEAR_RANGE[0])
            held_some |= bool(held.any())
            cross, depth_gradient = np.where(held, 0.0, cross), np.where(held, 0.0, depth_gradient)
        np.testing.assert_allclose(found.depth_hessian[i], depth_hessian, rtol=1e-9)
        rows = found.layout.of(i)
        np.testing.assert_allclose(found.cross[rows], cross, rtol=1e-9)
        index = found.layout.index[rows]
        np.testing.assert_allclose(
            steps[i], -(depth_gradient + step[index] @ cross) / depth_hessian, rtol=1e-9, atol=1e-12
        )
        np.add.at(whole, (index[:, None], index), block - cross / depth_hessian @ cross.T)
        np.add.at(right, index, part - cross / depth_hessian @ depth_gradient)
    assert held_some == near
    hessian, gradient = np.zeros_like(whole), np.zeros_like(right)
    at = found.layout
    kernels.add_up(at.rows, at.squares, at.index, found.reduced, found.gradient, hessian, gradient)
    np.testing.assert_allclose(hessian, whole, rtol=1e-8, atol=1e-8 * np.abs(whole).max())
    np.testing.assert_allclose(gradient, right, rtol=1e-8, atol=1e-8 * np.abs(right).max())


def test_threads_change_no_bit() -> None:
    solver, state, robust = random_problem(zoomed=True)
    other = Solver(solver.samples)
    other.shares = [(0, 1), (1, 2), (2, 4)]
    other.run_shares = lambda function: [function(*share) for share in reversed(other.shares)]  # type: ignore[method-assign]
    residual = solver.residuals(state)
    np.testing.assert_array_equal(residual, other.residuals(state))
    assert solver.cost(residual, robust) == other.cost(residual, robust)
    one, two = (s.linearise(state, residual, robust, Terms())[0] for s in (solver, other))
    for name in ("reduced", "gradient", "cross", "depth_hessian", "depth_gradient"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_every_unknown_of_a_frame_has_its_place() -> None:
    solver, _, _ = random_problem(zoomed=True)
    places = layout(solver.samples, solver.edges, optics=True)
    index = places.index[places.of(1)]  # one edge, to frame 0
    pose = np.arange(6)
    np.testing.assert_array_equal(index, [*(6 + pose), *pose, 24, 26, 29, 30, 31, 25, 29, 30, 31])
    assert places.squares[-1] == sum((places.rows[i + 1] - places.rows[i]) ** 2 for i in range(4))


@pytest.mark.parametrize("zoomed", [False, True])
@pytest.mark.parametrize("near", [False, True])
def test_depths_alone_move_as_they_do_among_all_equations(zoomed: bool, near: bool) -> None:
    solver, state, robust = random_problem(zoomed)
    state.inverse_depth[:, :5] = NEAR_RANGE[0]
    residual, terms = solver.residuals(state), Terms(near=near, smoothness=0.1)
    among, prior, target = solver.linearise(state, residual, robust, terms)
    held = Terms(near=near, smoothness=0.1, focal=False, held=np.ones(4, dtype=bool))
    solver.samples.zooms = solver.samples.bends = False
    alone, *drawn = solver.linearise(state, residual, robust, held)
    assert alone.depths_alone and not among.depths_alone
    assert prior == pytest.approx(drawn[0], rel=1e-12)
    np.testing.assert_allclose(target, drawn[1], rtol=1e-12)
    still = np.zeros(len(solver.free(state, terms)))
    np.testing.assert_allclose(alone.depth_steps(still), among.depth_steps(still), rtol=1e-9, atol=1e-15)
    assert not solver.reduced_system(alone, state, held)[1][: solver.focal_place].any()


def test_a_camera_that_only_turns_keeps_its_equations() -> None:
    solver, state, robust = random_problem(zoomed=False)
    state.w2c[:, :3, 3] = 0.0
    state.inverse_depth[:] = 0.0
    found, _, _ = solver.linearise(state, solver.residuals(state), robust, Terms(translation=False))
    assert found.reduced.any() and not found.cross.any()
    blocks = [
        found.reduced[found.layout.squares[i] : found.layout.squares[i + 1]].reshape(2 * (size,))
        for i, size in enumerate(np.diff(found.layout.rows))
    ]
    assert all(np.allclose(block, block.T) and (np.diag(block) >= 0).all() for block in blocks)


@pytest.mark.parametrize("frames", [3, 300])
def test_smoothed_depth_is_the_mean_of_the_neighbours(frames: int) -> None:
    rng = np.random.default_rng(0)
    samples = random_problem(zoomed=False)[0].samples
    value, information = rng.uniform(0.1, 3, (frames, 24)), rng.uniform(1, 9, (frames, 24))
    found = smoothed(samples, value, information)
    for i in (0, frames - 1):
        weight = (information[i] + 1e-3 * information[i].mean()).reshape(4, 6)
        above, below = (np.pad(v, 1, mode="symmetric") for v in (weight * value[i].reshape(4, 6), weight))
        sums = [sum(v[r : r + 4, c : c + 6] for r in range(3) for c in range(3)) for v in (above, below)]
        np.testing.assert_allclose(found[i].reshape(4, 6), sums[0] / sums[1], rtol=1e-9)
