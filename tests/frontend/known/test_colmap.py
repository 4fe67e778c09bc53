"""COLMAP's cameras through the front end: run for real where pycolmap is installed."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from jaxtyping import Float

from das3r_ns.cli import main
from das3r_ns.demo.room import Movers
from das3r_ns.demo.textures import Texture, mottled
from das3r_ns.demo.world import Box, Ellipsoid, bake_light
from das3r_ns.demo.write import render_frame
from das3r_ns.errors import Das3rError
from das3r_ns.evaluation.metrics import ate_percent
from das3r_ns.frontend import run
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.known import colmap
from das3r_ns.frontend.known.knowledge import Known
from das3r_ns.frontend.known.registered import Registered
from das3r_ns.progress import Progress
from das3r_ns.scene import geometry as geo
from das3r_ns.scene.estimate import SceneEstimate
from das3r_ns.video import open_clip

CONFIG = FrontEndConfig(long_side=160, cameras="colmap")
FOCAL = 220.0
needs_pycolmap = pytest.mark.skipif(importlib.util.find_spec("pycolmap") is None, reason="pycolmap is not installed")


@pytest.fixture()
def video(demo_video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the demo's frames, and a cache folder of its own for the user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    shutil.copytree(demo_video.folder / "frames", tmp_path / "video")
    return tmp_path / "video"


@pytest.fixture()
def runs(demo_video, monkeypatch: pytest.MonkeyPatch) -> list[Known]:
    """What a front end that knows the demo's truth, and holds the cameras it is given, was told."""
    told: list[Known] = []

    def oracle(images: np.ndarray, names: list[str], config: Any, progress: Any, known: Known, _: Any) -> SceneEstimate:
        told.append(known)
        truth = dataclasses.replace(demo_video.estimate, frame_names=names, provenance={})
        if known.c2w_cv is None or known.intrinsics is None:
            return truth
        return dataclasses.replace(truth, c2w_cv=known.c2w_cv, intrinsics=known.intrinsics)

    monkeypatch.setitem(sys.modules, "das3r_ns.frontend.geometric.estimate", SimpleNamespace(estimate=oracle))
    return told


