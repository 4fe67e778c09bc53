"""Cache entries: exact, complete or absent, and never trusted blindly."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from das3r_ns import files
from das3r_ns.errors import Das3rError
from das3r_ns.scene import cache
from das3r_ns.scene.estimate import SceneEstimate
from das3r_ns.scene.lens import Lens
from das3r_ns.scene.shutter import Shutter

KEY = "0123456789abcdef"


@pytest.fixture()
def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)


@pytest.fixture()
def estimate() -> SceneEstimate:
    rng = np.random.default_rng(0)
    return SceneEstimate(
        frame_names=["a.png", "ä.png", "c.png"],
        c2w_cv=rng.normal(size=(3, 4, 4)),
        intrinsics=rng.normal(size=(3, 3, 3)),
        depth=np.exp(rng.normal(scale=20, size=(3, 20, 30))).astype(np.float32),
        confidence=rng.random((3, 20, 30)).astype(np.float16).astype(np.float32),
        dynamic_probability=rng.random((3, 20, 30)).astype(np.float16).astype(np.float32),
        camera_kind="rotation",
        provenance={"front_end": "geometric", "seconds": {"flow": 1.5}, "messages": ["hello"]},
    )


def save(root: Path, estimate: SceneEstimate, images: np.ndarray) -> cache.CacheEntry:
    return cache.save_entry(root, KEY, estimate, images, 12.5, (640, 480))


def assert_equal(first: SceneEstimate, second: SceneEstimate) -> None:
    for item in dataclasses.fields(SceneEstimate):
        mine, other = getattr(first, item.name), getattr(second, item.name)
        if isinstance(mine, np.ndarray):
            assert mine.dtype == other.dtype
            np.testing.assert_array_equal(mine, other)
        else:
            assert mine == other


def test_the_light_is_kept(tmp_path: Path, estimate: SceneEstimate, images: np.ndarray) -> None:
    assert save(tmp_path, estimate, images).estimate.light is None
    light = np.linspace(-0.3, 0.3, 3 * estimate.num_frames).reshape(-1, 3)
    entry = save(tmp_path / "lit", dataclasses.replace(estimate, light=light), images)
    assert entry.estimate.light is not None
    np.testing.assert_array_equal(entry.estimate.light, light)


def test_the_lens_is_kept(tmp_path: Path, estimate: SceneEstimate, images: np.ndarray) -> None:
    assert "lens" not in json.loads((save(tmp_path, estimate, images).directory / cache.SCENE).read_text())
    lens = Lens.central((640, 480), 500.0, -0.2, 0.04)
    entry = save(tmp_path / "bent", dataclasses.replace(estimate, lens=lens), images)
    assert entry.estimate.lens == lens


def test_the_shutter_is_kept(tmp_path: Path, estimate: SceneEstimate, images: np.ndarray) -> None:
    assert save(tmp_path, estimate, images).estimate.shutter is None
    motion = np.random.default_rng(0).normal(0, 0.02, (estimate.num_frames, 2, 6))
    shutter = Shutter(0.6, (0.5, 0.3), motion)
    entry = save(tmp_path / "rolling", dataclasses.replace(estimate, shutter=shutter), images)
    assert entry.estimate.shutter is not None and entry.estimate.shutter.to_json() == shutter.to_json()
    with pytest.raises(ValueError, match="not of"):
        dataclasses.replace(estimate, shutter=shutter.of(slice(1)))


def test_what_is_fixed_is_kept_and_entries_without_it_have_nothing(
    tmp_path: Path, estimate: SceneEstimate, images: np.ndarray
) -> None:
    fixed = np.zeros((20, 30), bool)
    fixed[15:] = True
    entry = save(tmp_path, dataclasses.replace(estimate, fixed=fixed), images)
    assert entry.estimate.fixed is not None and entry.estimate.fixed.dtype == bool
    np.testing.assert_array_equal(entry.estimate.fixed, fixed)
    assert save(tmp_path / "old", estimate, images).estimate.fixed is None


def test_round_trip_is_exact(tmp_path: Path, estimate: SceneEstimate, images: np.ndarray) -> None:
    saved = save(tmp_path, estimate, images)
    loaded = cache.load_entry(tmp_path / KEY, KEY)
    for entry in (saved, loaded):
        assert_equal(entry.estimate, estimate)
        assert (entry.fps, entry.original_size) == (12.5, (640, 480))
    for path, image in zip(loaded.image_paths, images, strict=True):
        np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], image)
    assert [path.name for path in tmp_path.iterdir()] == [KEY], "no temporary folder is left"


def test_maps_between_0_and_1_are_rounded_once(tmp_path: Path, estimate: SceneEstimate, images: np.ndarray) -> None:
    fine = dataclasses.replace(estimate, confidence=np.full((3, 20, 30), 0.123456789, np.float32))
    saved = save(tmp_path, fine, images)
    np.testing.assert_allclose(saved.estimate.confidence, 0.123456789, atol=1e-4)
    assert_equal(save(tmp_path / "again", saved.estimate, images).estimate, saved.estimate)


def test_nothing_is_pickled(tmp_path: Path, estimate: SceneEstimate, images: np.ndarray) -> None:
    save(tmp_path, estimate, images)
    stored = np.load(tmp_path / KEY / cache.ESTIMATE, allow_pickle=False)
    assert all(stored[name].dtype != object for name in stored.files)


def truncate(directory: Path) -> None:
    path = directory / cache.ESTIMATE
    path.write_bytes(path.read_bytes()[:5000])


def flip_a_byte(directory: Path) -> None:
    path = directory / cache.ESTIMATE
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def edit(directory: Path, **changes: object) -> None:
    path = directory / cache.SCENE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (truncate, ""),
        (flip_a_byte, ""),
        (lambda directory: (directory / cache.ESTIMATE).unlink(), "No such file"),
        (lambda directory: (directory / cache.ESTIMATE).write_bytes(b""), ""),
        (lambda directory: (directory / cache.SCENE).unlink(), "No such file"),
        (lambda directory: (directory / cache.SCENE).write_text('{"fo'), ""),
        (lambda directory: (directory / cache.SCENE).write_text('{"colmap": 1}'), "format"),
        (lambda directory: (directory / cache.SCENE).write_text("[1, 2]"), ""),
        (lambda directory: edit(directory, format=cache.FORMAT + 1), "another version"),
        (lambda directory: edit(directory, key="other"), "another version"),
        (lambda directory: edit(directory, frame_names=["a"]), "names"),
        (lambda directory: (directory / "frames/00001.png").unlink(), "00001.png is missing"),
        (lambda directory: (directory / "frames/00002.png").write_bytes(b""), "00002.png is missing"),
        (lambda directory: shutil.rmtree(directory / "frames"), "00000.png is missing"),
    ],
)
def test_damaged_and_foreign_entries_are_refused_aloud_and_replaced(
    tmp_path: Path, estimate: SceneEstimate, images: np.ndarray, damage, says: str
) -> None:
    save(tmp_path, estimate, images)
    damage(tmp_path / KEY)
    said: list[str] = []
    assert cache.find_entry([tmp_path], KEY, said.append) is None
    assert len(said) == 1
    assert str(tmp_path / KEY) in said[0] and "computed again" in said[0] and says in said[0]
    save(tmp_path, estimate, images)
    entry = cache.find_entry([tmp_path], KEY, said.append)
    assert entry is not None
    assert_equal(entry.estimate, estimate)
    assert len(said) == 1
    assert [path.name for path in tmp_path.iterdir()] == [KEY]


def test_values_that_are_not_finite_are_refused(tmp_path: Path, estimate: SceneEstimate, images: np.ndarray) -> None:
    save(tmp_path, estimate, images)
    path = tmp_path / KEY / cache.ESTIMATE
    with np.load(path) as stored:
        arrays = dict(stored)
    arrays["depth"][0, 0, 0] = np.nan
    np.savez(path, **arrays)
    with pytest.raises(cache.BadEntry, match="not finite"):
        cache.load_entry(tmp_path / KEY, KEY)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_save_leaves_nothing(
    tmp_path: Path,
    estimate: SceneEstimate,
    images: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
) -> None:
    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr(cache, "write_frames", fail)
    with pytest.raises(error):
        save(tmp_path, estimate, images)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_removed_after_a_day(
    tmp_path: Path, estimate: SceneEstimate, images: np.ndarray
) -> None:
    for name, age in ((".a.tmp-1", 2 * files.ABANDONED), (".b.tmp-2", 60)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age, time.time() - age))
    save(tmp_path, estimate, images)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.tmp-2", KEY]


def test_the_quicker_of_two_processes_wins(
    tmp_path: Path, estimate: SceneEstimate, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = cache.write_frames

    def other_process_finishes_meanwhile(folder: Path, frames: np.ndarray) -> None:
        write(folder, frames)
        monkeypatch.setattr(cache, "write_frames", write)
        quicker.append(save(tmp_path, estimate, images))

    quicker: list[cache.CacheEntry] = []
    monkeypatch.setattr(cache, "write_frames", other_process_finishes_meanwhile)
    entry = save(tmp_path, dataclasses.replace(estimate, provenance={}), images)
    assert_equal(entry.estimate, quicker[0].estimate)
    assert [path.name for path in tmp_path.iterdir()] == [KEY]


def test_a_full_disk_is_noticed_before_writing(
    tmp_path: Path, estimate: SceneEstimate, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(Das3rError) as error:
        save(tmp_path, estimate, images)
    needed = cache.estimate_bytes(3, 20, 30)
    assert str(tmp_path) in str(error.value)
    assert f"{needed} bytes" in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("number", "says"), [(errno.ENOSPC, "too full"), (errno.EROFS, "cannot be stored")])
def test_a_disk_that_fails_while_writing(
    tmp_path: Path, estimate: SceneEstimate, images: np.ndarray, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    def fail(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(cache, "write_frames", fail)
    with pytest.raises(Das3rError, match=says) as error:
        save(tmp_path, estimate, images)
    assert str(tmp_path) in str(error.value)
    assert not list(tmp_path.iterdir())


def test_the_estimated_size_is_enough(tmp_path: Path, estimate: SceneEstimate, images: np.ndarray) -> None:
    save(tmp_path, estimate, images)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < cache.estimate_bytes(3, 20, 30)


def test_keys_differ_by_content_and_settings() -> None:
    keys = {
        cache.cache_key("a", {"long_side": 512, "front_end": "geometric"}),
        cache.cache_key("b", {"long_side": 512, "front_end": "geometric"}),
        cache.cache_key("a", {"long_side": 384, "front_end": "geometric"}),
    }
    assert len(keys) == 3
    assert cache.cache_key("a", {"front_end": "geometric", "long_side": 512}) in keys, "order does not matter"


def test_roots_lie_beside_the_video_then_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    (tmp_path / "frames").mkdir()
    (tmp_path / "film.mp4").touch()
    assert cache.cache_roots(tmp_path / "frames") == [tmp_path / "frames/.das3r", tmp_path / "xdg/das3r"]
    assert cache.cache_roots(tmp_path / "film.mp4")[0] == tmp_path / "film.mp4.das3r"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.cache_roots(tmp_path / "frames")[1] == tmp_path / "home/.cache/das3r"


def test_a_read_only_folder_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = [tmp_path / "film.mp4.das3r", tmp_path / "user"]
    # Tests may run as root, whom no permission stops.
    monkeypatch.setattr(cache, "can_write", lambda folder: folder == roots[1])
    assert cache.writable_root(roots) == roots[1]
    monkeypatch.setattr(cache, "can_write", lambda folder: False)
    with pytest.raises(Das3rError, match=r"neither .*film\.mp4\.das3r nor .*user"):
        cache.writable_root(roots)


def test_the_probe_recognises_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert cache.can_write(tmp_path / "new")
    assert not cache.can_write(tmp_path / "file" / "below")
