"""The camera's path as a picture."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.axes import Axes
from scipy.spatial.transform import Rotation

from das3r_ns.frontend.report import trajectory_plot
from das3r_ns.frontend.report.trajectory_plot import draw_trajectory, world_axes
from das3r_ns.scene.estimate import SceneEstimate


@pytest.fixture()
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The points of every line drawn."""
    lines: list[np.ndarray] = []
    original = trajectory_plot._draw_line

    def draw(plot: Axes, points: np.ndarray, *rest: object) -> None:
        lines.append(points)
        original(plot, points, *rest)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(trajectory_plot, "_draw_line", draw)
    return lines


def a_path(demo: SceneEstimate, kind: str) -> SceneEstimate:
    """Twelve cameras, ahead by 0.1 each and rising, in a world that is turned over."""
    c2w = np.tile(np.eye(4), (12, 1, 1))
    if kind == "general":
        c2w[:, 1, 3] = -0.02 * np.arange(12)
        c2w[:, 2, 3] = 0.1 * np.arange(12)
    if kind == "rotation":
        c2w[:, :3, :3] = Rotation.from_euler("y", 3.0 * np.arange(12)[:, None], degrees=True).as_matrix()
    world = np.eye(4)
    world[:3, :3] = Rotation.from_rotvec([1.0, -2.0, 0.5]).as_matrix()
    return dataclasses.replace(demo, c2w_cv=world @ c2w, camera_kind=kind)  # pyright: ignore[reportArgumentType]


def test_the_axes_are_those_of_the_cameras(demo_video) -> None:
    estimate = a_path(demo_video.estimate, "general")
    first = estimate.c2w_cv[0, :3, :3]
    np.testing.assert_allclose(world_axes(estimate.c2w_cv), [first[:, 0], first[:, 2], -first[:, 1]], atol=1e-9)
    rolled = estimate.c2w_cv.copy()  # upside down from the middle on: no common up
    rolled[6:, :3, :2] *= -1
    np.testing.assert_allclose(world_axes(rolled) @ world_axes(rolled).T, np.eye(3), atol=1e-9)


def test_a_path_is_drawn_from_above_and_from_the_side(demo_video, tmp_path: Path, drawn: list[np.ndarray]) -> None:
    draw_trajectory(a_path(demo_video.estimate, "general"), tmp_path / "trajectory.png", "a video")
    above, side = drawn
    np.testing.assert_allclose(above, np.stack([np.zeros(12), 0.1 * np.arange(12)], axis=1), atol=1e-9)
    np.testing.assert_allclose(side, np.stack([0.1 * np.arange(12), 0.02 * np.arange(12)], axis=1), atol=1e-9)
    picture = cv2.imread(str(tmp_path / "trajectory.png"))
    assert picture.shape[0] > 500 and picture.shape[1] > 1000
    # As wide as high: ten steps ahead are as many pixels in both views.
    colourful = np.ptp(picture[:, : picture.shape[1] * 9 // 10].astype(int), axis=-1) > 60
    middle = picture.shape[1] * 9 // 20
    heights = np.flatnonzero(colourful[:, :middle].any(axis=1))
    widths = np.flatnonzero(colourful[:, middle:].any(axis=0))
    assert np.ptp(heights) == pytest.approx(np.ptp(widths), abs=4) and np.ptp(heights) > 200


def test_a_camera_that_turns_shows_where_it_looked(demo_video, tmp_path: Path, drawn: list[np.ndarray]) -> None:
    draw_trajectory(a_path(demo_video.estimate, "rotation"), tmp_path / "trajectory.png", "a video")
    (directions,) = drawn
    np.testing.assert_allclose(directions, np.stack([3.0 * np.arange(12), np.zeros(12)], axis=1), atol=1e-6)


def test_a_camera_on_a_tripod_draws_no_path(demo_video, tmp_path: Path, drawn: list[np.ndarray]) -> None:
    draw_trajectory(a_path(demo_video.estimate, "tripod"), tmp_path / "trajectory.png", "a video")
    assert drawn == []
    picture = cv2.imread(str(tmp_path / "trajectory.png"))
    written = np.flatnonzero((picture < 200).all(axis=-1).any(axis=1))
    assert written.max() > picture.shape[0] * 0.45  # the words stand in the middle


def test_numbers_keep_clear_of_each_other() -> None:
    points = np.zeros((100, 2))
    points[90:, 0] = np.arange(10) / 10  # it lingers, then leaves
    labelled = trajectory_plot._labelled(points, 1.0)
    assert labelled[:2] == [0, 99] and len(labelled) == 2
    assert len(trajectory_plot._labelled(np.linspace([0, 0], [1, 0], 100), 1.0)) == trajectory_plot.LABELS


@pytest.mark.parametrize("kind", ["general", "rotation", "tripod"])
def test_a_title_is_no_formula(demo_video, tmp_path: Path, kind: str) -> None:
    draw_trajectory(a_path(demo_video.estimate, kind), tmp_path / "trajectory.png", "take_$a_$b: 12 frames")
    assert (tmp_path / "trajectory.png").stat().st_size > 1000
