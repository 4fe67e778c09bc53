"""Drawn clips: each seed another, masks exact, still clips empty, standing things not masked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from das3r_ns.demo.drawn import places
from das3r_ns.demo.drawn.frame import Exposure, Lens, draw
from das3r_ns.demo.room import build_room
from das3r_ns.demo.varied import DrawnClip, write_clip
from das3r_ns.errors import Das3rError
from das3r_ns.evaluation.ground_truth import GroundTruth


@dataclass(frozen=True)
class Looked:
    """What the tests look at of a clip; dozens of clips with all their textures would fill gigabytes."""

    place: str
    camera: str
    bodies: list[str]
    poses: bytes
    k1: float
    seen: Exposure
    """The middle."""
    bare: Exposure
    """The same without movers."""
    shares: list[float]
    """Of the picture that movers cover: beginning, middle and end."""
    pictures: list[np.ndarray]
    """The first frame and the last."""
    facts: dict[str, object]


def look(clip: DrawnClip) -> Looked:
    lens, gain = Lens(50.0, 64, 36, clip.k1), clip.gain()
    seen = draw(clip.scene, clip.movers, 0.5, clip.poses[1], lens, 1, shadows=False)
    bare = draw(clip.scene, [], 0.5, clip.poses[1], lens, 1)
    shares = [
        float(draw(clip.scene, clip.movers, t, clip.filming.pose(t), Lens(30, 32, 18, 0), 1, False).mask.mean())
        for t in (0, 0.5, 1)
    ]
    pictures = [clip.frame(number, 64, 36, gain, np.random.default_rng(0))[0] for number in (0, 2)]
    bodies = [mover.kind for mover in clip.movers]
    poses = clip.poses.tobytes()
    return Looked(
        clip.scene.kind, clip.filming.kind, bodies, poses, clip.k1, seen, bare, shares, pictures, clip.facts()
    )


@pytest.fixture(scope="module")
def clips() -> list[Looked]:
    """Some dozens; the light of a room takes seconds, so there is one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "build_room", lambda seed: build_room())
        return [look(DrawnClip.of_seed(seed, 3)) for seed in range(36)]


def test_a_quarter_is_still_and_seeds_differ(clips: list[Looked]) -> None:
    assert 0.1 < np.mean([not clip.bodies for clip in clips]) < 0.45
    assert len({clip.poses for clip in clips}) == 36
    assert {clip.place for clip in clips} == {"demo_room", "room", "street", "open_land", "object", "thicket"}
    assert len({clip.camera for clip in clips}) > 5
    bodies = {body for clip in clips for body in clip.bodies}
    assert bodies == {"walker", "beast", "ball", "lump", "cutout", "car"}
    assert any(clip.k1 for clip in clips) and not all(clip.k1 for clip in clips)


def test_masks_are_where_movers_are_seen_first(clips: list[Looked]) -> None:
    for clip in clips:
        seen, bare = clip.seen, clip.bare
        np.testing.assert_array_equal(seen.mask, seen.depth < bare.depth)
        np.testing.assert_array_equal(seen.light[~seen.mask], bare.light[~seen.mask])
        assert clip.bodies or not seen.mask.any()


def test_movers_are_seen_and_cover_a_fair_share(clips: list[Looked]) -> None:
    shares = np.array([clip.shares for clip in clips if clip.bodies])
    assert 0.05 < shares.mean() < 0.35 and shares.max() < 0.9
    assert (shares.max(1) > 0).mean() > 0.95 and (shares.max(1) > 0.35).any()


def test_no_picture_is_of_one_colour(clips: list[Looked]) -> None:
    for clip in clips:
        for image in clip.pictures:
            assert image.std() > 8 and 25 < image.mean() < 225, clip.facts


def test_a_seed_is_a_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "build_room", lambda seed: build_room())
    first, again = (DrawnClip.of_seed(4, number) for number in (3, 5))
    np.testing.assert_allclose(again.poses[::2], first.poses, atol=1e-12)
    one, two = (clip.frame(0, 48, 27, clip.gain(), np.random.default_rng(0)) for clip in (first, again))
    np.testing.assert_array_equal(one[1], two[1])
    assert first.film.shutter or (one[0] == two[0]).all()


def test_a_clip_is_written_once(tmp_path: Path) -> None:
    calls: list[int] = []
    write_clip(tmp_path / "clip", 3, 3, 64, 32, lambda: calls.append(1))
    masks = [cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in sorted((tmp_path / "clip/masks").iterdir())]
    assert len(masks) == 3 and set(np.unique(masks)) == {0, 255}
    facts = json.loads((tmp_path / "clip/clip.json").read_text())
    assert facts["seed"] == 3 and facts["movers"]
    truth = GroundTruth(tmp_path / "clip")
    assert truth.size == (64, 32) and truth.intrinsics[0, 2] == 32 and len(truth.c2w_cv) == 3
    stamp = (tmp_path / "clip/frames/00002.png").stat().st_mtime_ns
    write_clip(tmp_path / "clip", 3, 3, 64, 32, lambda: calls.append(1))
    assert (tmp_path / "clip/frames/00002.png").stat().st_mtime_ns == stamp and len(calls) == 6


def test_where_nothing_can_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Das3rError, match="cannot be written"):
        write_clip(tmp_path / "file/clip", 0, 2, 64, 32)
