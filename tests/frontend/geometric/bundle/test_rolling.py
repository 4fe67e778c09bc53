"""Rolling shutters: the motion between rows, its derivatives, and cameras from exact flow."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from das3r_ns.frontend.geometric.bundle.adjustment import BundleAdjustmentConfig, bundle_adjust
from das3r_ns.frontend.geometric.bundle.flow_samples import sample_flows
from das3r_ns.frontend.geometric.bundle.optics import Optics
from das3r_ns.frontend.geometric.bundle.pose_solver import Solver
from das3r_ns.frontend.geometric.bundle.result import BundleResult
from das3r_ns.frontend.geometric.bundle.rolling import levelled, row_motion
from das3r_ns.frontend.geometric.bundle.state import State, Terms
from das3r_ns.frontend.geometric.bundle.swing import settle_swing
from das3r_ns.frontend.geometric.pair_flows import PairFlows
from das3r_ns.frontend.geometric.points.adjustment import adjust_on_points
from das3r_ns.scene import geometry as geo
from das3r_ns.scene.lens import Lens

COARSE = BundleAdjustmentConfig(coarse_grid=12, fine_grid=20)
FOCAL, WIDTH, HEIGHT, COUNT = 140.0, 160, 96, 12
CENTRE = np.array([WIDTH / 2, HEIGHT / 2])
HALF_SIZE = np.array([3.0, 2.0, 5.0])
WAY = np.array([0.12, 0.015, 0.15])
"""How far the camera goes in a frame time."""


def shaken(times: np.ndarray) -> np.ndarray:
    """Poses of a camera that goes through the room of ``make_room`` and is shaken, at any times in frames."""
    phase = 2 * np.pi * times / 7
    turn = np.stack([0.02 * np.sin(1.3 * phase + 1), 0.04 * np.sin(phase), 0.01 * np.sin(0.8 * phase)], axis=-1)
    c2w = geo.se3_exp(np.concatenate([np.zeros_like(turn), turn], axis=-1))
    c2w[..., :3, 3] = times[..., None] * WAY - [0.5, 0.0, 2.0]
    return c2w


def _depth(frame: int, points: np.ndarray) -> np.ndarray:
    """Camera z of what the middle row's camera of a frame sees at some points."""
    c2w = shaken(np.array(float(frame)))
    rays = np.concatenate([(points - CENTRE) / FOCAL, np.ones((len(points), 1))], axis=-1) @ c2w[:3, :3].T
    return ((np.sign(rays) * HALF_SIZE - c2w[:3, 3]) / rays).min(axis=-1)


def rolling_pose(frame: int, y: np.ndarray, readout: float) -> np.ndarray:
    """Pose of the camera when it reads the row at y of a frame."""
    return shaken(frame + readout * (y / HEIGHT - 0.5))


def seen_points(readout: float, lens: Lens) -> list[np.ndarray]:
    """Where in the room lies what each pixel of each frame shows."""
    pixels = geo.pixel_centres(HEIGHT, WIDTH).astype(np.float64)
    rays = np.concatenate([lens.undistort(pixels), np.ones((HEIGHT, WIDTH, 1))], axis=-1)
    points = []
    for i in range(COUNT):
        c2w = rolling_pose(i, pixels[:, :1, 1], readout)  # of each row
        along = np.einsum("hwij,hwj->hwi", np.broadcast_to(c2w[..., :3, :3], (HEIGHT, WIDTH, 3, 3)), rays)
        far = ((np.sign(along) * HALF_SIZE - c2w[..., :3, 3]) / along).min(axis=-1)
        points.append(c2w[..., :3, 3] + along * far[..., None])
    return points


def painted(points: np.ndarray) -> np.ndarray:
    """RGB of points in space: waves that are a few pixels long."""
    rng = np.random.default_rng(1)
    waves = rng.normal(size=(40, 3))
    waves *= (rng.uniform(4.0, 14.0, 40) / np.linalg.norm(waves, axis=1))[:, None]
    grey = 128 + 9 * np.sin(points @ waves.T + rng.uniform(0, 2 * np.pi, 40)).sum(axis=-1)
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def rolling_flows(room: Any, readout: float, k1: float = 0.0) -> PairFlows:
    """Exact flow between the frames that a rolling shutter takes of the room, through a lens."""
    pixels = geo.pixel_centres(HEIGHT, WIDTH).astype(np.float64)
    lens = Lens.central((WIDTH, HEIGHT), FOCAL, k1)
    points = seen_points(readout, lens)
    rows = np.linspace(-HEIGHT, 2 * HEIGHT, 49)
    fields = {}
    for i, j in room.flows.pairs:
        seen = []
        for w2c in geo.invert_rigid(rolling_pose(j, rows, readout)):
            q = geo.transform_points(w2c, points[i])
            directions = q[..., :2] / np.maximum(q[..., 2:], 0.02)
            # The polynomial of a lens turns back far outside of its picture.
            seen.append(
                lens.distort(np.clip(directions, -1.2, 1.2)) + FOCAL * (directions - np.clip(directions, -1.2, 1.2))
            )
        # The row at which the camera sees the point where that row is.
        places, place = np.stack(seen), pixels[..., 1]
        for _ in range(8):
            where = np.clip((place - rows[0]) / (rows[1] - rows[0]), 0, len(rows) - 1.001)
            low = where.astype(int)[None, ..., None]
            a, b = (np.take_along_axis(places, low + step, axis=0)[0] for step in (0, 1))
            end = a + (b - a) * (where - low[0, ..., 0])[..., None]
            place = end[..., 1]
        fields[i, j] = np.clip(end - pixels, -500, 500).astype(np.float16)
    return PairFlows(HEIGHT, WIDTH, COUNT, fields, room.flows.texture)


