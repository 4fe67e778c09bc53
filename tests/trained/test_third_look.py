"""Masks by a trained scene, in the demo's room with its exact clean plates for the scene."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from das3r_ns.cli import main
from das3r_ns.demo.room import Movers, build_room, camera_path
from das3r_ns.demo.write import render_frame
from das3r_ns.scene import geometry as geo
from das3r_ns.trained.scene import TrainedScene
from das3r_ns.trained.third_look import SceneViews, _decided, differences, third_look, witnessed

WIDTH, HEIGHT, FRAMES = 160, 90, 12
SOME = np.s_[2:9:2]
"""Frames in which the masks of before err."""
PLACE = np.s_[2:9:2, 20:45, 10:40]
"""In those frames: a part of the static wall."""


@dataclass(frozen=True)
class Clip:
    """A scene that is known exactly, and what moves before it."""

    views: SceneViews
    movers: np.ndarray


@pytest.fixture(scope="module")
def clip() -> Clip:
    room, movers, poses = build_room(), Movers(), camera_path(FRAMES)
    times = np.linspace(0.0, 1.0, FRAMES)
    drawn = [
        render_frame(room, movers, t, pose, 0.9 * WIDTH, WIDTH, HEIGHT) for t, pose in zip(times, poses, strict=True)
    ]
    images, clean, mask, depth = (
        np.stack([getattr(d, name) for d in drawn]) for name in ("image", "clean", "mask", "clean_depth")
    )
    intrinsics = np.tile(geo.pinhole(0.9 * WIDTH, WIDTH, HEIGHT), (FRAMES, 1, 1))
    return Clip(SceneViews(images, clean, np.ones(depth.shape, np.float32), depth, intrinsics, poses), mask)


def test_what_the_masks_missed_in_some_frames_is_found(clip: Clip) -> None:
    before = clip.movers.astype(np.float32)
    before[SOME] = 0.0
    moves = third_look(clip.views, before) > 0.5
    assert (moves & clip.movers)[SOME].sum() > 0.65 * clip.movers[SOME].sum()
    assert (moves & ~clip.movers).mean() < 0.01


def test_what_is_static_is_won_back(clip: Clip) -> None:
    before = clip.movers.astype(np.float32)
    before[PLACE] = 1.0
    static = ~clip.movers[PLACE]
    moves = third_look(clip.views, before) > 0.5
    assert moves[PLACE][static].mean() < 0.25
    assert (moves & clip.movers).sum() > 0.8 * clip.movers.sum()


def test_masks_that_are_right_stay(clip: Clip) -> None:
    moves = third_look(clip.views, clip.movers.astype(np.float32)) > 0.5
    assert (moves & clip.movers).sum() / (moves | clip.movers).sum() > 0.8


def test_nothing_is_claimed_where_the_scene_was_never_seen(clip: Clip) -> None:
    """Masked in all frames, and so nowhere in the scene: what is drawn there is no evidence."""
    before = np.zeros(clip.movers.shape, np.float32)
    nothing = replace(clip.views, accumulation=np.zeros_like(clip.views.accumulation))
    assert not (third_look(nothing, before) > 0.5).any()
    alone = witnessed(clip.views, np.ones_like(before), 3)
    assert alone.max() == 0.0
    assert np.median(witnessed(clip.views, before, 3)) > 0.9


def test_a_render_a_little_beside_the_frame_does_not_differ(clip: Clip) -> None:
    image, shifted = clip.views.renders[0], np.roll(clip.views.renders[0], 2, axis=1)
    inside = np.s_[4:-4, 4:-4]
    beside, contrast = differences(image, shifted)
    plainly = np.abs(image.astype(int) - shifted.astype(int)).sum(axis=-1)
    assert beside[inside].mean() < 0.2 * plainly[inside].mean()
    assert contrast.min() >= 0
    other, _ = differences(image, np.full_like(image, 255))
    assert other[inside].mean() > 50


@pytest.fixture()
def run(make_trainer, demo_video, monkeypatch: pytest.MonkeyPatch) -> TrainedScene:
    """A run whose render is the demo's clean plate, for the command to open."""
    scene = TrainedScene(make_trainer().pipeline)
    names = sorted((demo_video.folder / "clean").glob("*.png"))
    clean = [cv2.imread(str(path))[..., ::-1].astype(np.float32) / 255 for path in names]

    def render(frame: int, size: tuple[int, int], matrix: object = None) -> dict[str, np.ndarray]:
        depth = demo_video.clean_depth[frame].astype(np.float32)
        outputs = {"rgb": clean[frame], "depth": depth[..., None], "accumulation": np.ones((*depth.shape, 1), "f4")}
        return {name: cv2.resize(v, size).reshape(size[1], size[0], v.shape[2]) for name, v in outputs.items()}

    monkeypatch.setattr(scene, "render", render)
    monkeypatch.setattr(TrainedScene, "open", lambda _: scene)
    return scene


def test_the_command_writes_the_masks_of_a_run(
    run: TrainedScene, demo_video, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    main.entrypoint(["masks", "--load-config", str(tmp_path / "config.yml"), "--output-dir", str(out)])
    assert "by the scene" in capsys.readouterr().err
    summary = json.loads((out / "das3r.json").read_text())
    assert len(summary["provenance"]["third_look"]["marked_percent"]) == 2
    found = np.stack([cv2.imread(str(path), 0) > 0 for path in sorted((out / "masks").glob("*.png"))])
    size = found.shape[:0:-1]
    truth = np.stack([cv2.resize(p, size) > 0.5 for p in demo_video.estimate.dynamic_probability])
    assert (found & truth).sum() / (found | truth).sum() > 0.7


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "Name either a video"),
        (["--data", "film.mp4", "--load-config", "config.yml"], "Name either a video"),
        (["--load-config", "config.yml", "--long-side", "320"], "leave them out"),
    ],
)
def test_what_does_not_go_together_is_said_first(
    options: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main.entrypoint(["masks", "--output-dir", str(tmp_path / "out"), *options])
    assert says in capsys.readouterr().err


def test_a_limb_reaches_as_far_in_a_film_held_upright() -> None:
    still, all_of_it = np.zeros((90, 160), np.float32), np.ones((90, 160), np.float32)
    moves = still.copy()
    moves[30:50, 60:80] = 1.0
    lying = _decided(still, still, moves, all_of_it, all_of_it)
    upright = _decided(still.T, still.T, moves.T, all_of_it.T, all_of_it.T)
    assert (lying > 0.5).sum() > moves.sum() + 100
    assert (upright > 0.5).sum() == pytest.approx((lying > 0.5).sum(), rel=0.02)
