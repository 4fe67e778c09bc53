"""Lenses from transforms.json and COLMAP models, with poses and without, through the front end."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pycolmap
import pytest
from nerfstudio.data.utils import colmap_parsing_utils as colmap

from das3r_ns.errors import Das3rError
from das3r_ns.frontend import run
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.known.cameras import GL_TO_CV, read_cameras, read_lens
from das3r_ns.scene import geometry as geo
from das3r_ns.scene.fisheye import Fisheye
from das3r_ns.scene.lens import Lens

NAMES = [f"{i:05d}.png" for i in range(12)]
SIZE = (160, 90)
LENS = {"fl_x": 150.0, "fl_y": 152.0, "cx": 81.0, "cy": 44.0, "k1": -0.2, "k2": 0.04, "p1": 0.001, "p2": -0.002}
TERMS = {"k1": 0.05, "k2": -0.01, "k3": 0.004, "k4": -0.001, "p1": 0.0, "p2": 0.0}
FISHEYE = {"camera_model": "OPENCV_FISHEYE", **TERMS}


def write_transforms(path: Path, poses: np.ndarray | None = None, **changes: Any) -> Path:
    """A transforms.json with this lens; without frames where there are no poses."""
    content = {"camera_model": "OPENCV", "w": 160, "h": 90, **LENS, **changes}
    if poses is not None:
        content["frames"] = [
            {"file_path": f"images/{name}", "transform_matrix": (pose @ GL_TO_CV).tolist()}
            for name, pose in zip(NAMES, poses, strict=False)
        ]
    path.write_text(json.dumps(content))
    return path


def write_cameras(folder: Path, suffix: str, model: str, *parameters: float) -> Path:
    """A COLMAP model that has a camera and no pictures."""
    folder.mkdir()
    camera = colmap.Camera(id=1, model=model, width=320, height=180, params=np.array(parameters))
    colmap.write_model({1: camera}, {}, {}, str(folder), ext=suffix)
    (folder / f"images{suffix}").unlink()
    return folder


@pytest.fixture()
def room(demo_video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the demo's frames and masks."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    for folder in ("frames", "masks"):
        shutil.copytree(demo_video.folder / folder, tmp_path / "room" / folder)
    return tmp_path / "room"


@pytest.fixture()
def calls(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """What a front end is called with that finds a flat scene; a lens too where one is put under ``finds``."""
    made: list[SimpleNamespace] = []

    def estimate(images: Any, names: Any, config: Any, progress: Any, known: Any, full_size: Any) -> Any:
        from das3r_ns.scene.estimate import SceneEstimate

        made.append(SimpleNamespace(images=images, known=known, full=next(full_size())))
        lens = getattr(finds, "lens", None)
        count, height, width = len(names), *images.shape[1:3]
        if lens is not None:
            width, height = lens.pinhole_size
        intrinsics = geo.pinhole(100.0, width, height)[None].repeat(count, 0)
        return SceneEstimate(
            frame_names=names,
            c2w_cv=np.eye(4)[None].repeat(count, 0) if known.c2w_cv is None else known.c2w_cv,
            intrinsics=intrinsics if known.intrinsics is None else known.intrinsics,
            depth=np.ones((count, height, width), np.float32),
            confidence=np.ones((count, height, width), np.float32),
            dynamic_probability=np.zeros((count, height, width), np.float32) if known.masks is None else known.masks,
            lens=lens,
        )

    finds = SimpleNamespace(estimate=estimate)
    monkeypatch.setitem(sys.modules, "das3r_ns.frontend.geometric.estimate", finds)
    return made


def expected_lens(size: tuple[int, int] = SIZE) -> Lens:
    fx, fy, cx, cy, k1, k2, p1, p2 = LENS.values()
    return Lens(SIZE, fx, fy, cx, cy, k1, k2, p1, p2).at(size)


def expected_fisheye(k1: float = 0.05, k2: float = -0.01, k3: float = 0.004, k4: float = -0.001) -> Fisheye:
    fx, fy, cx, cy, *_ = LENS.values()
    return Fisheye(SIZE, fx, fy, cx, cy, k1, k2, k3=k3, k4=k4)


BOTH = pytest.mark.parametrize(
    ("changes", "lens"), [({}, expected_lens()), (FISHEYE, expected_fisheye())], ids=["OPENCV", "OPENCV_FISHEYE"]
)


@pytest.mark.parametrize(
    ("model", "parameters", "expected"),
    [
        ("SIMPLE_RADIAL", (300, 160, 90, -0.1), Lens.central(SIZE, 150.0, -0.1)),
        ("RADIAL", (300, 160, 90, -0.1, 0.02), Lens.central(SIZE, 150.0, -0.1, 0.02)),
        ("OPENCV", (300, 304, 162, 88, -0.2, 0.04, 0.001, -0.002), expected_lens()),
        ("SIMPLE_PINHOLE", (300, 160, 90), None),
        ("PINHOLE", (300, 300, 160, 90), None),
        ("SIMPLE_RADIAL_FISHEYE", (300, 160, 90, 0.05), Fisheye(SIZE, 150.0, 150.0, 80.0, 45.0, 0.05)),
        ("RADIAL_FISHEYE", (300, 160, 90, 0.05, -0.01), Fisheye(SIZE, 150.0, 150.0, 80.0, 45.0, 0.05, -0.01)),
        ("OPENCV_FISHEYE", (300, 304, 162, 88, 0.05, -0.01, 0.004, -0.001), expected_fisheye()),
    ],
)
@pytest.mark.parametrize("suffix", [".txt", ".bin"])
def test_colmap_models_are_read(tmp_path: Path, suffix: str, model: str, parameters: Any, expected: Any) -> None:
    found = read_lens(write_cameras(tmp_path / "model", suffix, model, *parameters), SIZE, None)
    assert found.focal == pytest.approx(150.0)
    assert (found.lens is None) == (expected is None)
    if expected is not None:
        assert found.lens is not None and type(found.lens) is type(expected)
        directions = np.random.default_rng(0).uniform(-0.4, 0.4, (20, 2))
        np.testing.assert_allclose(found.lens.distort(directions), expected.distort(directions), atol=1e-9)
        np.testing.assert_allclose(found.lens.view, expected.view)


@pytest.mark.parametrize("model", ["SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "OPENCV_FISHEYE"])
def test_colmap_itself_sees_directions_where_the_lens_puts_them(tmp_path: Path, model: str) -> None:
    terms = {"SIMPLE_RADIAL_FISHEYE": [0.05], "RADIAL_FISHEYE": [0.05, -0.01]}.get(model, [0.05, -0.01, 0.004, -0.001])
    parameters = [300.0, 304.0, 162.0, 88.0, *terms] if model == "OPENCV_FISHEYE" else [300.0, 162.0, 88.0, *terms]
    camera = pycolmap.Camera(camera_id=1, model=model, width=320, height=180, params=parameters)
    lens = read_lens(write_cameras(tmp_path / "model", ".bin", model, *parameters), SIZE, None).lens
    assert isinstance(lens, Fisheye)
    directions = np.random.default_rng(0).uniform(-0.5, 0.5, (50, 2))
    expected = camera.img_from_cam(np.concatenate([directions, np.ones((50, 1))], axis=1))
    np.testing.assert_allclose(lens.at((320, 180)).distort(directions), np.array(expected), atol=1e-6)


@pytest.mark.parametrize("how", [{"camera_model": "OPENCV_FISHEYE"}, {"is_fisheye": True}])
def test_a_transforms_file_can_have_a_fisheye(demo_video, tmp_path: Path, how: dict[str, Any]) -> None:
    path = write_transforms(tmp_path / "t.json", demo_video.estimate.c2w_cv, **TERMS, **how)
    found = read_lens(path, SIZE, None)
    assert found.lens == expected_fisheye() == read_cameras(path).lens(NAMES, SIZE, None)
    assert found.focal == 150.0


def test_a_pinhole_off_the_centre_is_centred_only_where_it_has_no_poses(demo_video, tmp_path: Path) -> None:
    straight = {"k1": 0.0, "k2": 0.0, "p1": 0.0, "p2": 0.0}
    path = write_transforms(tmp_path / "t.json", demo_video.estimate.c2w_cv, **straight)
    assert read_cameras(path).lens(NAMES, SIZE, None) is None
    lens = read_lens(path, SIZE, None).lens
    assert lens is not None and lens.pinhole[0, 0] == pytest.approx(lens.pinhole[1, 1], rel=0.01)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"camera_model": "FOV"}, "camera model is FOV"),
        ({"camera_model": "THIN_PRISM_FISHEYE"}, "camera model is THIN_PRISM_FISHEYE"),
        ({**FISHEYE, "p2": 0.01}, "distortion beyond k1, k2, k3 and k4"),
        ({**FISHEYE, "fl_x": 33.0, "fl_y": 33.0}, "fisheye, k1 0.05, .* k4 -0.001; focal 33 pixels. sees too wide"),
        ({"frames": [{"file_path": "a"}, {"file_path": "b", **FISHEYE}]}, "different lenses for a and b"),
        ({"w": 90, "h": 160}, "90 x 160 pixels, but the frames are 160 x 90: of another shape"),
        ({"w": 0}, "of another shape"),
        ({"fl_x": None, "fl_y": None}, "--known-focal"),
        ({"k1": "much"}, "cannot be read .ValueError"),
        ({"fl_x": 9000.0, "fl_y": 9000.0}, "cannot be meant for a video .*t.json"),
        ({"k1": -9.0}, "k1 -9, k2 0.04. cannot be meant for a focal of 150 pixels: all but the middle .* % of"),
        ({"frames": [{"file_path": "a"}, {"file_path": "b", "k1": -0.1}]}, "different lenses for a and b"),
    ],
)
def test_lenses_that_do_not_fit_are_refused_before_anything_runs(room: Path, tmp_path: Path, changes, says) -> None:
    path = write_transforms(tmp_path / "t.json", **changes)
    with pytest.raises(Das3rError, match=says):
        run.load_or_estimate(room, FrontEndConfig(long_side=160, front_end="geometric", known_lens=path))


@BOTH
def test_poses_bring_their_lens(
    room: Path, demo_video, calls: list[SimpleNamespace], changes: dict[str, Any], lens: Lens
) -> None:
    path = write_transforms(room / "transforms.json", demo_video.estimate.c2w_cv, **changes)
    config = FrontEndConfig(long_side=160, front_end="geometric", known_poses=path, masks="given")
    scene = run.load_or_estimate(room, config)
    assert scene.lens == lens == scene.estimate.lens and scene.original_size == SIZE
    expected = lens.undistorted(demo_video.images, cv2.INTER_CUBIC)
    np.testing.assert_array_equal(calls[0].images, expected)
    np.testing.assert_array_equal(calls[0].full, expected[0])
    assert calls[0].known.undistorted
    np.testing.assert_allclose(scene.estimate.intrinsics, lens.pinhole[None].repeat(12, 0))
    masks = lens.undistorted((demo_video.estimate.dynamic_probability > 0.5).astype(np.float32))
    np.testing.assert_allclose(scene.estimate.dynamic_probability, masks, atol=1e-3)
    stored = np.stack([cv2.imread(str(path))[..., ::-1] for path in scene.image_paths])
    np.testing.assert_array_equal(stored, expected)
    full = np.stack([cv2.imread(str(path))[..., ::-1] for path in scene.original_image_paths])
    np.testing.assert_array_equal(full, expected)
    again = run.load_or_estimate(room, config, require_cache=True)
    assert again.cache_dir == scene.cache_dir and again.estimate.lens == lens and len(calls) == 1


@BOTH
def test_a_lens_without_poses_gives_the_focal_too(
    room: Path, tmp_path: Path, calls: list[SimpleNamespace], changes: dict[str, Any], lens: Lens
) -> None:
    path = write_transforms(tmp_path / "t.json", w=320, h=180, fl_x=300, fl_y=304, cx=162, cy=88, **changes)
    config = FrontEndConfig(long_side=160, front_end="geometric", known_lens=path)
    scene = run.load_or_estimate(room, config)
    assert calls[0].images.shape[1:3] == lens.pinhole_size[::-1]
    assert calls[0].known.c2w_cv is None and calls[0].known.undistorted
    focal = calls[0].known.bundle_settings(lens.pinhole_size)["known_focal"]
    assert focal == pytest.approx(lens.pinhole[0, 0])
    assert scene.estimate.lens is not None
    held = scene.lenses()
    assert held is not None and held[0] == lens
    picture = np.random.default_rng(0).random(lens.pinhole_size[::-1]).astype(np.float32)
    np.testing.assert_array_equal(scene.as_filmed(picture), lens.distorted_picture(picture))
    write_transforms(path, k1=-0.1)
    assert run.load_or_estimate(room, config).cache_dir != scene.cache_dir


def test_a_straight_lens_leaves_the_frames_alone(room: Path, tmp_path: Path, demo_video, calls: list) -> None:
    straight: dict[str, Any] = {"k1": 0.0, "k2": 0.0, "p1": 0.0, "p2": 0.0, "fl_y": 150.0, "cx": 80.0, "cy": 45.0}
    path = write_transforms(tmp_path / "t.json", **straight)
    scene = run.load_or_estimate(room, FrontEndConfig(long_side=160, front_end="geometric", known_lens=path))
    assert scene.lens is None and scene.pinhole_size == SIZE and calls[0].known.undistorted
    np.testing.assert_array_equal(calls[0].images, demo_video.images)
    np.testing.assert_allclose(calls[0].known.intrinsics[0], geo.pinhole(150.0, *SIZE))


def test_what_is_stored_with_a_lens_that_was_found_is_undistorted(room: Path, demo_video, calls: list) -> None:
    found = Lens.central((80, 45), 75.0, -0.15, 0.02).at(SIZE)
    sys.modules["das3r_ns.frontend.geometric.estimate"].lens = found  # pyright: ignore[reportAttributeAccessIssue]
    scene = run.load_or_estimate(room, FrontEndConfig(long_side=160, front_end="geometric"))
    np.testing.assert_array_equal(calls[0].images, demo_video.images)
    assert not calls[0].known.undistorted and scene.estimate.lens == found
    stored = np.stack([cv2.imread(str(path))[..., ::-1] for path in scene.image_paths])
    np.testing.assert_array_equal(stored, found.undistorted(demo_video.images, cv2.INTER_CUBIC))
    full = cv2.imread(str(scene.original_image_paths[3]))[..., ::-1]
    np.testing.assert_array_equal(full, stored[3])
    assert any("k1 -0.15, k2 0.02" in message for message in scene.estimate.provenance["messages"])


def test_poses_and_a_lens_apart_are_too_much(room: Path, demo_video, tmp_path: Path) -> None:
    path = write_transforms(tmp_path / "t.json", demo_video.estimate.c2w_cv)
    with pytest.raises(Das3rError, match="leave out --known-lens"):
        run.load_or_estimate(room, dataclasses.replace(FrontEndConfig(), known_poses=path, known_lens=path))
