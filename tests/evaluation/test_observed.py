"""Which points of the static scene some frame sees."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from das3r_ns.errors import Das3rError
from das3r_ns.evaluation.ground_truth import GroundTruth
from das3r_ns.evaluation.observed import with_observed
from das3r_ns.scene.observed import SAME_DEPTH, grown, observed_count


def side_by_side(count: int = 2) -> np.ndarray:
    """Cameras half a unit apart; with a focal of 20 pixels a point 2 away moves by 5 pixels between two of them."""
    c2w_cv = np.tile(np.eye(4), (count, 1, 1))
    c2w_cv[:, 0, 3] = 0.5 * np.arange(count)
    return c2w_cv


def test_what_another_frame_sees_beside_the_mover_is_observed() -> None:
    depth, masks = np.full((2, 20, 40), 2.0, np.float32), np.zeros((2, 20, 40), bool)
    masks[:, :, 10:20] = True
    seen = (observed_count(0, grown(masks), depth, side_by_side(), 20.0) > 0).all(axis=0)
    # The wall at column x of camera 0 is at x - 5 of camera 1, where columns 9 to 20 are masked.
    assert seen[10:14].all() and not seen[14:20].any()


def test_what_something_static_hides_is_not_observed() -> None:
    """A post 1 away before a wall 2 away, in the columns 30 to 35 of camera 0: 20 to 25 of camera 1."""
    depth, masks = np.full((2, 20, 60), 2.0, np.float32), np.zeros((2, 20, 60), bool)
    depth[0, :, 30:36], depth[1, :, 20:26] = 1.0, 1.0
    masks[0] = True
    count = observed_count(0, masks, depth, side_by_side(), 20.0)
    # Camera 1 does not see the wall at columns 25 to 30 of camera 0; the outermost are at the edge of the post.
    assert not count[:, 26:30].any() and (count[:, 5:26] == 1).all() and (count[:, 30:] == 1).all()
    depth[1, :, 20:26] = 2.0 * (1 - 0.9 * SAME_DEPTH)  # not nearer than depth may be wrong by
    assert (observed_count(0, masks, depth, side_by_side(), 20.0)[:, 5:30] == 1).all()


def test_more_frames_than_a_byte_holds_are_counted_as_255() -> None:
    n = 300
    poses, depth, masked = np.tile(np.eye(4), (n, 1, 1)), np.ones((n, 2, 3), np.float32), np.zeros((n, 2, 3), bool)
    masked[100:, 0, 0] = True
    count = observed_count(0, masked, depth, poses, focal=3.0)
    np.testing.assert_array_equal(count, [[100, 255, 255], [255, 255, 255]])


@pytest.fixture()
def without_observed(demo_video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GroundTruth:
    """The demo without its observed pictures, and a front end that knows its clean plates."""
    shutil.copytree(demo_video.folder, tmp_path / "room")
    shutil.rmtree(tmp_path / "room/observed")

    def estimate(images, names, *_):
        moving = np.zeros_like(demo_video.estimate.dynamic_probability)
        clean = {"depth": demo_video.clean_depth, "dynamic_probability": moving}
        return dataclasses.replace(demo_video.estimate, frame_names=names, **clean)

    monkeypatch.setitem(sys.modules, "das3r_ns.frontend.geometric.estimate", SimpleNamespace(estimate=estimate))
    return GroundTruth(tmp_path / "room")


def test_a_scene_of_the_clean_plates_finds_what_the_exact_depth_finds(
    without_observed, demo_video, tmp_path: Path
) -> None:
    truth = GroundTruth(demo_video.folder)
    made = with_observed(without_observed, tmp_path / "work", iterations=60)
    assert made.has("observed") and not without_observed.has("observed")
    masks, seen, known = (
        np.stack([read(i) for i in range(truth.num_frames)])
        for read in (truth.mask, lambda i: made.observed(i) > 0, lambda i: truth.observed(i) > 0)
    )
    assert (seen == known)[masks].mean() > 0.97
    assert (~seen & ~known & masks).sum() > 0.5 * (~known & masks).sum() > 0
    stamp = (tmp_path / "work/observed/00000.png").stat().st_mtime_ns
    shutil.rmtree(tmp_path / "room/clean")  # not needed a second time
    assert with_observed(without_observed, tmp_path / "work").has("observed")
    assert (tmp_path / "work/observed/00000.png").stat().st_mtime_ns == stamp


def test_a_set_that_says_it_itself_is_taken_at_its_word(demo_video, tmp_path: Path) -> None:
    truth = GroundTruth(demo_video.folder)
    assert with_observed(truth, tmp_path / "work") is truth and not (tmp_path / "work").exists()


def test_a_missing_clean_plate_is_named_before_anything_is_trained(without_observed, tmp_path: Path) -> None:
    (tmp_path / "room/clean/00003.png").unlink()
    with pytest.raises(Das3rError, match="no picture for frame 00003"):
        with_observed(without_observed, tmp_path / "work")
    assert not (tmp_path / "work").exists()
