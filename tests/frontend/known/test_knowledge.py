"""What the user knows, through the whole front end and its cache."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from das3r_ns.cli import main
from das3r_ns.errors import Das3rError
from das3r_ns.frontend import run
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.known.cameras import GL_TO_CV
from das3r_ns.frontend.known.knowledge import Known, find_knowledge
from das3r_ns.progress import Progress
from das3r_ns.scene import cache
from das3r_ns.scene.estimate import SceneEstimate
from das3r_ns.video import open_clip

LENGTH = 100.0
"""Units of the known cameras per unit of the demo."""


@pytest.fixture()
def room(demo_video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the demo, masks and all, with cameras in another world frame and unit."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    for folder in ("frames", "masks"):
        shutil.copytree(demo_video.folder / folder, tmp_path / "room" / folder)
    k = demo_video.estimate.intrinsics[0]
    world = np.array([[0, -1.0, 0, 7], [0, 0, -1.0, 8], [1.0, 0, 0, 9], [0, 0, 0, 1]])
    poses = world @ demo_video.estimate.c2w_cv @ GL_TO_CV
    poses[:, :3, 3] *= LENGTH
    content = {"w": 160, "h": 90, "fl_x": k[0, 0], "fl_y": k[1, 1], "cx": k[0, 2], "cy": k[1, 2]}
    content["frames"] = [
        {"file_path": f"frames/{i:05d}.png", "transform_matrix": pose.tolist()} for i, pose in enumerate(poses)
    ]
    (tmp_path / "room/transforms.json").write_text(json.dumps(content))
    return tmp_path / "room"


def estimate(room: Path, **settings: Any) -> SceneEstimate:
    return run.load_or_estimate(room, FrontEndConfig(long_side=160, front_end="geometric", **settings)).estimate


def test_known_poses_are_kept_and_give_depth_in_their_unit(room: Path, demo_video) -> None:
    truth = demo_video.estimate
    found = estimate(room, known_poses=room / "transforms.json", masks="given")
    expected = truth.c2w_cv.copy()
    expected[:, :3, 3] *= LENGTH
    np.testing.assert_allclose(found.c2w_cv, expected, atol=1e-9 * LENGTH)
    np.testing.assert_array_equal(found.c2w_cv[0], np.eye(4))
    np.testing.assert_allclose(found.intrinsics, truth.intrinsics, rtol=1e-12)
    np.testing.assert_array_equal(found.dynamic_probability, truth.dynamic_probability)
    static = truth.dynamic_probability < 0.5
    error = np.abs(found.depth / (LENGTH * truth.depth) - 1)
    sure = static & (found.confidence > 0.5)
    assert sure.mean() > 0.2
    assert np.median(error[sure]) < 0.02 and np.median(error[static]) < 0.05
    known = found.provenance["known"]
    assert known["poses"]["source"] == str(room / "transforms.json") and known["masks"]["how"] == "given"
    np.testing.assert_allclose(np.array(known["poses"]["frame_0_c2w_cv"])[:3, 3], [700, 800, 900])


def test_masks_stay_with_their_frames_where_one_does_not_decode(room: Path, demo_video) -> None:
    knowledge = find_knowledge(open_clip(room), FrontEndConfig(masks="given"))
    names = [name for number, name in enumerate(knowledge.clip.names) if number != 4]
    masks = knowledge.load(names, (160, 90), lambda _: None).masks
    assert masks is not None
    np.testing.assert_array_equal(masks, np.delete(demo_video.estimate.dynamic_probability, 4, axis=0))


def test_a_known_focal_is_kept_and_given_masks_join_what_is_found(room: Path, demo_video) -> None:
    truth = demo_video.estimate
    kept = [0, 1, 2, 7]
    for path in (room / "masks").iterdir():
        if int(path.stem) not in kept:
            path.unlink()
    focal = float(truth.intrinsics[0, 0, 0])
    found = estimate(room, known_focal=focal, masks="joined")
    np.testing.assert_allclose(found.intrinsics[:, [0, 1], [0, 1]], focal, rtol=1e-9)
    moves = truth.dynamic_probability > 0.5
    assert (found.dynamic_probability[kept][moves[kept]] == 1).all()
    assert np.isfinite(found.dynamic_probability).all()
    assert "focal" in found.provenance["known"]


def test_settings_that_are_not_used_do_not_change_the_cache_key(room: Path, oracle_front_end: list[int]) -> None:
    scene = run.load_or_estimate(room, FrontEndConfig(long_side=160))
    version = run.FRONT_ENDS["geometric"].version
    settings = {"front_end": "geometric", "long_side": 160, "points": True, "stereo": True, "version": version}
    settings["stopped"] = "leave"
    assert scene.cache_dir.name == cache.cache_key(scene.clip.content_hash, settings)
    run.load_or_estimate(room, FrontEndConfig(long_side=160, sam2_model="owner/name"))
    assert len(oracle_front_end) == 1


def test_settings_that_are_used_change_it_by_their_content(
    room: Path, demo_video, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs: list[Known] = []

    def oracle(
        images: np.ndarray, names: list[str], config: object, progress: object, known: Known, _: Any
    ) -> SceneEstimate:
        runs.append(known)
        return dataclasses.replace(demo_video.estimate, frame_names=names, provenance={})

    monkeypatch.setitem(sys.modules, "das3r_ns.frontend.geometric.estimate", SimpleNamespace(estimate=oracle))

    def prepare(**settings: Any) -> tuple[str, int]:
        scene = run.load_or_estimate(room, FrontEndConfig(long_side=160, **settings))
        return scene.cache_dir.name, len(runs)

    plain, _ = prepare()
    assert runs[0].provenance == {} and runs[0].masks is runs[0].intrinsics is runs[0].c2w_cv is None
    seen = {plain}
    masks = room / "masks"
    for settings in (
        {"masks": "given"},
        {"masks": "joined"},
        {"known_focal": 100.0},
        {"known_focal": 101.0},
        {"known_poses": room},
    ):
        key, count = prepare(**settings)
        assert key not in seen and runs[-1].provenance
        seen.add(key)
        assert prepare(**settings) == (key, count), "the second time it is read"

    shutil.copytree(masks, tmp_path / "elsewhere")
    count = len(runs)
    assert prepare(masks="given", masks_dir=tmp_path / "elsewhere")[1] == count, "where masks lie does not matter"
    shutil.copy(masks / "00004.png", masks / "00003.png")
    key, count = prepare(masks="given")
    assert key not in seen
    content = json.loads((room / "transforms.json").read_text())
    content["fl_x"] *= 1.01
    (room / "transforms.json").write_text(json.dumps(content))
    assert prepare(known_poses=room)[1] == count + 1
    assert prepare() == (plain, count + 1)


def test_the_user_is_told_what_is_used(room: Path, oracle_front_end: list[int]) -> None:
    progress = Progress()
    run.load_or_estimate(room, FrontEndConfig(long_side=160), progress)
    said = [message for message in progress.messages if "masks" in message]
    assert len(said) == 1 and "is not used" in said[0]


@pytest.mark.parametrize(("focal", "says"), [(26.0, "From millimetres"), (1e6, "cannot be meant"), (-5.0, "cannot")])
def test_a_focal_that_cannot_be_meant_is_refused(room: Path, focal: float, says: str) -> None:
    with pytest.raises(Das3rError, match=says):
        estimate(room, known_focal=focal)


@pytest.mark.parametrize("readout", [-0.1, 1.3])
def test_a_readout_that_cannot_be_meant_is_refused(room: Path, readout: float) -> None:
    with pytest.raises(Das3rError, match=r"between 0 \(a global shutter\) and 1\. From milliseconds"):
        estimate(room, readout=readout)


def test_frames_without_a_pose_are_gone_everywhere(room: Path, demo_video, monkeypatch: pytest.MonkeyPatch) -> None:
    def oracle(
        images: np.ndarray, names: list[str], config: object, progress: object, known: Any, _: Any
    ) -> SceneEstimate:
        truth = demo_video.estimate
        assert len(images) == len(names) == len(known.c2w_cv) == len(known.masks) == 11
        arrays = {k: np.delete(getattr(truth, k), 4, 0) for k in cache.STORED_TYPES}
        return dataclasses.replace(truth, frame_names=names, provenance={}, **arrays)

    monkeypatch.setitem(sys.modules, "das3r_ns.frontend.geometric.estimate", SimpleNamespace(estimate=oracle))
    content = json.loads((room / "transforms.json").read_text())
    del content["frames"][4]
    (room / "transforms.json").write_text(json.dumps(content))
    progress = Progress()
    config = FrontEndConfig(long_side=160, known_poses=room, masks="given")
    scene = run.load_or_estimate(room, config, progress)
    assert scene.estimate.num_frames == len(scene.image_paths) == len(scene.original_image_paths) == 11
    assert any("00004.png" in message for message in progress.messages)
    assert run.load_or_estimate(room, config, require_cache=True).cache_dir == scene.cache_dir


def test_the_command_line_takes_them(room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo_video) -> None:
    taken: list[FrontEndConfig] = []

    def oracle(
        images: np.ndarray, names: list[str], config: Any, progress: object, known: Any, _: Any
    ) -> SceneEstimate:
        taken.append(config)
        return dataclasses.replace(demo_video.estimate, frame_names=names, provenance={})

    monkeypatch.setitem(sys.modules, "das3r_ns.frontend.geometric.estimate", SimpleNamespace(estimate=oracle))
    options = ["--long-side", "160", "--masks", "given", "--masks-dir", str(room / "masks")]
    options += ["--known-poses", str(room / "transforms.json")]
    main.entrypoint(["masks", "--data", str(room), "--output-dir", str(tmp_path / "out"), *options])
    assert (taken[0].masks, taken[0].masks_dir) == ("given", room / "masks")
    written = json.loads((tmp_path / "out/das3r.json").read_text())["provenance"]
    assert written["settings"]["known_poses"] == str(room / "transforms.json")


def draw_fixed(path: Path, size: tuple[int, int] = (320, 180), white: float = 0.2) -> Path:
    """White at the bottom."""
    picture = np.zeros(size[::-1], np.uint8)
    picture[round((1 - white) * size[1]) :] = 255
    cv2.imwrite(str(path), picture)
    return path


def test_a_picture_of_what_is_fixed_is_taken(room: Path, demo_video, tmp_path: Path) -> None:
    file = draw_fixed(tmp_path / "mine.png")
    progress = Progress()
    config = FrontEndConfig(
        long_side=160, front_end="geometric", fixed_mask=file, masks="given", stereo=False, points=False
    )
    found = run.load_or_estimate(room, config, progress).estimate
    assert found.fixed is not None and found.fixed[73:].all() and not found.fixed[:71].any()
    assert not found.dynamic_probability[:, 73:].any()
    np.testing.assert_array_equal(found.dynamic_probability[:, :71], demo_video.estimate.dynamic_probability[:, :71])
    assert found.provenance["fixed_share"] == pytest.approx(0.2, abs=0.01)
    assert any("20.0 % of the picture is fixed" in message for message in progress.messages)
    assert not any("--fixed-mask" in message for message in progress.messages)


def test_a_black_picture_says_that_nothing_is_fixed(room: Path, tmp_path: Path, oracle_front_end: list[int]) -> None:
    assert estimate(room, fixed_mask=draw_fixed(tmp_path / "black.png", white=0)).fixed is None
    assert estimate(room, fixed_mask=draw_fixed(tmp_path / "white.png")).fixed is not None
    assert len(oracle_front_end) == 2, "the picture is part of the key"


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_text("no picture"), "cannot be read"),
        (lambda path: draw_fixed(path, (180, 320)), "another shape"),
        (lambda path: draw_fixed(path, white=1), "white all over"),
    ],
)
def test_a_picture_that_cannot_be_meant_is_refused(
    room: Path, tmp_path: Path, oracle_front_end: list[int], draw: Callable[[Path], object], says: str
) -> None:
    draw(tmp_path / "mine.png")
    with pytest.raises(Das3rError, match=says):
        estimate(room, fixed_mask=tmp_path / "mine.png")
    assert not oracle_front_end
