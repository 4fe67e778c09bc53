"""Cameras from transforms.json and COLMAP, against the demo's exact ones."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nerfstudio.data.utils import colmap_parsing_utils as colmap

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.known.cameras import GL_TO_CV, read_cameras
from das3r_ns.frontend.known.knowledge import find_knowledge
from das3r_ns.scene import geometry as geo
from das3r_ns.video import open_clip

NAMES = [f"{i:05d}.png" for i in range(12)]
SIZE = (160, 90)


def write_transforms(path: Path, estimate: Any, **changes: Any) -> Path:
    """The estimate's cameras as nerfstudio writes them; a change to None takes a key away."""
    k = estimate.intrinsics[0]
    lens = {"w": 160, "h": 90, "fl_x": k[0, 0], "fl_y": k[1, 1], "cx": k[0, 2], "cy": k[1, 2], "k1": 0.0}
    content = {"camera_model": "OPENCV", **lens, **changes}
    content["frames"] = [
        {"file_path": f"images/{name}", "transform_matrix": (pose @ GL_TO_CV).tolist()}
        for name, pose in zip(NAMES, estimate.c2w_cv, strict=True)
    ]
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return path


def write_colmap(folder: Path, estimate: Any, suffix: str, model: str = "PINHOLE", *more: float) -> Path:
    """The estimate's cameras as COLMAP writes them."""
    folder.mkdir(parents=True)
    k = estimate.intrinsics[0]
    focals = (k[0, 0],) if model.startswith("SIMPLE") else (k[0, 0], k[1, 1])
    parameters = np.array([*focals, k[0, 2], k[1, 2], *more])
    cameras = {7: colmap.Camera(id=7, model=model, width=160, height=90, params=parameters)}
    images = {}
    for i, pose in enumerate(estimate.c2w_cv):
        w2c = geo.invert_rigid(pose)
        qvec = colmap.rotmat2qvec(w2c[:3, :3])
        images[i + 1] = colmap.Image(
            id=i + 1,
            qvec=qvec,
            tvec=w2c[:3, 3],
            camera_id=7,
            name=f"cam0/{NAMES[i]}",
            xys=np.zeros((1, 2)),
            point3D_ids=np.array([-1]),
        )
    colmap.write_model(cameras, images, {}, str(folder), ext=suffix)
    return folder


