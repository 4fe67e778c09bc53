"""A long video in windows: joined they are the scene that they were cut from."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from das3r_ns.demo.write import write_demo
from das3r_ns.evaluation.metrics import ate_percent
from das3r_ns.frontend.choice import Choice, result_key
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.geometric import estimate as front_end
from das3r_ns.frontend.geometric.film import Film
from das3r_ns.frontend.geometric.long import windows as long_windows
from das3r_ns.frontend.geometric.long.joined import Joined
from das3r_ns.frontend.geometric.long.records import joined_records
from das3r_ns.frontend.known.knowledge import Known, find_knowledge
from das3r_ns.frontend.signs import signs_of
from das3r_ns.frontend.verdict import judge
from das3r_ns.progress import Progress
from das3r_ns.scene.estimate import SceneEstimate
from das3r_ns.video import open_clip

QUIET = Progress()


def cut(truth: SceneEstimate, frames: range, scale: float, **changes: Any) -> SceneEstimate:
    """A run of frames as a front end gives it: in the world of its first camera, in a unit of its own."""
    part = slice(frames.start, frames.stop)
    c2w_cv = np.linalg.inv(truth.c2w_cv[frames.start]) @ truth.c2w_cv[part]
    c2w_cv[:, :3, 3] *= scale
    arrays = {n: getattr(truth, n)[part] for n in ("intrinsics", "confidence", "dynamic_probability")}
    record = {"flow_residual": 0.2, "focal_std": 0.01, "refined": False}
    fields = {"c2w_cv": c2w_cv, "depth": truth.depth[part] * np.float32(scale), "provenance": record, **arrays}
    return SceneEstimate(**{"frame_names": truth.frame_names[part], **fields, **changes})


@pytest.fixture()
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of six frames that share three."""
    monkeypatch.setattr(front_end, "AT_ONCE", 6)
    monkeypatch.setattr(long_windows, "WINDOW", 6)
    monkeypatch.setattr(long_windows, "AGAIN", 0.5)


