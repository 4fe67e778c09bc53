"""A picture that repeats itself: optical flow over long strides leads to the next of its kind, and the path tears."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from das3r_ns.frontend.geometric.bundle import fine_grid
from das3r_ns.frontend.geometric.bundle.adjustment import bundle_adjust
from das3r_ns.frontend.geometric.bundle.flow_samples import sample_flows
from das3r_ns.frontend.geometric.bundle.pose_solver import Solver
from das3r_ns.frontend.geometric.bundle.state import State
from das3r_ns.frontend.geometric.bundle.tears import sewn, torn
from das3r_ns.scene import geometry as geo

COUNT, BEHIND = 14, 7


@pytest.fixture(scope="module")
def rooms(make_room: Callable[..., Any]) -> tuple[Any, Any]:
    """A room, and the same where the cameras from one frame on are 0.8 metres further to the left."""
    room = make_room(count=COUNT, speed=0.06, turn=0.015, strides=(1, 2, 4))
    c2w = room.c2w_cv.copy()
    c2w[BEHIND:, :3, 3] -= [0.8, 0.0, 0.3]
    return room, make_room(count=COUNT, c2w=c2w, strides=(1, 2, 4))


def mixed(room: Any, other: Any) -> Any:
    """Flow of the first, but across the tear over more than one frame that of the second."""
    across = {(i, j) for i, j in room.flows.fields if abs(i - j) > 1 and (i < BEHIND) != (j < BEHIND)}
    fields = {pair: (other if pair in across else room).flows.fields[pair] for pair in room.flows.fields}
    return replace(room.flows, fields=fields)


def test_a_tear_is_found_and_sewn(rooms: tuple[Any, Any]) -> None:
    room, other = rooms
    samples = sample_flows(mixed(room, other), 40, None)
    y, x = (samples.points[..., axis].astype(int) for axis in (1, 0))
    depth = np.stack([one[y[i], x[i]] for i, one in enumerate(other.depth)])
    state = State(geo.invert_rigid(other.c2w_cv), 1 / depth, room.focal)
    behind = torn(samples, Solver(samples).residuals(state))
    assert behind.tolist() == [BEHIND]
    found = sewn(samples, state, behind)
    assert found is not None
    assert room.path_error(other.c2w_cv) > 0.1
    assert room.path_error(geo.invert_rigid(found.w2c)) < 0.01
    right = State(geo.invert_rigid(room.c2w_cv), 1 / depth, room.focal)
    exact = sample_flows(room.flows, 40, None)
    depth = np.stack([one[y[i], x[i]] for i, one in enumerate(room.depth)])
    assert len(torn(exact, Solver(exact).residuals(replace(right, inverse_depth=1 / depth)))) == 0


def test_a_solution_that_tears_is_mended(rooms: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    room, other = rooms
    flows = mixed(room, other)
    start = bundle_adjust(other.flows)
    assert room.path_error(start.c2w_cv) > 0.1
    assert room.path_error(bundle_adjust(flows, initial=start).c2w_cv) < 0.01
    monkeypatch.setattr(fine_grid, "sewn", lambda *_: None)
    assert room.path_error(bundle_adjust(flows, initial=start).c2w_cv) > 0.05


def test_a_cut_is_no_tear(rooms: tuple[Any, Any]) -> None:
    """Across it the flow agrees with nothing, not even with itself."""
    room, other = rooms
    flows, rng = mixed(room, other), np.random.default_rng(0)
    for pair in ((BEHIND - 1, BEHIND), (BEHIND, BEHIND - 1)):
        noise = rng.normal(0, 30, flows.fields[pair].shape)
        flows.fields[pair] = noise.astype(np.float16)
    samples = sample_flows(flows, 40, None)
    state = State(geo.invert_rigid(other.c2w_cv), np.full(samples.points.shape[:2], 0.3), room.focal)
    assert BEHIND not in torn(samples, Solver(samples).residuals(state))