WRITERS: dict[str, Callable[[Path, Any], Path]] = {
    "transforms.json": lambda path, truth: write_transforms(path / "transforms.json", truth),
    "its folder": lambda path, truth: write_transforms(path / "transforms.json", truth).parent,
    "colmap text": lambda path, truth: write_colmap(path / "sparse/0", truth, ".txt"),
    "colmap binary": lambda path, truth: write_colmap(path / "model", truth, ".bin"),
    "colmap project": lambda path, truth: write_colmap(path / "colmap/sparse/0", truth, ".bin").parents[2],
    "one focal": lambda path, truth: write_colmap(path / "model", truth, ".bin", "SIMPLE_RADIAL", 1e-4),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_cameras_are_read_exactly(demo_video, tmp_path: Path, kind: str) -> None:
    truth = demo_video.estimate
    cameras = read_cameras(WRITERS[kind](tmp_path, truth))
    np.testing.assert_allclose(cameras.c2w_cv(NAMES), truth.c2w_cv, atol=1e-12)
    np.testing.assert_allclose(cameras.intrinsics(NAMES, SIZE, None), truth.intrinsics, atol=1e-9)
    assert cameras.find("00003") is not None and cameras.find("00012.png") is None


@pytest.mark.parametrize("kind", ["transforms.json", "colmap text"])
def test_points_project_to_where_nerfstudio_and_colmap_put_them(demo_video, tmp_path: Path, kind: str) -> None:
    truth = demo_video.estimate
    cameras = read_cameras(WRITERS[kind](tmp_path, truth))
    pose, matrix = cameras.c2w_cv(NAMES)[5], cameras.intrinsics(NAMES, SIZE, None)[5]
    # The centre of the pixel in column 20 and row 70 lies at (20.5, 70.5) in both conventions.
    column, row, z = 20, 70, 3.0
    point = geo.transform_points(pose, geo.unproject(np.array([column + 0.5, row + 0.5]), np.array(z), matrix))
    if kind == "transforms.json":
        content = json.loads((tmp_path / "transforms.json").read_text())
        x, y, depth = np.linalg.solve(np.array(content["frames"][5]["transform_matrix"]), [*point, 1.0])[:3]
        u, v = content["cx"] + content["fl_x"] * x / -depth, content["cy"] - content["fl_y"] * y / -depth
    else:
        image = colmap.read_images_text(str(tmp_path / "sparse/0/images.txt"))[6]
        camera = colmap.read_cameras_text(str(tmp_path / "sparse/0/cameras.txt"))[7]
        x, y, depth = colmap.qvec2rotmat(image.qvec) @ point + image.tvec
        fx, fy, cx, cy = camera.params
        u, v, depth = cx + fx * x / depth, cy + fy * y / depth, -depth
    np.testing.assert_allclose([u, v, -depth], [column + 0.5, row + 0.5, z], atol=1e-9)


def test_cameras_of_larger_pictures_fit_the_frames_and_half_a_pixel_stays_one(demo_video, tmp_path: Path) -> None:
    truth = demo_video.estimate
    k = 4 * truth.intrinsics[0]
    changes = {"w": 640, "h": 360, "fl_x": k[0, 0], "fl_y": k[1, 1], "cx": 320 + 2, "cy": 180 - 4}
    cameras = read_cameras(write_transforms(tmp_path / "t.json", truth, **changes))
    found = cameras.intrinsics(NAMES, SIZE, None)[0]
    np.testing.assert_allclose(found[:2, 2], [80.5, 44.0])
    np.testing.assert_allclose(found[0, 0], truth.intrinsics[0, 0, 0])


def test_an_angle_of_view_or_a_known_focal_will_do(demo_video, tmp_path: Path) -> None:
    truth = demo_video.estimate
    focal = truth.intrinsics[0, 0, 0]
    bare = {"fl_x": None, "fl_y": None, "cx": None, "cy": None, "k1": None}
    angle = write_transforms(tmp_path / "a.json", truth, **bare, camera_angle_x=2 * math.atan(80 / focal))
    found = read_cameras(angle).intrinsics(NAMES, SIZE, None)
    np.testing.assert_allclose(found[0], geo.pinhole(focal, *SIZE), atol=1e-9)
    as_nerf_synthetic_has_it = {**bare, "w": None, "h": None, "camera_angle_x": 2 * math.atan(80 / focal)}
    found = read_cameras(write_transforms(tmp_path / "c.json", truth, **as_nerf_synthetic_has_it))
    np.testing.assert_allclose(found.intrinsics(NAMES, SIZE, None)[0], geo.pinhole(focal, *SIZE), atol=1e-9)
    nothing = read_cameras(write_transforms(tmp_path / "b.json", truth, **bare, w=None, h=None))
    np.testing.assert_allclose(nothing.intrinsics(NAMES, SIZE, 123.0)[0], geo.pinhole(123.0, *SIZE))
    for cameras, known_focal in ((nothing, None), (read_cameras(angle), 100.0)):
        with pytest.raises(Das3rError, match="--known-focal"):
            cameras.intrinsics(NAMES, SIZE, known_focal)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"k3": 0.1}, "distortion beyond k1, k2, p1 and p2"),
        ({"k1": math.nan}, "not finite"),
        ({"camera_model": "THIN_PRISM_FISHEYE"}, "camera model is THIN_PRISM_FISHEYE"),
        ({"camera_model": "EQUIRECTANGULAR"}, "camera model is EQUIRECTANGULAR"),
        ({"is_fisheye": True, "p1": 0.1}, "distortion beyond k1, k2, k3 and k4"),
        ({"is_fisheye": True, "fl_x": 30.0, "fl_y": 30.0}, "fisheye, k1 0, k2 0; focal 30 pixels. sees too wide"),
        ({"w": 90, "h": 160}, "another shape"),
        ({"fl_x": -100.0}, "no camera has"),
    ],
)
def test_lenses_that_are_not_known_are_refused(demo_video, tmp_path: Path, changes: dict, says: str) -> None:
    path = write_transforms(tmp_path / "t.json", demo_video.estimate, **changes)
    with pytest.raises(Das3rError, match=says) as error:
        read_cameras(path).lens(NAMES, SIZE, None)
    assert "t.json" in str(error.value)