@pytest.fixture()
def registers(demo_video, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Frames that a stand-in for COLMAP registers, at their true places and ten times as far apart."""
    frames = list(range(12))

    def register(clip: Any, dynamic: np.ndarray, known_focal: float | None, *_: Any) -> Registered | None:
        np.testing.assert_array_equal(dynamic, demo_video.estimate.dynamic_probability)
        poses = demo_video.estimate.c2w_cv[frames]
        poses[:, :3, 3] *= 10
        return Registered(np.array(frames), poses, known_focal or 140.0, 99, 0.5) if frames else None

    monkeypatch.setattr(run, "register", register)
    monkeypatch.setattr(run, "check_pycolmap", lambda: None)
    return frames


@dataclass(frozen=True)
class Textured:
    """A video with something to hold on to everywhere, and its truth."""

    frames: Path
    c2w_cv: Float[np.ndarray, "N 4 4"]
    moves: Float[np.ndarray, "N H W"]


@pytest.fixture(scope="module")
def textured(tmp_path_factory: pytest.TempPathFactory) -> Textured:
    """Eight frames of 240 x 160: boxes in a room, a thing that passes, a camera that strides sideways and turns."""
    rng = np.random.default_rng(4)

    def texture(metres: float) -> Texture:
        return Texture(mottled(rng, 256, (0.5, 0.5, 0.5), 0.6, 1.0), (metres, metres), emission=1.0)

    room = Box(np.array((-4.0, -2.5, -2.0)), np.array((4.0, 2.5, 6.0)), [texture(5.0) for _ in range(6)], inside=True)
    corners = np.array([(-1.6, 0.4, 2.6), (-0.4, -1.1, 3.4), (0.9, 0.5, 2.8), (1.8, -0.7, 4.0), (-2.2, -1.0, 4.4)])
    boxes = [room, *(Box(low, low + np.array((0.7, 0.6, 0.7)), [texture(2.0)] * 6) for low in corners)]
    bake_light(boxes, [(0.0, 0.0, 1.0, 1.0)])

    class Passing(Movers):
        def at(self, time: float) -> list[Ellipsoid]:
            return [Ellipsoid(np.array([1.8 * time - 0.9, 0.0, 2.2]), np.array([0.25, 0.35, 0.25]), np.eye(3), fur)]

    fur, along = texture(0.5), np.linspace(-1, 1, 8)[:, None]
    c2w_cv = geo.se3_exp(along * [0.0, 0.0, 0.0, 0.0, -0.15, 0.0])
    c2w_cv[:, :3, 3] = np.hstack([0.6 * along, 0.1 * np.sin(3 * along), 0.2 * along])
    drawn = [render_frame(boxes, Passing(), i / 7, pose, FOCAL, 240, 160) for i, pose in enumerate(c2w_cv)]
    folder = tmp_path_factory.mktemp("textured")
    for number, frame in enumerate(drawn):
        cv2.imwrite(str(folder / f"{number:05d}.png"), frame.image[..., ::-1])
    return Textured(folder, c2w_cv, np.stack([frame.mask for frame in drawn]).astype(np.float32))


@needs_pycolmap
def test_colmap_finds_the_cameras_and_the_same_ones_each_time(textured: Textured, tmp_path: Path) -> None:
    clip, progress = open_clip(textured.frames, 150), Progress()
    found, again = (colmap.register(clip, textured.moves, None, tmp_path / "cache", progress) for _ in range(2))
    assert found is not None and again is not None
    np.testing.assert_array_equal(found.frames, np.arange(8))
    assert ate_percent(found.c2w_cv, textured.c2w_cv) < 0.5
    assert abs(found.focal / FOCAL - 1) < 0.03 and found.num_points > 400 and found.reprojection_error < 0.5
    np.testing.assert_array_equal(found.c2w_cv, again.c2w_cv)
    assert found.focal == again.focal
    assert list(progress.seconds)[1:] == ["COLMAP: features", "COLMAP: matches", "COLMAP: cameras"]
    assert not list((tmp_path / "cache").iterdir()), "the work folder is gone"


@needs_pycolmap
def test_a_known_focal_is_held_and_what_moves_has_no_features(
    textured: Textured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[Any] = []
    largest = colmap.largest
    monkeypatch.setattr(colmap, "largest", lambda found: models.extend(found) or largest(found))
    clip = open_clip(textured.frames, 150)
    found = colmap.register(clip, textured.moves, FOCAL, tmp_path / "cache", Progress())
    assert found is not None and found.focal == FOCAL and len(found.frames) == 8
    assert ate_percent(found.c2w_cv, textured.c2w_cv) < 2
    seen = [
        textured.moves[int(Path(image.name).stem), int(point.xy[1]), int(point.xy[0])]
        for image in models[0].images.values()
        for point in image.points2D
    ]
    assert len(seen) > 1000 and max(seen) == 0


@needs_pycolmap
def test_a_video_without_features_has_no_model(tmp_path: Path) -> None:
    (tmp_path / "white").mkdir()
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"white/{i}.png"), np.full((64, 96, 3), 255, np.uint8))
    clip = open_clip(tmp_path / "white", 150)
    assert colmap.register(clip, np.zeros((3, 32, 48), np.float32), None, tmp_path / "cache", Progress()) is None


def test_frames_that_hardly_a_point_holds_do_not_count() -> None:
    """COLMAP has been seen to register 21 frames on two points in all."""

    def image(number: int, points: int, has_pose: bool = True) -> SimpleNamespace:
        pose = SimpleNamespace(inverse=lambda: SimpleNamespace(matrix=lambda: np.eye(4)[:3]))
        name = f"{number:05d}.png"
        return SimpleNamespace(name=name, num_points3D=points, has_pose=has_pose, cam_from_world=lambda: pose)

    def model(*images: SimpleNamespace) -> Any:
        return SimpleNamespace(
            images=dict(enumerate(images)),
            cameras={1: SimpleNamespace(focal_length=100.0)},
            num_points3D=lambda: 50,
            compute_mean_reprojection_error=lambda: 0.4,
        )

    found = colmap.largest([model(*(image(i, 2) for i in range(21))), model(image(4, 30), image(2, 31), image(3, 29))])
    assert found is not None and found.frames.tolist() == [2, 4] and found.num_points == 50
    assert colmap.largest([]) is None
    assert colmap.largest([model(image(0, 2), image(1, 99, has_pose=False))]) is None


@needs_pycolmap
def test_its_cameras_go_through_the_front_end_and_are_cached(
    textured: Textured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From --cameras colmap on the video itself, with masks that the front end finds."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    video = shutil.copytree(textured.frames, tmp_path / "video")
    config, progress = FrontEndConfig(front_end="geometric", stereo=False, cameras="colmap"), Progress()
    scene = run.load_or_estimate(video, config, progress)
    assert any("registers all 8 frames" in message for message in progress.messages)
    assert ate_percent(scene.estimate.c2w_cv, textured.c2w_cv) < 0.5
    np.testing.assert_array_equal(scene.estimate.c2w_cv[0], np.eye(4))
    assert abs(scene.estimate.intrinsics[0, 0, 0] / FOCAL - 1) < 0.03
    again = Progress()
    assert run.load_or_estimate(video, config, again, require_cache=True).cache_dir == scene.cache_dir
    assert list(again.seconds) == [], "nothing is computed again"


def test_our_own_run_is_kept_and_read(video: Path, runs: list[Known], registers: list[int]) -> None:
    own = run.load_or_estimate(video, FrontEndConfig(long_side=160))
    scene = run.load_or_estimate(video, CONFIG)
    assert len(runs) == 2 and own.cache_dir != scene.cache_dir
    assert scene.estimate.c2w_cv[5, 0, 3] == pytest.approx(10 * own.estimate.c2w_cv[5, 0, 3])
    assert scene.estimate.provenance["settings"]["cameras"] == "colmap"
    assert scene.estimate.provenance["known"]["colmap"]["registered"] == 12


def test_frames_that_are_not_registered_are_filled_in_and_named(
    video: Path, demo_video, runs: list[Known], registers: list[int]
) -> None:
    del registers[4:6], registers[-1]
    progress = Progress()
    found = run.load_or_estimate(video, CONFIG, progress).estimate
    expected = demo_video.estimate.c2w_cv.copy()
    expected[:, :3, 3] *= 10
    np.testing.assert_allclose(found.c2w_cv, expected, atol=1e-8)
    said = [message for message in progress.messages if "COLMAP" in message]
    assert len(said) == 1 and "9 of the 12 frames" in said[0] and "00004.png, 00005.png, 00011.png" in said[0]


@pytest.mark.parametrize("count", [0, 5])
def test_too_few_leave_our_own_cameras(
    video: Path, demo_video, runs: list[Known], registers: list[int], count: int
) -> None:
    del registers[count:]
    progress = Progress()
    scene = run.load_or_estimate(video, CONFIG, progress)
    np.testing.assert_array_equal(scene.estimate.c2w_cv, demo_video.estimate.c2w_cv)
    assert len(runs) == 1, "there is nothing to find anew"
    assert sum(f"{count} of the 12 frames, too few" in message for message in progress.messages) == 1
    assert run.load_or_estimate(video, CONFIG).cache_dir == scene.cache_dir and len(runs) == 1


def test_a_known_focal_and_masks_go_along(video: Path, demo_video, runs: list[Known], registers: list[int]) -> None:
    shutil.copytree(demo_video.folder / "masks", video / "masks")
    run.load_or_estimate(video, dataclasses.replace(CONFIG, known_focal=150.0, masks="joined"))
    for known in runs:
        assert known.intrinsics is not None and known.masks is not None
        np.testing.assert_allclose(known.intrinsics[:, 0, 0], 150.0)
    assert runs[1].c2w_cv is not None


def test_without_pycolmap_nothing_is_computed(
    video: Path, tmp_path: Path, runs: list[Known], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, package=None: None if name == "pycolmap" else find_spec(name, package)
    )
    options = ["--data", str(video), "--output-dir", str(tmp_path / "out"), "--long-side", "160"]
    with pytest.raises(SystemExit):
        main.entrypoint(["masks", *options, "--cameras", "colmap"])
    error = capsys.readouterr().err
    assert "pip install 'das3r-ns[colmap]'" in error and "Decoding" not in error
    assert not runs and not list((video / ".das3r").glob("*/"))  # what the frames are is all that is kept


def test_known_poses_and_colmap_exclude_each_other(video: Path, tmp_path: Path, runs: list[Known]) -> None:
    (tmp_path / "transforms.json").write_text(json.dumps({"frames": []}))
    with pytest.raises(Das3rError, match=r"--known-poses.*--cameras colmap"):
        run.load_or_estimate(video, dataclasses.replace(CONFIG, known_poses=tmp_path / "transforms.json"))
    assert not runs
