"""Which frames may see the same place again, by the path alone."""

from __future__ import annotations

import numpy as np
import pytest
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from das3r_ns.frontend.geometric.loops.returns import may_meet, nearest
from das3r_ns.scene import geometry as geo

COUNT, APART = 60, 20


def cameras(centres: Float[np.ndarray, "N 3"], heading: Float[np.ndarray, " N"]) -> Float[np.ndarray, "N 4 4"]:
    """Cameras that look along the ground."""
    c2w = np.tile(np.eye(4), (COUNT, 1, 1))
    c2w[:, :3, :3] = Rotation.from_rotvec(np.outer(heading, [0, 1, 0])).as_matrix()
    c2w[:, :3, 3] = centres
    return c2w


def meet(c2w: Float[np.ndarray, "N 4 4"]) -> Bool[np.ndarray, "N N"]:
    rng = np.random.default_rng(0)
    points = np.stack([rng.uniform(0, 480, (COUNT, 100)), rng.uniform(0, 270, (COUNT, 100))], axis=-1)
    intrinsics = np.tile(geo.pinhole(400.0, 480, 270), (COUNT, 1, 1))
    return may_meet(c2w, intrinsics, (480, 270), points, rng.uniform(2.0, 6.0, (COUNT, 100)), APART)


def circle(laps: float) -> Float[np.ndarray, "N 4 4"]:
    """Round a circle of 5 metres, looking ahead."""
    angle = np.linspace(0, 2 * np.pi * laps, COUNT)
    return cameras(5 * np.stack([-np.cos(angle), 0 * angle, np.sin(angle)], axis=1), angle)


def test_a_lap_comes_back_in_its_last_frames() -> None:
    may = meet(circle(1.0))
    first, second = np.nonzero(may)
    assert len(first) and first.max() < 15 and second.min() > COUNT - 15 and may[0, -1]
    assert not np.tril(may, APART).any()
    assert nearest(circle(1.0), may) == (0, COUNT - 1)


def test_drift_is_allowed_for() -> None:
    """The lap ends four metres off, of 31, and turned 20 degrees too far."""
    c2w = circle(1.0)
    share = np.linspace(0, 1, COUNT)
    c2w[:, 2, 3] += 4 * share
    c2w[:, :3, :3] = Rotation.from_rotvec(np.outer(0.35 * share, [0, 1, 0])).as_matrix() @ c2w[:, :3, :3]
    assert meet(c2w).any()


@pytest.mark.parametrize("laps", [0.4, 0.75])
def test_part_of_a_lap_does_not(laps: float) -> None:
    assert not meet(circle(laps)).any()


def test_straight_ways_do_not() -> None:
    way = np.linspace(0, 20, COUNT)[:, None]
    still = np.zeros(COUNT)
    assert not meet(cameras(way * [0, 0, 1], still)).any()
    assert not meet(cameras(way * [1, 0, 0], still)).any()
    assert not meet(cameras(-way * [0, 0, 1], still)).any()
    assert nearest(cameras(way, still), np.zeros((COUNT, COUNT), bool)) is None


def test_who_never_leaves_does_not_come_back() -> None:
    """A few steps to the side and back: every frame shows what the others do, and points tie them."""
    side = 0.8 * np.sin(np.linspace(0, np.pi, COUNT))
    assert not meet(cameras(np.outer(side, [1, 0, 0]), np.zeros(COUNT))).any()
    far = 8 * np.sin(np.linspace(0, np.pi, COUNT))
    assert meet(cameras(np.outer(far, [1, 0, 0]), np.zeros(COUNT))).any()


def test_the_way_back_that_looks_the_other_way_sees_other_things() -> None:
    way = 10 * np.sin(np.linspace(0, np.pi, COUNT))
    heading = np.where(np.arange(COUNT) < COUNT // 2, 0.0, np.pi)
    assert not meet(cameras(np.outer(way, [0, 0, 1]), heading)).any()