def test_distortion_too_small_to_see_is_ignored(demo_video, tmp_path: Path) -> None:
    path = write_transforms(tmp_path / "t.json", demo_video.estimate, k1=1e-4, p1=1e-5)
    assert read_cameras(path).lens(NAMES, SIZE, None) is None
    np.testing.assert_allclose(read_cameras(path).intrinsics(NAMES, SIZE, None), demo_video.estimate.intrinsics)
    long = write_transforms(tmp_path / "f.json", demo_video.estimate, is_fisheye=True, fl_x=4e3, fl_y=4e3)
    assert read_cameras(long).lens(NAMES, SIZE, None) is None
    with pytest.raises(Das3rError, match="camera model is FOV"):
        read_cameras(write_colmap(tmp_path / "model", demo_video.estimate, ".txt", "FOV", 0.1))


def scale(content: dict) -> None:
    content["frames"][3]["transform_matrix"][0][0] *= 1.1


def mirror(content: dict) -> None:
    for row in content["frames"][3]["transform_matrix"]:
        row[0] *= -1


def twice(content: dict) -> None:
    content["frames"].append({**content["frames"][3], "file_path": "eval/00002.png"})


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (scale, "00003.png .* no rigid motion"),
        (mirror, "00003.png .* no rigid motion"),
        (twice, "two different cameras .* named 00002"),
        (lambda content: content.update(frames=[]), "holds no cameras"),
        (lambda content: content.pop("frames"), "cannot be read .KeyError"),
        (lambda content: content["frames"][0].update(transform_matrix=[[1, 2]]), "cannot be read .ValueError"),
    ],
)
def test_files_that_hold_no_cameras_are_refused(demo_video, tmp_path: Path, spoil, says: str) -> None:
    path = write_transforms(tmp_path / "t.json", demo_video.estimate)
    content = json.loads(path.read_text())
    spoil(content)
    path.write_text(json.dumps(content))
    with pytest.raises(Das3rError, match=says):
        read_cameras(path)


def test_damaged_and_missing_models_are_refused(demo_video, tmp_path: Path) -> None:
    folder = write_colmap(tmp_path / "model", demo_video.estimate, ".bin")
    (folder / "images.bin").write_bytes((folder / "images.bin").read_bytes()[:200])
    with pytest.raises(Das3rError, match="cannot be read"):
        read_cameras(folder)
    with pytest.raises(Das3rError, match=r"neither a transforms.json nor a COLMAP model"):
        read_cameras(tmp_path)
    with pytest.raises(Das3rError, match="does not exist"):
        read_cameras(tmp_path / "nothing")


def test_a_few_frames_without_a_pose_are_left_out_and_many_refused(demo_video, tmp_path: Path) -> None:
    shutil.copytree(demo_video.folder / "frames", tmp_path / "frames")
    path = write_transforms(tmp_path / "t.json", demo_video.estimate)
    content = json.loads(path.read_text())
    clip, config = open_clip(tmp_path / "frames"), FrontEndConfig(known_poses=path)
    whole = find_knowledge(clip, config)
    del content["frames"][4]
    path.write_text(json.dumps(content))
    fewer = find_knowledge(clip, config)
    assert fewer.left_out == ("00004.png",) and fewer.clip.names == [n for n in NAMES if n != "00004.png"]
    assert fewer.messages[-1].endswith("has no pose for them: 00004.png.")
    assert len(list(fewer.clip.original_images())) == 11 and len(clip.names) == 12
    assert fewer.clip.content_hash != whole.clip.content_hash == clip.content_hash
    assert fewer.clip.remarks == []
    found = fewer.load(fewer.clip.names, SIZE, print).c2w_cv
    assert found is not None
    np.testing.assert_allclose(found, np.delete(demo_video.estimate.c2w_cv, 4, 0), atol=1e-9)
    del content["frames"][7]
    path.write_text(json.dumps(content))
    with pytest.raises(Das3rError, match=r"no pose for 2 of the 12 frames .* 00004.png, 00008.png"):
        find_knowledge(clip, config)
