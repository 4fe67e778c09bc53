"""The demo's ground truth is consistent with itself."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from das3r_ns.demo.room import build_room, camera_path
from das3r_ns.demo.write import render_frame, write_demo
from das3r_ns.errors import Das3rError
from das3r_ns.evaluation.ground_truth import GroundTruth
from das3r_ns.scene.geometry import rigid_flow


def test_the_layout_is_the_one_the_evaluation_reads(demo_video) -> None:
    truth = GroundTruth(demo_video.folder)
    assert truth.num_frames == 12
    assert truth.size == (160, 90)
    np.testing.assert_allclose(truth.intrinsics, [[144, 0, 80], [0, 144, 45], [0, 0, 1]])
    assert truth.c2w_cv.shape == (12, 4, 4)
    assert truth.mask(3).shape == truth.observed(3).shape == (90, 160)


def test_a_fair_share_of_the_picture_moves_and_most_of_it_is_seen_clean_elsewhere(demo_video) -> None:
    masks = demo_video.estimate.dynamic_probability > 0.5
    assert 0.15 <= masks.mean() <= 0.25
    truth = GroundTruth(demo_video.folder)
    behind = np.concatenate([truth.observed(i)[masks[i]] for i in range(truth.num_frames)])
    assert (behind == 0).mean() < 0.05
    outside = np.concatenate([truth.observed(i)[~masks[i]] for i in range(truth.num_frames)])
    assert (outside == 0).mean() < 0.05, "static pixels see themselves, but for a mask's one pixel of growth"


def test_frames_equal_clean_plates_away_from_what_moves(demo_video) -> None:
    truth = GroundTruth(demo_video.folder)
    for i in (0, 5, 11):
        difference = np.abs(demo_video.images[i].astype(int) - np.rint(truth.clean(i) * 255).astype(int)).max(-1)
        mask = truth.mask(i)
        outside = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3))) == 0
        # Not none at all: a tip may cover the corner of a pixel and no centre of its neighbours.
        assert (difference[outside] > 0).mean() < 1e-3
        assert np.median(difference[mask]) > 20
        nearer = demo_video.estimate.depth[i] < demo_video.clean_depth[i]
        np.testing.assert_array_equal(nearer, mask)


def test_depth_and_poses_predict_the_other_clean_frames(demo_video) -> None:
    """Frame j warped by the depth of i and the poses is frame i, and is not with the pose of the frame after j."""
    truth = GroundTruth(demo_video.folder)
    i, j = 4, 6
    k, poses = truth.intrinsics, truth.c2w_cv

    def error(pose: int) -> float:
        flow, valid = rigid_flow(demo_video.clean_depth[i], k, k, poses[i], poses[pose])
        y, x = np.mgrid[0:90, 0:160].astype(np.float32)
        x, y = x + flow[..., 0], y + flow[..., 1]
        warped = cv2.remap(truth.clean(j), x, y, cv2.INTER_LINEAR)
        inside = valid & (x > 0) & (x < 159) & (y > 0) & (y < 89)
        return float(np.median(np.abs(warped - truth.clean(i))[inside]))

    assert error(j) < 0.02
    assert error(j + 1) > 3 * error(j)


def test_the_camera_has_parallax() -> None:
    poses = camera_path(36)
    assert np.ptp(poses[:, 0, 3]) > 1.0
    np.testing.assert_allclose(
        poses[:, :3, :3] @ poses[:, :3, :3].transpose(0, 2, 1), np.tile(np.eye(3), (36, 1, 1)), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(poses[:, :3, :3]), 1)


def test_depth_is_camera_z_of_the_room() -> None:
    """Looking straight ahead, the middle of the picture shows the back wall's nearest surface."""
    frame = render_frame(
        build_room(),
        None,
        0.0,
        np.array([[1, 0, 0, -0.4], [0, 1, 0, -2.4], [0, 0, 1, 0.5], [0, 0, 0, 1.0]]),
        100.0,
        21,
        21,
    )
    np.testing.assert_allclose(frame.depth[10], 6.8 - 0.5, rtol=1e-5)


def test_the_static_demo_has_no_masks(tmp_path: Path) -> None:
    truth = GroundTruth(write_demo(tmp_path / "still", num_frames=3, width=96, height=54, moving=False))
    for i in range(3):
        assert not truth.mask(i).any()
        frame = cv2.imread(str(tmp_path / f"still/frames/{i:05d}.png"))[..., ::-1]
        np.testing.assert_array_equal(frame, np.rint(truth.clean(i) * 255))


def test_writing_twice_keeps_the_folder_and_other_settings_replace_it(tmp_path: Path) -> None:
    target = tmp_path / "demo"
    write_demo(target, num_frames=2, width=64, height=36)
    first = (target / "frames/00000.png").stat()
    write_demo(target, num_frames=2, width=64, height=36)
    assert (target / "frames/00000.png").stat().st_mtime_ns == first.st_mtime_ns
    write_demo(target, num_frames=3, width=64, height=36)
    assert len(list((target / "frames").iterdir())) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["demo"], "no temporary folder is left"


def test_a_folder_that_is_not_a_demo_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("ten years of work")
    with pytest.raises(Das3rError, match="left alone"):
        write_demo(tmp_path, num_frames=2)
    assert (tmp_path / "thesis.txt").exists()


def test_an_interrupted_demo_leaves_nothing(tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path / "demo", num_frames=2, width=64, height=36, on_frame=interrupt)
    assert not list(tmp_path.iterdir())
