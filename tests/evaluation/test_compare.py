"""Estimates against ground truth that is exact, half missing, of another size, or cannot be read."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from das3r_ns.evaluation.compare import compare
from das3r_ns.evaluation.ground_truth import GroundTruth


@pytest.fixture()
def demo(demo_video, tmp_path: Path) -> Path:
    """A copy of the demo that may be damaged."""
    shutil.copytree(demo_video.folder, tmp_path / "room")
    return tmp_path / "room"


def test_the_truth_is_perfect(demo_video, demo: Path) -> None:
    problems: list[str] = []
    figures = compare(demo_video.estimate, GroundTruth(demo), problems)
    assert not problems
    assert figures["J"] == figures["F"] == figures["recall"] == 1.0
    assert figures["ate"] == pytest.approx(0, abs=1e-8) and figures["focal_error"] == pytest.approx(0, abs=1e-8)
    assert figures["rpe_t"] == pytest.approx(0, abs=1e-6) and figures["rpe_r"] == pytest.approx(0, abs=1e-4)
    np.testing.assert_allclose(figures["trajectory"]["estimated"], figures["trajectory"]["truth"], atol=2e-6)


def test_the_truth_is_perfect_behind_a_lens(bent_video, demo: Path) -> None:
    lens, estimate = bent_video.estimate.lens, bent_video.estimate
    for number, p in enumerate(estimate.dynamic_probability):
        mask = np.where(lens.distorted_picture(p) >= 0.5, 255, 0).astype(np.uint8)
        cv2.imwrite(str(demo / f"masks/{number:05d}.png"), mask)
    figures = compare(estimate, GroundTruth(demo), [])
    assert figures["J"] == 1.0 and figures["focal_error"] == pytest.approx(0, abs=1e-8)
    straight = compare(dataclasses.replace(estimate, lens=None), GroundTruth(demo), [])
    assert straight["J"] < 0.95


def test_the_truth_is_perfect_under_a_rolling_shutter(rolled_video, demo: Path) -> None:
    shutter, estimate = rolled_video.estimate.shutter, rolled_video.estimate
    for number, p in enumerate(estimate.dynamic_probability):
        mask = np.where(shutter.filmed_picture(p, number) >= 0.5, 255, 0).astype(np.uint8)
        cv2.imwrite(str(demo / f"masks/{number:05d}.png"), mask)
    assert compare(estimate, GroundTruth(demo), [])["J"] == 1.0
    assert compare(dataclasses.replace(estimate, shutter=None), GroundTruth(demo), [])["J"] < 0.95


def test_half_missing_masks_are_named_and_the_rest_is_measured(demo_video, demo: Path) -> None:
    for number in range(6, 12):
        (demo / f"masks/{number:05d}.png").unlink()
    wrong = demo_video.estimate.dynamic_probability.copy()
    wrong[6:] = 1 - wrong[6:]  # nobody can tell
    wrong[0] = 0
    problems: list[str] = []
    estimate = dataclasses.replace(demo_video.estimate, dynamic_probability=wrong)
    figures = compare(estimate, GroundTruth(demo), problems)
    assert figures["J"] == figures["recall"] == pytest.approx(5 / 6)
    assert len(problems) == 1 and problems[0].startswith("masks: 6 of 12 frames") and "00006" in problems[0]
    assert figures["ate"] == pytest.approx(0, abs=1e-8)


def test_masks_of_another_size_are_named_and_left_out(demo_video, demo: Path) -> None:
    for path in (demo / "masks").glob("*.png"):
        cv2.imwrite(str(path), np.zeros((45, 80), np.uint8))
    problems: list[str] = []
    figures = compare(demo_video.estimate, GroundTruth(demo), problems)
    assert "J" not in figures and "ate" in figures
    assert "12 of 12" in problems[0] and "80 x 45, the frames are 160 x 90" in problems[0]


def test_unreadable_ground_truth_is_named_and_left_out(demo_video, demo: Path) -> None:
    (demo / "masks/00003.png").write_bytes(b"no picture")
    (demo / "poses.txt").write_text("1 0 0 one\n")
    (demo / "intrinsics.json").write_text('{"fx": 3}')
    problems: list[str] = []
    figures = compare(demo_video.estimate, GroundTruth(demo), problems)
    assert set(figures) == {"J", "F", "recall", "false_alarms"}
    masks, poses, intrinsics = problems
    assert "1 of 12" in masks and "00003.png is not a picture" in masks
    assert "poses.txt cannot be read" in poses and "intrinsics.json is not a pinhole camera" in intrinsics


def test_frames_without_a_pose_are_left_out(demo_video, demo: Path) -> None:
    truth = GroundTruth(demo)
    poses = truth.c2w_cv.copy()
    poses[[2, 7]] = np.nan
    truth.__dict__["c2w_cv"] = poses
    problems: list[str] = []
    assert compare(demo_video.estimate, truth, problems)["ate"] == pytest.approx(0, abs=1e-8)
    assert problems == ["poses: 2 of 12 frames have no true pose."]
    truth.__dict__["c2w_cv"] = np.full_like(poses, np.nan)
    assert "ate" not in compare(demo_video.estimate, truth, problems)
    assert "only 0 of 12" in problems[-1]
