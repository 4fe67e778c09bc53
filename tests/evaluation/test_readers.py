"""Benchmark sets as their owners distribute them, written small by the tests."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from scipy.spatial.transform import Rotation

from das3r_ns.errors import Das3rError
from das3r_ns.evaluation.readers import find_sequences, open_sequence, read_sintel_cam

FRAME = np.zeros((32, 48, 3), np.uint8)


def write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)


def write_cam(path: Path, k: np.ndarray, w2c: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tag = np.array([202021.25], "<f4").tobytes()
    path.write_bytes(tag + k.astype("<f8").tobytes() + w2c[:3].astype("<f8").tobytes())


def some_poses(count: int) -> np.ndarray:
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = Rotation.random(count, np.random.default_rng(0)).as_matrix()
    poses[:, :3, 3] = np.random.default_rng(0).normal(size=(count, 3))
    return poses


def test_davis_merges_all_objects(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"JPEGImages/480p/dog/{number:05d}.jpg", FRAME)
    # The 2017 annotations are palette pictures, an index for every object; dark colours count too.
    labels = np.zeros((32, 48), np.uint8)
    labels[:8], labels[8:16] = 1, 2
    picture = PIL.Image.fromarray(labels, mode="P")
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 1, 0])
    (tmp_path / "Annotations/480p/dog").mkdir(parents=True)
    picture.save(tmp_path / "Annotations/480p/dog/00001.png")
    truth = open_sequence("davis", tmp_path, "dog")
    assert truth.num_frames == 3 and truth.size == (48, 32)
    assert truth.has("masks") and not truth.has("poses.txt") and not truth.has("clean")
    np.testing.assert_array_equal(truth.mask(1), labels > 0)
    with pytest.raises(Das3rError, match=r"dog/00002\.png does not exist"):
        truth.mask(2)
    with pytest.raises(Das3rError, match="goat does not exist"):
        open_sequence("davis", tmp_path, "goat")
    (tmp_path / "JPEGImages/480p/empty").mkdir()
    with pytest.raises(Das3rError, match="empty holds no pictures"):
        open_sequence("davis", tmp_path, "empty")


@pytest.mark.parametrize("inside", [True, False], ids=["root", "training"])
def test_sintel_reads_cameras_and_labels(tmp_path: Path, inside: bool) -> None:
    training = tmp_path / "training"
    k = np.array([[1120.0, 0, 511.5], [0, 1120.0, 217.5], [0, 0, 1]])
    c2w = some_poses(3)
    for number, pose in enumerate(c2w, 1):
        write(training / f"final/alley_2/frame_{number:04d}.png", FRAME)
        write_cam(training / f"camdata_left/alley_2/frame_{number:04d}.cam", k, np.linalg.inv(pose))
    label = np.zeros((32, 48), np.uint8)
    label[4:9] = 255
    write(training / "dynamic_label_perfect/alley_2/frame_0002.png", label)
    truth = open_sequence("sintel", tmp_path if inside else training, "alley_2")
    np.testing.assert_allclose(truth.c2w_cv, c2w, atol=1e-12)
    np.testing.assert_allclose(truth.intrinsics, k)
    np.testing.assert_array_equal(truth.mask(1), label > 0)
    assert truth.indices(["frame_0003.png"]) == [2]


def test_a_damaged_sintel_camera_is_named(tmp_path: Path) -> None:
    path = tmp_path / "frame_0001.cam"
    with pytest.raises(Das3rError, match=r"frame_0001\.cam cannot be read"):
        read_sintel_cam(path)
    write_cam(path, np.eye(3), np.eye(4))
    content = path.read_bytes()
    for damaged in (content[:-8], b"abcd" + content[4:]):
        path.write_bytes(damaged)
        with pytest.raises(Das3rError, match=r"frame_0001\.cam is not a Sintel camera file"):
            read_sintel_cam(path)


def write_tum(folder: Path, times: list[float], pose_times: list[float], c2w: np.ndarray) -> None:
    for time in times:
        write(folder / f"rgb/{time:.6f}.png", FRAME)
    listed = "\n".join(f"{time:.6f} rgb/{time:.6f}.png" for time in times)
    (folder / "rgb.txt").write_text(f"# color images\n# timestamp filename\n{listed}\n")
    rows = []
    for time, pose in zip(pose_times, c2w, strict=True):
        numbers = (time, *pose[:3, 3], *Rotation.from_matrix(pose[:3, :3]).as_quat())
        rows.append(" ".join(f"{number:.9f}" for number in numbers))
    (folder / "groundtruth.txt").write_text("# timestamp tx ty tz qx qy qz qw\n" + "\n".join(rows) + "\n")


def test_tum_brings_pictures_and_poses_together_by_time(tmp_path: Path) -> None:
    c2w = some_poses(4)
    # The third picture has no pose within 0.02 s.
    write_tum(tmp_path / "walk", [10.0, 10.04, 10.08, 10.12], [9.995, 10.030, 10.045, 10.121], c2w)
    truth = open_sequence("tum", tmp_path, "walk")
    assert [path.name for path in truth.frame_paths][:2] == ["10.000000.png", "10.040000.png"]
    assert truth.indices(["10.080000.png"]) == [2]
    np.testing.assert_allclose(truth.c2w_cv[[0, 1, 3]], c2w[[0, 2, 3]], atol=1e-7)
    assert np.isnan(truth.c2w_cv[2]).any() and not truth.has("masks")


def test_tum_names_what_is_missing_or_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "walk"
    write_tum(folder, [1.0, 2.0], [1.0, 2.0], some_poses(2))
    (folder / "groundtruth.txt").write_text("1.0 a b c 0 0 0 1\n")
    with pytest.raises(Das3rError, match=r"groundtruth\.txt holds something that is not a number"):
        _ = open_sequence("tum", tmp_path, "walk").c2w_cv
    (folder / "groundtruth.txt").write_text("1.0 2.0\n")
    with pytest.raises(Das3rError, match=r"groundtruth\.txt must hold lines of 8"):
        _ = open_sequence("tum", tmp_path, "walk").c2w_cv
    (folder / "rgb/2.000000.png").unlink()
    with pytest.raises(Das3rError, match=r"lists 2 pictures, but 1 of them are not there, 2\.000000\.png"):
        open_sequence("tum", tmp_path, "walk")
    (folder / "rgb.txt").write_text("one rgb/1.000000.png\n")
    with pytest.raises(Das3rError, match=r"rgb\.txt holds a time that is not a number"):
        open_sequence("tum", tmp_path, "walk")
    with pytest.raises(Das3rError, match=r"rgb\.txt cannot be read"):
        open_sequence("tum", tmp_path, "sit")


def test_sets_in_a_folder_are_found(tmp_path: Path) -> None:
    with pytest.raises(Das3rError, match="holds no set"):
        find_sequences(tmp_path)
    for name in ("b", "a"):
        write(tmp_path / name / "frames/0.png", FRAME)
    assert find_sequences(tmp_path) == ["a", "b"]
    assert find_sequences(tmp_path / "a") == ["a"]
    assert open_sequence("folder", tmp_path, "b").num_frames == 1
    assert open_sequence("folder", tmp_path / "a", "a").num_frames == 1
