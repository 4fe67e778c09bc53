"""Cameras that COLMAP registered: completed from our own, and held or not."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from jaxtyping import Float

from das3r_ns.frontend.known.knowledge import Known
from das3r_ns.frontend.known.registered import Registered, completed, hold
from das3r_ns.scene import geometry as geo

VIDEO_SIZE = (320, 180)
WORLD = geo.se3_exp(np.array([3.0, -2.0, 1.0, 0.4, 2.0, -0.7]))
UNIT = 5.0


def elsewhere(c2w: Float[np.ndarray, "N 4 4"]) -> Float[np.ndarray, "N 4 4"]:
    """The same cameras in COLMAP's world and unit."""
    moved = c2w.copy()
    moved[:, :3, 3] *= UNIT
    return WORLD @ moved


def registered(c2w: Float[np.ndarray, "N 4 4"], frames: list[int]) -> Registered:
    return Registered(np.array(frames), elsewhere(c2w)[frames], 290.0, 1234, 0.456)


@pytest.mark.parametrize("frames", [[0, 11], [3, 4, 8], [5, 6, 7, 8, 9, 10, 11], list(range(12))])
def test_a_perfect_path_is_completed_perfectly(demo_video, frames: list[int]) -> None:
    truth = demo_video.estimate.c2w_cv
    poses = completed(registered(truth, frames), truth)
    np.testing.assert_allclose(poses, elsewhere(truth), atol=1e-9 * UNIT)
    np.testing.assert_array_equal(poses[frames], elsewhere(truth)[frames])


def test_our_own_drift_is_spread_over_the_gap(demo_video) -> None:
    """Ours leaves the path by a constant step a frame: between two registered frames little of it is left."""
    truth = demo_video.estimate.c2w_cv
    own = truth.copy()
    length = np.linalg.norm(np.diff(truth[:, :3, 3], axis=0), axis=1).sum()
    own[:, :3, 3] += np.arange(12)[:, None] * [0.0, 0.01 * length / 11, 0.0]
    frames = [0, 1, 2, 8, 9, 10, 11]
    poses = completed(registered(truth, frames), own)
    error = np.linalg.norm(poses[:, :3, 3] - elsewhere(truth)[:, :3, 3], axis=1) / (UNIT * length)
    assert error[frames].max() == 0 and 0 < error[3:8].max() < 0.002
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    true_steps = UNIT * np.linalg.norm(np.diff(truth[:, :3, 3], axis=0), axis=1)
    np.testing.assert_allclose(steps, true_steps, rtol=0.05)


def test_cameras_of_ours_that_do_not_move_are_no_obstacle(demo_video) -> None:
    truth = demo_video.estimate.c2w_cv
    own = truth.copy()
    own[:, :3, 3] = 0.0
    poses = completed(registered(truth, [0, 2, 11]), own)
    assert np.isfinite(poses).all()
    between = WORLD @ np.array([*(UNIT * (truth[0] + truth[2])[:3, 3] / 2), 1.0])
    np.testing.assert_allclose(poses[1, :3, 3], between[:3], atol=0.02 * UNIT)


def held(demo_video, found: Registered | None) -> tuple[Known, list[str]]:
    said: list[str] = []
    own = dataclasses.replace(demo_video.estimate, frame_names=[f"{i}.jpg" for i in range(12)])
    known = Known(size=(160, 90), provenance={"masks": "some"})
    return hold(known, found, own, VIDEO_SIZE, said.append), said


def test_all_frames_are_held_in_the_frame_of_the_first_and_at_the_working_size(demo_video) -> None:
    truth = demo_video.estimate.c2w_cv
    known, said = held(demo_video, registered(truth, list(range(12))))
    assert known.c2w_cv is not None and known.intrinsics is not None
    expected = truth.copy()
    expected[:, :3, 3] *= UNIT
    np.testing.assert_allclose(known.c2w_cv, expected, atol=1e-9)
    np.testing.assert_array_equal(known.c2w_cv[0], np.eye(4))
    np.testing.assert_allclose(known.intrinsics, np.tile(geo.pinhole(145.0, 160, 90), (12, 1, 1)))
    assert said == ["Cameras: COLMAP's, which registers all 12 frames (1234 points, 0.46 pixels)."]
    assert known.provenance["masks"] == "some" and known.provenance["colmap"]["registered"] == 12


def test_frames_that_are_filled_in_are_named(demo_video) -> None:
    known, said = held(demo_video, registered(demo_video.estimate.c2w_cv, [0, 1, 2, 3, 6, 7, 8, 9, 10]))
    assert known.c2w_cv is not None and len(known.c2w_cv) == 12
    assert len(said) == 1 and "9 of the 12 frames" in said[0] and said[0].endswith("4.jpg, 5.jpg, 11.jpg.")
    assert known.provenance["colmap"]["filled"] == ["4.jpg", "5.jpg", "11.jpg"]


@pytest.mark.parametrize("frames", [None, [0, 1, 2, 3, 4]])
def test_too_few_are_not_held(demo_video, frames: list[int] | None) -> None:
    found: Any = None if frames is None else registered(demo_video.estimate.c2w_cv, frames)
    known, said = held(demo_video, found)
    assert known.c2w_cv is None and known.intrinsics is None
    assert len(said) == 1 and f"registers {len(frames or [])} of the 12 frames" in said[0]
    assert known.provenance["colmap"] == {"registered": len(frames or []), "held": False}