@pytest.fixture(scope="module")
def shaken_room(make_room: Callable[..., Any]) -> Any:
    room = make_room(count=COUNT, focal=FOCAL, size=(WIDTH, HEIGHT))
    return replace(room, c2w_cv=shaken(np.arange(float(COUNT))))


def test_a_steady_motion_is_that_of_every_row() -> None:
    twist = np.array([0.1, -0.02, 0.05, 0.01, 0.03, -0.02])
    times = np.array([0.0, 1.0, 2.0, 4.0, 5.0, 6.0])
    motion = row_motion(geo.se3_exp(times[:, None] * twist), times)
    np.testing.assert_allclose(motion[:, 0], np.tile(twist, (6, 1)), atol=1e-6)
    np.testing.assert_allclose(motion[:, 1], 0.0, atol=1e-6)


def test_a_shake_of_seven_frames_a_period_is_seen() -> None:
    times = np.arange(20.0)
    motion = row_motion(shaken(times), times)
    for by in (-0.4, 0.4):
        truth = geo.invert_rigid(shaken(times)) @ shaken(times + by)
        found = geo.se3_exp(by * motion[:, 0] + by**2 * motion[:, 1])
        error = np.linalg.norm(geo.se3_log(geo.invert_rigid(truth) @ found)[2:-2, 3:], axis=-1).max()
        assert error < 0.05 * np.linalg.norm(geo.se3_log(truth)[:, 3:], axis=-1).max()


def test_levels_what_rows_show_and_knows_its_slope() -> None:
    rng = np.random.default_rng(0)
    world = rng.uniform([-1, -0.7, 2], [1, 0.7, 6], (30, 3))
    motion = np.stack([rng.normal(0, 0.03, 6), rng.normal(0, 0.01, 6)])
    moments = rng.uniform(-0.5, 0.5, (1, 30))
    readout, focal = 0.8, 140.0
    level = geo.project(world, geo.pinhole(focal, WIDTH, HEIGHT))[0]
    s = readout * moments[0]
    back = geo.invert_rigid(geo.se3_exp(s[:, None] * motion[0] + s[:, None] ** 2 * motion[1]))
    rows = np.einsum("nij,nj->ni", back[:, :3, :3], world) + back[:, :3, 3]
    filmed = geo.project(rows, geo.pinhole(focal, WIDTH, HEIGHT))[0][None]

    def found(r: float) -> tuple[np.ndarray, np.ndarray]:
        return levelled(filmed, moments, 1 / rows[None, :, 2], motion[None], r, focal, CENTRE)

    np.testing.assert_allclose(found(readout)[0][0], level, atol=0.02)
    assert np.abs(filmed[0] - level).max() > 1.0
    numeric = (found(readout + 0.01)[0].astype(float) - found(readout - 0.01)[0]) / 0.02
    np.testing.assert_allclose(found(readout)[1], numeric, rtol=0.03, atol=0.02)


def test_exact_flow_of_a_rolling_shutter_gives_the_readout(shaken_room: Any) -> None:
    flows = rolling_flows(shaken_room, 0.7)
    result = bundle_adjust(flows, config=COARSE, departures=("zooms", "bends", "rolls"))
    assert result.readout == pytest.approx(0.7, rel=0.1)
    assert result.zoom is None and result.bend is None
    error = shaken_room.path_error(result.c2w_cv)
    assert error < 0.02
    blind = bundle_adjust(flows, config=COARSE)
    assert error < 0.5 * shaken_room.path_error(blind.c2w_cv)
    known = bundle_adjust(flows, config=COARSE, readout=0.7)
    assert known.readout == 0.7
    assert shaken_room.path_error(known.c2w_cv) < 0.02