@pytest.fixture()
def solve(demo_video, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Windows are solved exactly, each in another unit; the list tells which they were."""
    truth, solved = demo_video.estimate, []

    def exact(film: Film, config: FrontEndConfig, progress: Progress) -> SceneEstimate:
        images, names = film.images, film.names
        start = truth.frame_names.index(names[0])
        frames = range(start, start + len(names))
        assert np.array_equal(images, demo_video.images[start : frames.stop])
        assert np.array_equal(np.stack(list(film.large())), images)
        solved.append(tuple(frames))
        return cut(
            truth, frames, 0.7 + 0.2 * len(solved), light=0.1 * np.ones((len(names), 3)) * np.array(frames)[:, None]
        )

    monkeypatch.setattr(front_end, "_estimate_at_once", exact)
    return solved


def test_windows_are_joined(demo_video, small_windows: None, solve: list) -> None:
    truth = demo_video.estimate
    names, images = truth.frame_names, demo_video.images
    settings = FrontEndConfig(points=False)
    scene = front_end.estimate(images, names, settings, QUIET, full_size=lambda: iter(images))
    assert solve == [tuple(range(s, s + 6)) for s in (0, 3, 6)]
    assert ate_percent(scene.c2w_cv, truth.c2w_cv) < 0.01
    ratio = scene.depth / truth.depth
    assert np.abs(ratio / np.median(ratio) - 1).max() < 1e-3
    np.testing.assert_allclose(scene.dynamic_probability, truth.dynamic_probability, atol=1e-3)
    np.testing.assert_array_equal(scene.c2w_cv[0], np.eye(4))
    assert scene.frame_names == names
    assert scene.light is not None
    np.testing.assert_allclose(np.diff(scene.light, axis=0), 0.1, atol=1e-6)
    assert scene.provenance["windows"] == [[0, 5], [3, 8], [6, 11]]


def test_what_is_exact_stays_so_when_it_is_refined(demo_video, small_windows: None, solve: list) -> None:
    truth, images = demo_video.estimate, demo_video.images
    progress = Progress()
    scene = front_end.estimate(images, truth.frame_names, FrontEndConfig(), progress, full_size=lambda: iter(images))
    assert ate_percent(scene.c2w_cv, truth.c2w_cv) < 0.3
    assert scene.provenance["together"]["keyframes"] == 12
    assert progress.messages[-1].startswith("Windows: no place is seen again")
    ratio = scene.depth / truth.depth
    assert np.abs(ratio / np.median(ratio) - 1).max() < 0.02


def test_few_frames_are_solved_as_ever(
    demo_video, small_windows: None, solve: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front_end, "estimate_in_windows", None)
    images, names = demo_video.images[:6], demo_video.estimate.frame_names[:6]
    scene = front_end.estimate(images, names, FrontEndConfig(), QUIET)
    np.testing.assert_array_equal(scene.depth, cut(demo_video.estimate, range(6), 0.9).depth)


def test_known_cameras_stay_as_they_are(demo_video, small_windows: None, solve: list, monkeypatch) -> None:
    truth = demo_video.estimate
    given: list[Known] = []
    exact = front_end._estimate_at_once

    def in_the_known_unit(film: Film, config: FrontEndConfig, progress: Progress) -> SceneEstimate:
        given.append(film.known)
        exact(film, config, progress)
        return cut(truth, range(solve[-1][0], solve[-1][-1] + 1), 1.0)

    monkeypatch.setattr(front_end, "_estimate_at_once", in_the_known_unit)
    known = Known(intrinsics=truth.intrinsics, c2w_cv=truth.c2w_cv, size=(160, 90), masks=truth.dynamic_probability)
    scene = front_end.estimate(demo_video.images, truth.frame_names, FrontEndConfig(), QUIET, known)
    np.testing.assert_array_equal(scene.c2w_cv, truth.c2w_cv)
    np.testing.assert_allclose(scene.depth, truth.depth, rtol=1e-5)
    assert given[1].c2w_cv is not None and given[1].masks is not None
    np.testing.assert_array_equal(given[1].c2w_cv[0], np.eye(4))
    np.testing.assert_array_equal(given[1].masks, truth.dynamic_probability[3:9])


def test_a_lens_that_the_first_window_shows_is_that_of_all(bent_video, small_windows: None, monkeypatch) -> None:
    """All begins anew with pinhole pictures, and no other lens is looked for."""
    truth, solved = bent_video.estimate, []

    def exact(film: Film, config: FrontEndConfig, progress: Progress) -> SceneEstimate:
        images, known = film.images, film.known
        start = truth.frame_names.index(film.names[0])
        frames = range(start, start + len(film.names))
        solved.append((start, known.undistorted))
        assert next(film.large()).shape == images[0].shape
        if known.undistorted:
            assert np.abs(images.astype(float) - truth_images[start : frames.stop]).mean() < 4
            return cut(truth, frames, 1.0)
        return cut(truth, frames, 1.0, lens=truth.lens)

    truth_images = truth.lens.undistorted(bent_video.images)
    monkeypatch.setattr(front_end, "_estimate_at_once", exact)
    images, settings = bent_video.images, FrontEndConfig(points=False)
    scene = front_end.estimate(images, truth.frame_names, settings, Progress(), full_size=lambda: iter(images))
    assert solved == [(0, False), (0, True), (3, True), (6, True)]
    assert scene.lens == truth.lens
    assert ate_percent(scene.c2w_cv, truth.c2w_cv) < 0.01


def test_a_window_without_parallax_is_placed_by_its_cameras(demo_video) -> None:
    """What its guessed depth looks like says nothing of how it is turned."""
    truth = demo_video.estimate
    joined = Joined.empty(12, 90, 160)
    joined.add(range(6), cut(truth, range(6), 1.0))
    guess = np.full((6, 90, 160), 2.0, np.float32) * np.linspace(1, 3, 160, dtype=np.float32)
    c2w_cv = np.tile(np.eye(4), (6, 1, 1))
    c2w_cv[:, :3, :3] = Rotation.from_rotvec(np.outer(0.02 * np.arange(6), [0, 1, 0])).as_matrix()
    turned = cut(
        truth, range(3, 9), 1.0, depth=guess, c2w_cv=c2w_cv, camera_kind="rotation", confidence=np.zeros_like(guess)
    )
    place = truth.c2w_cv[3]
    truth_turned = place @ c2w_cv
    joined.c2w_cv[3:6] = truth_turned[:3]
    assert joined.add(range(3, 9), turned) is None
    np.testing.assert_allclose(joined.c2w_cv[3:9], truth_turned, atol=1e-9)
    assert joined.camera_kind == "general"


def test_windows_that_do_not_fit_are_told_of(demo_video) -> None:
    truth = demo_video.estimate
    joined = Joined.empty(12, 90, 160)
    assert joined.add(range(6), cut(truth, range(6), 1.0)) is None
    rng = np.random.default_rng(0)
    wrong = cv2.resize(rng.uniform(1, 9, (12, 6)).astype(np.float32), (160, 90))
    message = joined.add(range(3, 9), cut(truth, range(3, 9), 1.0, depth=np.repeat(wrong[None], 6, axis=0)))
    assert message is not None and message.startswith("Frames 3 to 8 fit those before them badly")


def test_the_verdict_reads_what_windows_have_left(demo_video) -> None:
    def record(first: int) -> dict[str, Any]:
        held_back = {
            "matches": list(range(first, first + 6)),
            "explained": [0.9] * 6,
            "error": [0.1 * first] * 6,
            "share": 0.9,
            "median": 0.1 * first,
            "links": [50 + first, 40, 30, 20, 10],
            "steps": [0.9, None, 0.8, first / 1000, 0.7],
        }
        halves = {"path": {"every other point": 1e-4 * first}, "focal": {"every other point": -1e-3}, "frames": [0.0]}
        points = {
            "taken": first > 0,
            "tracks": 10,
            "before": held_back,
            "after": held_back,
            "halves": halves,
            "unit": 1.0,
        }
        return {"flow_residual": 0.1 * first, "focal_std": 0.0, "refined": True, "points": points}

    joined = joined_records([range(100, 106), range(103, 109)], [record(100), record(103)])
    assert joined["refined"] and joined["flow_residual"] == pytest.approx(10.0)
    points = joined["points"]
    assert points["after"]["matches"][100:] == [100, 101, 102, 103, 104, 105, 106, 107, 108]
    assert points["after"]["links"][100:] == [150, 40, 30, 153, 40, 30, 20, 10]
    assert points["after"]["steps"][100:] == [0.9, None, 0.8, 0.1, 0.7, 0.8, 0.103, 0.7]
    assert points["halves"]["path"] == {"every other point": pytest.approx(0.0103)}
    count = 109
    still = dataclasses.replace(demo_video.estimate, provenance=joined)
    signs = signs_of(still)
    assert len(signs.matches) == count and len(signs.links) == count - 1
    assert judge(signs).word != "none"


def test_zero_takes_every_frame(demo_video, tmp_path: Path) -> None:
    assert len(open_clip(demo_video.folder, 0).indices) == 12
    assert len(open_clip(demo_video.folder, 5).indices) == 5


def test_only_what_has_windows_depends_on_them(demo_video, monkeypatch: pytest.MonkeyPatch) -> None:
    from das3r_ns.frontend import choice

    knowledge = find_knowledge(open_clip(demo_video.folder), FrontEndConfig())
    geometric = Choice("geometric", "")
    before = result_key(knowledge, geometric)
    monkeypatch.setattr(choice, "JOINING", 98)
    assert result_key(knowledge, geometric) == before
    monkeypatch.setattr(choice, "AT_ONCE", 6)
    in_windows = result_key(knowledge, geometric)
    monkeypatch.setattr(choice, "JOINING", 99)
    assert len({before, in_windows, result_key(knowledge, geometric)}) == 3


@pytest.mark.slow
def test_a_clip_in_windows_has_the_cameras_of_the_whole(tmp_path: Path, read_demo_folder, monkeypatch) -> None:
    """Nothing is known: flow, cameras, masks and depth of every window, and what joins them."""
    video = read_demo_folder(write_demo(tmp_path / "room", num_frames=24, width=192, height=108))
    truth = video.estimate
    whole = front_end.estimate(video.images, truth.frame_names, FrontEndConfig(), QUIET)
    monkeypatch.setattr(front_end, "AT_ONCE", 14)
    monkeypatch.setattr(long_windows, "WINDOW", 14)
    scene = front_end.estimate(video.images, truth.frame_names, FrontEndConfig(), QUIET)
    assert scene.provenance["windows"] == [[0, 13], [10, 23]]
    before, after = (ate_percent(one.c2w_cv, truth.c2w_cv) for one in (whole, scene))
    print(f"ATE {before:.3f} % at once, {after:.3f} % in windows")
    assert after < 1.5
    ratio = scene.depth / truth.depth
    static = truth.dynamic_probability < 0.5
    assert np.median(np.abs(ratio / np.median(ratio[static]) - 1)[static]) < 0.05
    moves = truth.dynamic_probability > 0.5
    found = scene.dynamic_probability >= 0.5
    assert (found & moves).sum() / (found | moves).sum() > 0.6
