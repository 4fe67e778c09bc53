"""A clip whose camera goes round and comes back, solved at once with drift."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from das3r_ns.frontend.geometric.bundle.flow_samples import Samples
from das3r_ns.frontend.geometric.loops import clip as loops_clip
from das3r_ns.frontend.geometric.loops.search import Loop
from das3r_ns.frontend.geometric.points import adjustment
from das3r_ns.frontend.geometric.points.adjustment import adjust_on_points
from das3r_ns.frontend.geometric.points.ends import Ends, across_loops, meets_better
from das3r_ns.frontend.similarity import Sim3
from das3r_ns.scene import geometry as geo

COUNT, LAP = 30, 24


def circle(laps: float = COUNT / LAP) -> Float[np.ndarray, "N 4 4"]:
    """Cameras that go round in a box, looking ahead and outwards."""
    angle = np.linspace(0, 2 * np.pi * laps, COUNT)
    c2w = np.tile(np.eye(4), (COUNT, 1, 1))
    c2w[:, :3, :3] = Rotation.from_rotvec(np.outer(angle, [0, 1, 0])).as_matrix()
    c2w[:, :3, 3] = 1.2 * np.stack([-np.cos(angle), 0 * angle, np.sin(angle)], axis=1)
    return c2w


def drifting(c2w: Float[np.ndarray, "N 4 4"], grow: float, turn: float) -> Float[np.ndarray, "N 4 4"]:
    """The same way where every step is longer than the last one by a share, and turns by so much more."""
    steps = geo.invert_rigid(c2w[:-1]) @ c2w[1:]
    out = [np.eye(4)]
    for k, step in enumerate(steps):
        wrong = step.copy()
        wrong[:3, 3] *= np.exp(grow * k)
        wrong[:3, :3] = wrong[:3, :3] @ Rotation.from_rotvec([0, turn, 0]).as_matrix()
        out.append(out[-1] @ wrong)
    return np.stack(out)


@pytest.fixture(scope="module")
def lap(make_film: Callable[..., Any]) -> Any:
    """A little more than once round."""
    return make_film(count=COUNT, c2w=circle(), grain=1.0, focal=165.0, size=(240, 144), strides=(1, 2))


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neighbours are tied by points, and frames from half a lap on may close a loop."""
    monkeypatch.setattr(adjustment, "STRIDES", (1, 2))
    monkeypatch.setattr(loops_clip, "APART", 12)


def drifted(lap: Any) -> Any:
    """The exact solution with drift in its path and, in step, in the unit of its depth."""
    grow = 0.004
    found = lap.solution(drifting(lap.room.c2w_cv, grow, 0.002))
    found.inverse_depth = found.inverse_depth / np.exp(grow * np.arange(COUNT))[:, None, None]
    return found


def test_a_path_that_comes_back_is_closed(lap: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    start = drifted(lap)
    found = adjust_on_points(start, lap.room.flows, lap.images)
    assert found.ends is not None and found.ends.closed and found.taken
    assert found.ends.share > 0.95 and found.ends.matches > 500 and found.ends.left_out == 0
    assert all(second - first > 12 for first, second in found.ends.loops)
    assert 0.003 < found.ends.gap < 0.02
    monkeypatch.setattr(adjustment, "look_back", lambda *_: None)
    without = adjust_on_points(start, lap.room.flows, lap.images)
    errors = [lap.room.path_error(one.c2w_cv) for one in (start, without.result, found.result)]
    assert errors[2] < 5e-4 and errors[2] < 0.2 * errors[1] < 0.2 * errors[0]
    # The depth goes with the cameras, in one unit for all frames.
    seen = found.result
    y, x = (seen.points[..., axis].astype(int) for axis in (1, 0))
    ratio = np.take_along_axis(lap.room.depth.reshape(COUNT, -1), (y * seen.width + x).reshape(COUNT, -1), axis=1)
    unit = np.median(ratio * seen.inverse_depth.reshape(COUNT, -1), axis=1)
    assert np.abs(unit / np.median(unit) - 1).max() < 0.01


def test_exact_cameras_stay_so_and_matches_say_that_they_meet(lap: Any) -> None:
    found = adjust_on_points(lap.solution(), lap.room.flows, lap.images)
    assert found.ends is not None and found.ends.share > 0.95
    assert lap.room.path_error(found.result.c2w_cv) < 5e-4


def test_where_nothing_shows_that_the_path_comes_back(lap: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops_clip, "find_loops", lambda *_, **__: [])
    found = adjust_on_points(drifted(lap), lap.room.flows, lap.images)
    assert found.ends is not None and not found.ends.loops and found.ends.nearest is not None
    assert found.ends.nearest[1] - found.ends.nearest[0] == pytest.approx(LAP, abs=2)
    assert found.provenance["ends"]["closed"] is False


def test_a_place_taken_for_another_does_not_bend_the_path(lap: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One wall is taken for another, a good part of the lap away: the cameras stay as they are without any loop."""
    c2w = lap.solution().c2w_cv
    wrong = []
    for first, second in ((0, 23), (1, 24), (2, 25), (3, 26), (4, 27)):
        motion = geo.invert_rigid(c2w[first]) @ c2w[second - 9]
        wrong.append(Loop(first, second, Sim3.from_rigid(motion)))
    monkeypatch.setattr(loops_clip, "find_loops", lambda *_, **__: wrong)
    found = adjust_on_points(lap.solution(), lap.room.flows, lap.images)
    assert found.ends is not None and not found.ends.closed and found.ends.left_out == 5
    monkeypatch.setattr(adjustment, "look_back", lambda *_: None)
    without = adjust_on_points(lap.solution(), lap.room.flows, lap.images)
    np.testing.assert_array_equal(found.result.c2w_cv, without.result.c2w_cv)


def test_loops_are_closed_only_where_nothing_else_gets_worse() -> None:
    pairs = [(0, 1), (0, 3), (1, 0), (1, 2), (1, 3), (2, 1), (3, 0), (3, 1)]
    sources, sinks = np.array(pairs).T
    shape = (len(pairs), 30)
    samples = Samples(1, 30, 427, 240, np.zeros((4, 30, 2)), sources, sinks, np.zeros((*shape, 2)), np.ones(shape))
    loops = ((0, 3), (1, 3))
    across = across_loops(samples, loops)
    assert across.tolist() == [False, True, False, False, True, False, True, True]
    rng = np.random.default_rng(0)
    before = rng.uniform(0.05, 0.15, shape)
    before[across] = 20.0
    closed = np.where(across[:, None], rng.uniform(0.05, 0.15, shape), before)
    assert meets_better(samples, before, closed, loops)
    assert not meets_better(samples, closed, before, loops)
    bent = np.where(across[:, None], closed, 1.2 * before)
    assert not meets_better(samples, before, bent, loops)
    ends = Ends((0, 3), loops, 2, 0.1).seen(samples, before, closed=False)
    assert (ends.matches, ends.share, ends.median) == (120, 0.0, 20.0)
    assert Ends((0, 3), loops).seen(samples, closed, closed=True).share == 1.0
    assert ends.of(np.array([0, 7, 9, 80])).loops == ((0, 80), (7, 80))


def test_a_path_that_does_not_come_back_costs_no_look(
    make_film: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    film = make_film(count=16, speed=0.1, turn=0.05, grain=1.0, size=(240, 144), focal=165.0, strides=(1, 2))
    monkeypatch.setattr(loops_clip, "find_loops", None)
    found = adjust_on_points(film.solution(), film.room.flows, film.images)
    assert found.ends is None and "ends" not in found.provenance