def test_a_readout_that_is_known_stays_where_the_camera_only_turns(
    shaken_room: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "WAY", np.zeros(3))
    result = bundle_adjust(rolling_flows(shaken_room, 0.7), config=COARSE, readout=0.7)
    assert result.camera_kind == "rotation" and result.readout == 0.7
    assert result.focal == pytest.approx(FOCAL, rel=0.01)


@pytest.fixture(scope="module")
def bent_flows(shaken_room: Any) -> PairFlows:
    """Of a lens that bends and a shutter that rolls."""
    return rolling_flows(shaken_room, 0.7, k1=-0.2)


def test_a_lens_that_bends_and_a_shutter_that_rolls_are_told_apart(shaken_room: Any, bent_flows: PairFlows) -> None:
    flows = bent_flows
    result = bundle_adjust(flows, config=COARSE, departures=("zooms", "bends", "rolls"))
    assert result.readout == pytest.approx(0.7, rel=0.1)
    assert result.bend is not None and result.bend[0] == pytest.approx(-0.2, abs=0.03)
    assert result.focal == pytest.approx(FOCAL, rel=0.08)
    assert shaken_room.path_error(result.c2w_cv) < 0.02
    # The path alone tells little: without the one a wrong focal makes up for most of it.
    for one in ("bends", "rolls"):
        alone = bundle_adjust(flows, config=COARSE, departures=(one,))
        assert result.residual < 0.5 * alone.residual and alone.focal > 1.5 * FOCAL


def test_points_make_both_exact(shaken_room: Any, bent_flows: PairFlows) -> None:
    lens = Lens.central((WIDTH, HEIGHT), FOCAL, -0.2)
    images = np.stack([painted(points) for points in seen_points(0.7, lens)])
    samples = sample_flows(bent_flows, 20, None)
    shape = (COUNT, samples.rows, samples.columns)
    level = lens.undistort(samples.points.astype(np.float64)) * FOCAL + CENTRE
    depth = np.stack([_depth(i, level[i]) for i in range(COUNT)])
    unit = float(np.median(depth))
    c2w = geo.invert_rigid(shaken_room.c2w_cv[0]) @ shaken_room.c2w_cv
    c2w[:, :3, 3] /= unit
    off = 1.06
    dense = BundleResult(
        width=WIDTH,
        height=HEIGHT,
        c2w_cv=c2w,
        focal=off * FOCAL,
        focal_std=0.01,
        points=samples.points.reshape(*shape, 2),
        inverse_depth=(unit / depth).reshape(shape),
        information=np.ones(shape),
        residual=0.1,
        bend=(-0.2 * off**2, 0.0),  # the picture bends as it does
        readout=0.6,
    )
    found = adjust_on_points(dense, bent_flows, images, times=np.arange(float(COUNT)))
    assert found.taken and found.result.bend is not None
    assert found.after.median < 0.1 < found.before.median
    assert found.result.readout == pytest.approx(0.7, rel=0.05)
    assert found.result.bend[0] == pytest.approx(-0.2, abs=0.02)
    # In this room the path tells little of the focal.
    assert 1.0 < found.result.focal / FOCAL < 0.99 * off
    assert shaken_room.path_error(found.result.c2w_cv) < 0.01


def test_the_bend_of_a_frame_says_how_fast_its_camera_turns(shaken_room: Any) -> None:
    samples = sample_flows(rolling_flows(shaken_room, 0.7), 16, None)
    depth = np.stack([_depth(i, samples.points[i]) for i in range(COUNT)])
    jolt = np.zeros((COUNT, 3))
    jolt[5] = [0.0, 0.01, 0.005]
    state = State(geo.invert_rigid(shaken_room.c2w_cv), 1 / depth, FOCAL)
    state = replace(state, optics=replace(Optics.none(COUNT), readout=0.7, swing=jolt))
    solver = Solver(samples)
    residual = solver.residuals(state)
    seen = residual >= 0
    np.testing.assert_allclose(np.linalg.norm(solver.offsets(state), axis=-1)[seen], residual[seen], atol=1e-2)
    robust = solver.robust_scale(residual, 3.0, 1.0)
    found, after = settle_swing(solver, state, robust, Terms(held=np.ones(COUNT, dtype=bool), focal=False))
    assert found.optics is not None and found.optics.swing is not None
    assert np.linalg.norm(found.optics.swing[5]) < 0.4 * np.linalg.norm(jolt[5])
    assert solver.cost(after, robust) < solver.cost(residual, robust)


def test_a_global_shutter_stays_one(shaken_room: Any, make_room: Callable[..., Any]) -> None:
    for flows in (rolling_flows(shaken_room, 0.0), make_room(count=10, noise=0.1, mover=True).flows):
        result = bundle_adjust(flows, config=COARSE, departures=("zooms", "bends", "rolls"))
        plain = bundle_adjust(flows, config=COARSE)
        assert result.readout is None
        np.testing.assert_array_equal(result.c2w_cv, plain.c2w_cv)
