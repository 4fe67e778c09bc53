"""Drawn clips: each seed another, masks exact, and standing things not in them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from das3r_ns.demo import varied
from das3r_ns.demo.room import build_room
from das3r_ns.demo.textures import Texture
from das3r_ns.demo.varied import DrawnClip, write_clip
from das3r_ns.demo.write import render_frame
from das3r_ns.errors import Das3rError


@pytest.fixture()
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Textures take most of the time."""
    one = Texture(np.ones((8, 8, 3), np.float32), (1.0, 1.0))
    monkeypatch.setattr(varied, "_stuff", lambda rng: one)


def test_a_quarter_is_still_and_seeds_differ(plain: None) -> None:
    clips = [DrawnClip.of_seed(seed, 5) for seed in range(60)]
    assert 0.1 < np.mean([not clip.movers for clip in clips]) < 0.4
    assert len({clip.poses.tobytes() for clip in clips}) == 60
    for clip in clips:
        rotation = clip.poses[:, :3, :3]
        np.testing.assert_allclose(
            rotation @ rotation.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (5, 3, 3)), atol=1e-9
        )
        assert (np.abs(clip.poses[:, 0, 3]) < 3).all() and (clip.poses[:, 2, 3] < 2).all()
    again = DrawnClip.of_seed(7, 9)
    np.testing.assert_allclose(again.poses[::2], clips[7].poses, atol=1e-12)


def test_what_stands_is_drawn_and_not_masked() -> None:
    clip = next(clip for clip in (DrawnClip.of_seed(seed, 3) for seed in range(99)) if clip.movers and clip.standing)
    boxes, pose = build_room(), clip.poses[1]
    bare = render_frame(boxes, None, 0.5, pose, 60.0, 64, 48)
    stood = render_frame(boxes, None, 0.5, pose, 60.0, 64, 48, clip.standing)
    whole = render_frame(boxes, clip, 0.5, pose, 60.0, 64, 48, clip.standing)
    assert (bare.image != stood.image).any() and not stood.mask.any()
    np.testing.assert_array_equal(whole.clean, stood.image)
    np.testing.assert_array_equal(whole.mask, whole.depth < whole.clean_depth)


def test_movers_cover_a_fair_share_of_the_picture(plain: None) -> None:
    boxes, shares = build_room(), []
    for seed in range(24):
        clip = DrawnClip.of_seed(seed, 3)
        if clip.movers:
            shares.append(render_frame(boxes, clip, 0.5, clip.poses[1], 30.0, 32, 18, clip.standing).mask.mean())
    assert 0.03 < np.mean(shares) < 0.4 and np.max(shares) < 0.9


def test_a_clip_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varied, "build_room", lambda seed: build_room())
    calls: list[int] = []
    write_clip(tmp_path / "clip", 2, 3, 64, 32, lambda: calls.append(1))
    masks = [cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in sorted((tmp_path / "clip/masks").iterdir())]
    assert len(masks) == 3 and set(np.unique(masks)) <= {0, 255}
    stamp = (tmp_path / "clip/frames/00002.png").stat().st_mtime_ns
    write_clip(tmp_path / "clip", 2, 3, 64, 32, lambda: calls.append(1))
    assert (tmp_path / "clip/frames/00002.png").stat().st_mtime_ns == stamp and len(calls) == 6


def test_where_nothing_can_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varied, "build_room", lambda seed: build_room())
    (tmp_path / "file").touch()
    with pytest.raises(Das3rError, match="cannot be written"):
        write_clip(tmp_path / "file/clip", 0, 2, 64, 32)
