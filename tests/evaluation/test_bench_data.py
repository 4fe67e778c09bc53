"""What held-out frames, and masks, are allowed to say in measurements."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from das3r_ns.evaluation.bench_data import BenchDataParserConfig, with_held_out_cameras
from das3r_ns.scene import cache
from das3r_ns.scene.estimate import SceneEstimate

TRAIN = [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]


def some_frames(estimate: SceneEstimate, frames: list[int], unit: float) -> SceneEstimate:
    """What a perfect front end says of some frames, with its own unit of length."""
    poses = estimate.c2w_cv[frames].copy()
    poses[:, :3, 3] *= unit
    names = [estimate.frame_names[i] for i in frames]
    arrays = {name: getattr(estimate, name)[frames] for name in ("intrinsics", "confidence", "dynamic_probability")}
    depth = estimate.depth[frames] * np.float32(unit)
    return dataclasses.replace(estimate, frame_names=names, c2w_cv=poses, depth=depth, **arrays)


def test_held_out_frames_give_their_cameras_and_nothing_else(demo_video) -> None:
    full = demo_video.estimate
    blind = some_frames(full, TRAIN, 3.0)
    completed = with_held_out_cameras(blind, full, TRAIN)
    expected = full.c2w_cv.copy()
    expected[:, :3, 3] *= 3.0
    # The path through the training frames is as good as exact; so is the unit, and every camera.
    np.testing.assert_allclose(completed.c2w_cv, expected, atol=1e-9)
    assert completed.frame_names == full.frame_names
    assert not completed.confidence[5].any() and (completed.dynamic_probability[5] == 1).all()
    np.testing.assert_array_equal(completed.depth[5], blind.depth[4])
    for k, frame in enumerate(TRAIN):
        np.testing.assert_array_equal(completed.depth[frame], blind.depth[k])
        np.testing.assert_array_equal(completed.dynamic_probability[frame], blind.dynamic_probability[k])


def test_a_held_out_camera_keeps_its_motion_from_the_frame_before(demo_video) -> None:
    full = demo_video.estimate
    blind = some_frames(full, TRAIN, 1.0)
    bent = blind.c2w_cv.copy()
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("y", 5, degrees=True).as_matrix()
    bent[4] = bent[4] @ turn  # the blind run turned frame 4 about its own centre
    completed = with_held_out_cameras(dataclasses.replace(blind, c2w_cv=bent), full, TRAIN)
    motion = np.linalg.inv(full.c2w_cv[4]) @ full.c2w_cv[5]
    np.testing.assert_allclose(completed.c2w_cv[5], bent[4] @ motion, atol=1e-9)


@pytest.fixture()
def seen(demo_video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The frames that each run of the front end, a perfect one, was shown."""
    runs: list[list[str]] = []
    numbers = {name: i for i, name in enumerate(demo_video.estimate.frame_names)}

    def estimate(images: np.ndarray, names: list[str], *_: object) -> SceneEstimate:
        runs.append(names)
        chosen = some_frames(demo_video.estimate, [numbers[Path(name).stem] for name in names], 1.0)
        return dataclasses.replace(chosen, frame_names=names)

    monkeypatch.setitem(sys.modules, "das3r_ns.frontend.geometric.estimate", SimpleNamespace(estimate=estimate))
    monkeypatch.setattr(cache, "cache_roots", lambda path: [tmp_path / "cache" / path.name])
    return runs


def link_demo(demo_video, tmp_path: Path) -> Path:
    (tmp_path / "room").symlink_to(demo_video.folder / "frames")
    return tmp_path / "room"


def test_strict_runs_the_front_end_without_the_held_out_frames(demo_video, tmp_path: Path, seen) -> None:
    data = tmp_path / "room"
    data.mkdir()
    for path in (demo_video.folder / "frames").iterdir():
        (data / path.name).symlink_to(path)
    config = BenchDataParserConfig(data=data, eval_split="paper", strict=True, max_points=2000)
    parser = config.setup()
    train = parser.get_dataparser_outputs("train")
    assert [len(run) for run in seen] == [12, 11] and "00005.png" not in seen[1]
    assert train.metadata["frame_indices"].tolist() == TRAIN
    held_out = parser.get_dataparser_outputs("val")
    assert held_out.metadata["frame_indices"].tolist() == [5]
    # Its camera is the true one, in the frame of all others.
    exact = BenchDataParserConfig(data=data, eval_split="paper", max_points=2000).setup()
    true_pose = exact.get_dataparser_outputs("val").cameras.camera_to_worlds
    np.testing.assert_allclose(held_out.cameras.camera_to_worlds, true_pose, atol=0.01)
    assert [len(run) for run in seen] == [12, 11]  # both were cached


def test_without_masks_every_pixel_trains_and_seeds(demo_video, tmp_path: Path, seen) -> None:
    import cv2

    data = link_demo(demo_video, tmp_path)
    outputs = {
        use: BenchDataParserConfig(data=data, use_masks=use, max_points=2000).setup().get_dataparser_outputs("train")
        for use in (True, False)
    }
    masks = {use: np.stack([cv2.imread(str(path), 0) for path in o.mask_filenames]) for use, o in outputs.items()}
    assert (masks[True] == 0).mean() > 0.02 and (masks[False] == 255).all()
    assert (outputs[False].metadata["points3D_staticness"] == 1).all()
