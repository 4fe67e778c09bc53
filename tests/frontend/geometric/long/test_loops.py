"""Frames that see the same place again, and what closes then."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from das3r_ns.frontend.geometric.long.joined import Joined
from das3r_ns.frontend.geometric.long.keyframes import Keyframes, adjust_keyframes
from das3r_ns.frontend.geometric.long.loops import View, appearance, find_loops
from das3r_ns.frontend.geometric.long.pose_graph import LOOPS, NEIGHBOURS, Graph, close_loops
from das3r_ns.frontend.geometric.long.together import _take
from das3r_ns.frontend.similarity import Sim3
from das3r_ns.scene import geometry as geo
from das3r_ns.video.same_place import Look


def ring(count: int = 40, laps: float = 2.0) -> Float[np.ndarray, "N 4 4"]:
    """Cameras that walk in a circle and look ahead."""
    angle = np.linspace(0, 2 * np.pi * laps, count)
    c2w = np.tile(np.eye(4), (count, 1, 1))
    c2w[:, :3, :3] = Rotation.from_rotvec(np.outer(angle, [0, 1, 0])).as_matrix()
    c2w[:, :3, 3] = 3 * np.stack([np.cos(angle), 0 * angle, -np.sin(angle)], axis=1)
    return np.linalg.inv(c2w[0]) @ c2w


def drifting(c2w: Float[np.ndarray, "N 4 4"], rng: np.random.Generator) -> Sim3:
    """The same walk with small errors of every step, of its unit too; all that is known at scale 1."""
    places = Sim3.from_rigid(c2w)
    steps = places[:-1].inverse() @ places[1:]
    count = len(c2w) - 1
    noise = rng.normal(size=(count, 7)) * NEIGHBOURS + 0.5 * NEIGHBOURS
    wrong = Sim3(np.ones(count), Rotation.from_rotvec(noise[:, 3:6]).as_matrix(), noise[:, :3])
    grow = np.exp(np.cumsum(noise[:, 6]))
    out = [np.eye(4)]
    for k in range(count):
        motion = (wrong[k] @ steps[k]).matrix()
        motion[:3, 3] *= grow[k]
        out.append(out[-1] @ motion)
    return Sim3.from_rigid(np.stack(out))


def test_loops_take_the_drift_away() -> None:
    rng = np.random.default_rng(1)
    truth = ring()
    exact, places = Sim3.from_rigid(truth), drifting(truth, rng)
    start, to = np.arange(39), np.arange(1, 40)
    first, second = np.arange(0, 20), np.arange(20, 40) - 1
    right = exact[first].inverse() @ exact[second]
    right.translation[3] += 2.0  # one is wrong
    chain = places[start].inverse() @ places[to]
    motion = Sim3(
        *(np.concatenate([getattr(chain, n), getattr(right, n)]) for n in ("scale", "rotation", "translation"))
    )
    error = np.concatenate([np.tile(NEIGHBOURS, (39, 1)), np.tile(LOOPS, (20, 1))])
    graph = Graph(np.append(start, first), np.append(to, second), motion, error, np.arange(59) >= 39)
    closed, agrees = close_loops(places, graph)
    assert agrees[:39].all() and not agrees[39 + 3] and agrees[39:].sum() == 19

    def apart(found: Sim3) -> float:
        """How far the two laps are from each other where they see the same place."""
        motions = found[first].inverse() @ found[second]
        return float(
            np.median(
                np.linalg.norm(motions.translation - exact[first].inverse().apply(exact[second].translation), axis=1)
            )
        )

    assert apart(closed) < 0.15 * apart(places)
    np.testing.assert_allclose(closed.translation[0], places.translation[0])


def test_what_agrees_stays_where_it_is() -> None:
    places = Sim3.from_rigid(ring(10, 1.0))
    start, to = np.array([*range(9), 0]), np.array([*range(1, 10), 9])
    motion = places[start].inverse() @ places[to]
    graph = Graph(start, to, motion, np.tile(NEIGHBOURS, (10, 1)), np.arange(10) == 9)
    closed, agrees = close_loops(places, graph)
    assert agrees.all()
    np.testing.assert_allclose(closed.translation, places.translation, atol=1e-9)


@pytest.fixture(scope="module")
def room(tmp_path_factory, read_demo_folder):
    """Twelve frames of 320 x 180: enough for features."""
    from das3r_ns.demo.write import write_demo

    return read_demo_folder(write_demo(tmp_path_factory.mktemp("room") / "room", 12, 320, 180))


def looks_of(room) -> list[Look]:
    return [Look(k, cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)) for k, image in enumerate(room.images)]


def test_a_place_is_found_again_by_appearance_and_geometry(room) -> None:
    truth, rng = room.estimate, np.random.default_rng(2)
    looks = looks_of(room)
    noise = cv2.resize(rng.integers(0, 255, (45, 80)).astype(np.uint8), (320, 180), interpolation=cv2.INTER_CUBIC)
    looks.append(Look(12, noise))
    alike = appearance(looks)
    np.testing.assert_allclose(np.diag(alike), 1.0, atol=1e-5)
    assert alike[0, 11] > alike[0, 12] + 0.1

    def view(number: int) -> View:
        number = min(number, 11)
        unit = 2.0 if number >= 6 else 1.0  # the second half has another unit of length
        return View(truth.intrinsics[number], unit * truth.depth[number], 1 - truth.dynamic_probability[number])

    loops = find_loops(looks, view, 7)
    assert loops and all(loop.second - loop.first > 7 and loop.second < 12 for loop in loops)
    for loop in loops:
        exact = geo.invert_rigid(truth.c2w_cv[loop.first]) @ truth.c2w_cv[loop.second]
        assert float(loop.motion.scale) == pytest.approx(0.5, rel=0.05)
        assert np.linalg.norm(loop.motion.translation - exact[:3, 3]) < 0.15
        turn = Rotation.from_matrix(loop.motion.rotation.T @ exact[:3, :3]).magnitude()
        assert np.degrees(turn) < 1.5


def test_keyframes_are_adjusted_on_points(room) -> None:
    truth, rng = room.estimate, np.random.default_rng(3)
    wrong = truth.c2w_cv.copy()
    wrong[1:, :3, 3] += rng.normal(size=(11, 3)) * 0.01
    wrong[1:, :3, :3] = Rotation.from_rotvec(rng.normal(size=(11, 3)) * 0.002).as_matrix() @ wrong[1:, :3, :3]
    frames = Keyframes(wrong, float(truth.intrinsics[0, 0, 0]), truth.depth, 1 - truth.dynamic_probability)
    adjusted = adjust_keyframes(frames, frames, iter(room.images), [(0, 11)], focal_known=True)
    assert adjusted.taken and adjusted.after.median < 0.5 * adjusted.before.median
    found = adjusted.c2w_cv.copy()
    found[:, :3, 3] /= np.median(adjusted.growth)
    assert adjusted.focal == pytest.approx(frames.focal)

    def error(c2w: np.ndarray) -> float:
        return float(np.sqrt(((c2w[:, :3, 3] - truth.c2w_cv[:, :3, 3]) ** 2).sum(axis=1).mean()))

    assert error(found) < 0.35 * error(wrong)
    assert np.abs(adjusted.growth / np.median(adjusted.growth) - 1).max() < 0.02


def test_frames_between_keyframes_follow_them() -> None:
    """A similarity of the whole is given back exactly in between; one that differs, in the middle between both."""
    joined = Joined.empty(9, 2, 3)
    joined.c2w_cv, joined.depth[:] = ring(9, 0.5), 1.0
    old = joined.c2w_cv.copy()
    turn = Rotation.from_rotvec([0.1, 0.4, -0.2]).as_matrix()
    whole = Sim3(np.array(2.0), turn, np.array([1.0, -2.0, 0.5]))
    numbers = np.array([0, 4, 8])
    _take(joined, numbers, np.full(3, 2.0), whole.apply_to_cameras(old)[numbers])
    np.testing.assert_allclose(joined.c2w_cv, whole.apply_to_cameras(old), atol=1e-9)
    np.testing.assert_allclose(joined.depth, 2.0)
    joined.c2w_cv = old.copy()
    moved = old[numbers].copy()
    moved[2, :3, 3] += [0.0, 1.0, 0.0]
    _take(joined, numbers, np.ones(3), moved)
    np.testing.assert_allclose(joined.c2w_cv[4:, 1, 3] - old[4:, 1, 3], [0, 0.25, 0.5, 0.75, 1.0], atol=1e-9)
    np.testing.assert_allclose(joined.c2w_cv[:4], old[:4], atol=1e-9)
