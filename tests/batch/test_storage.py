"""Results in a store: what is put there and fetched, what is refused, and a batch whose machines share nothing else."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from rich.console import Console

from das3r_ns.batch.config import BatchConfig
from das3r_ns.batch.look import Look
from das3r_ns.batch.place import Stored
from das3r_ns.batch.run import failures, run_batch
from das3r_ns.batch.storage import Storage, StorageError, fetch_video, matching
from das3r_ns.batch.stored import check_seen, look_stored, run_stored
from das3r_ns.batch.videos import Video, VideoOptions, find_videos
from das3r_ns.batch.work import MARKER, Interrupted, StepFailed
from das3r_ns.errors import Das3rError
from das3r_ns.progress import Progress

URLS = ("memory://das3r-test/store", "file://{}/store")


@pytest.fixture(params=URLS, ids=["memory", "file"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    yield Storage(request.param.format(tmp_path))
    fsspec.filesystem("memory").store.clear()


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    """Some files, one with a name that elsewhere is a pattern."""
    for name in ("a/one.txt", "a/b/two [1].txt", "a/.hidden/three.txt"):
        (tmp_path / "made" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "made" / name).write_text(name)
    return tmp_path / "made"


def files(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_what_is_put_is_fetched_the_same(storage: Storage, folder: Path, tmp_path: Path) -> None:
    storage.check()
    storage.put([path for path in folder.rglob("*") if path.is_file()], folder, "video")
    storage.get("video/a", tmp_path / "back/a")
    assert files(tmp_path / "back") == files(folder)
    assert storage.read(["video/a/one.txt", "video/none"]) == {"video/a/one.txt": b"a/one.txt"}
    storage.remove("video/a/b")
    storage.remove("video/none")
    storage.get("video", tmp_path / "left")
    storage.get("none", tmp_path / "none")
    assert set(files(tmp_path / "left")) == {"a/one.txt", "a/.hidden/three.txt"} and not (tmp_path / "none").exists()


def test_a_video_is_fetched_without_what_was_found_of_it(storage: Storage, folder: Path, tmp_path: Path) -> None:
    storage.put([path for path in folder.rglob("*") if path.is_file()], folder, "clips")
    fetch_video(f"{storage.url}/clips/a", tmp_path / "one", ".hidden")
    assert set(files(tmp_path / "one")) == {"a/one.txt", "a/b/two [1].txt"}
    fetch_video(f"{storage.url}/clips/a/one.txt", tmp_path / "two", ".hidden")
    fetch_video(str(folder / "a/one.txt"), tmp_path / "three", ".hidden")
    assert files(tmp_path / "two") == files(tmp_path / "three") == {"one.txt": "a/one.txt"}
    with pytest.raises(StorageError, match="clips/gnu cannot be used: "):
        fetch_video(f"{storage.url}/clips/gnu", tmp_path / "four", ".hidden")


def test_urls_name_videos(storage: Storage, tmp_path: Path) -> None:
    for name in ("clips/ape.mp4", "clips/bee.mp4", "clips/cow/frames/0.png"):
        storage.write(name, b"")
    url = f"{storage.url}/clips"
    found = find_videos([f"{url}/*.mp4", f"{url}/cow/frames"])
    assert [video.name for video in found] == ["ape", "bee", "cow"]
    assert found[2].url == f"{url}/cow/frames" and matching(str(found[0].url)) == [found[0].url]
    (tmp_path / "list.yaml").write_text(f"- {url}/bee.mp4\n- {{video: {url}/ape.mp4, name: first}}\n")
    assert [video.name for video in find_videos([str(tmp_path / "list.yaml")])] == ["bee", "first"]
    (tmp_path / "dog.mp4").touch()
    mixed = [str(tmp_path / "dog.mp4"), f"{url}/cow/frames"]
    assert [video.name for video in find_videos(mixed)] == ["dog", "cow"], "in their order"
    for gone in (f"{url}/gnu.mp4", f"{url}/*.mov"):
        with pytest.raises(StorageError, match=r"There is nothing at .*clips/"):
            find_videos([gone])


def settled(storage: Storage, clips: Path, tmp_path: Path) -> tuple[Stored, Video]:
    """Where results lie, and a video that the store holds beside a look at it that an earlier run has left."""
    place = Stored(tmp_path / "out", storage, tmp_path / "scratch")
    storage.put(list((clips / "ape").iterdir()), clips, "videos")
    place.begin()
    video = Video("ape", Path(), VideoOptions("das3r-light"), {}, f"{storage.url}/videos/ape")
    return place, place.settle(video)


def test_a_step_leaves_its_result_and_its_record(storage: Storage, clips: Path, desk: Any, tmp_path: Path) -> None:
    place, video = settled(storage, clips, tmp_path)
    look = look_stored(video, storage, place.steps_in)
    assert (look.frames, look.size, look.failed) == (4, (48, 36), None)
    masks, train = desk(video, look, place.steps_in, ("masks", "train"), 1)
    assert place.known([masks, train]) == {}
    record = run_stored(masks, storage, place.steps_in)
    assert record["bytes"] > 0 and place.known([masks, train]) == {("ape", "masks"): record}
    found = storage.read(["ape/masks/result.txt", "ape/batch/masks.txt", "ape/train/result.txt"])
    assert found["ape/masks/result.txt"].startswith(b"masks ") and len(found) == 2
    assert not list((tmp_path / "scratch").iterdir())
    rain = desk.fail("ape", "masks")
    with pytest.raises(StepFailed, match=r"It rained on ape\."):
        run_stored(masks, storage, place.steps_in)
    assert "It rained" in place.known([masks])["ape", "masks"]["failed"]
    assert not storage.read(["ape/masks/result.txt"])
    rain.unlink()
    run_stored(masks, storage, place.steps_in)
    assert "failed" not in place.known([masks])["ape", "masks"]


FRONT_END = """
import sys
from pathlib import Path
data, target, place = sys.argv[1:]
kept = Path(data) / ".das3r/key"
if place == "masks":
    kept.mkdir(parents=True)
    (kept / "scene.json").write_text("found")
if place == "train":
    run = Path(target) / "ape/das3r-light/run"
    run.mkdir(parents=True)
    (run / "config.yml").write_text(f"{data} {target}")
    (Path(target) / "read.txt").write_text((kept / "scene.json").read_text())
if place == "export":
    config = Path(data).parents[1] / "train/ape/das3r-light/run/config.yml"
    where, trained = config.read_text().split()
    assert where == data and Path(trained).is_dir() and (kept / "scene.json").is_file(), (where, trained)
    (Path(target) / "seen.txt").write_text(config.read_text())
"""


def test_later_steps_find_what_earlier_ones_left_at_its_place(
    storage: Storage, clips: Path, desk: Any, tmp_path: Path
) -> None:
    """The front end's results, and a run whose paths are those of the scratch folder, another one each time."""
    place, video = settled(storage, clips, tmp_path)
    steps = desk(video, Look("k", "geometric", 4, (48, 36), (48, 36)), place.steps_in, ("masks", "train", "export"), 1)
    for step in steps:
        words = ("{python}", "-c", FRONT_END, str(step.data), "{target}", step.name)
        run_stored(dataclasses.replace(step, command=words), storage, place.steps_in)
    home = place.steps_in / "ape"
    found = storage.read(["ape/train/ape/das3r-light/run/config.yml", "ape/train/read.txt", "ape/export/seen.txt"])
    assert found["ape/train/ape/das3r-light/run/config.yml"].decode() == f"{home}/input/ape {home}/train"
    assert found["ape/train/read.txt"] == b"found" and str(home).encode() not in found["ape/export/seen.txt"]
    # Kept once, by the step that found it.
    assert len(storage.read(f"ape/cache/{step}/ape/.das3r/key/scene.json" for step in ("masks", "train"))) == 1


def test_a_machine_that_sees_another_store_says_so(storage: Storage, clips: Path, tmp_path: Path) -> None:
    place, video = settled(storage, clips, tmp_path)
    check_seen(storage)
    storage.remove(MARKER)
    assert "does not see what" in str(look_stored(video, storage, place.steps_in).failed)


def test_a_store_that_is_lost_is_no_failure_of_the_step(
    clips: Path, desk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(f"file://{tmp_path}/store")
    place, video = settled(storage, clips, tmp_path)
    (masks,) = desk(video, look_stored(video, storage, place.steps_in), place.steps_in, ("masks",), 1)

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("the wire is cut")

    monkeypatch.setattr(LocalFileSystem, "put_file", refuse)
    with pytest.raises(Interrupted, match="cannot be used: the wire is cut"):
        run_stored(masks, storage, place.steps_in)
    assert place.known([masks]) == {} and not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nowhere/store", "no URL of a folder"),
        ("nope://host/store", "no place that fsspec knows: Protocol not known: nope"),
        ("file://{}/[ab]", "no pattern"),
        ("file://{}/clips/ape/00.png/store", "cannot be used: .*can be written"),
    ],
)
def test_a_store_that_cannot_be_used_is_refused_before_anything_begins(
    url: str, reason: str, clips: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="the extra cluster is not installed")
    config = BatchConfig((str(clips),), tmp_path / "out", storage=url.format(tmp_path))
    with pytest.raises(Das3rError, match=reason):
        run_batch(config, Progress(Console(quiet=True)))
    assert not (tmp_path / "out").exists()


def test_the_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(StorageError, match=r"s3://bucket/x needs a package .*`pip install s3fs`\."):
        Storage("s3://bucket/x").check()


def test_urls_are_refused_without_a_store(clips: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra cluster is not installed")
    config = BatchConfig((f"file://{clips}/ape",), tmp_path / "out")
    with pytest.raises(Das3rError, match=r"clips/ape is the URL of a video.*--storage"):
        run_batch(config, Progress(Console(quiet=True)))


@pytest.fixture()
def run(cluster: Any, clips: Path, desk: Any, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs a batch of two clips, masks and training alone, with results in a store."""

    def run(output: str = "out", **options: Any) -> dict[str, Any]:
        settings: dict[str, Any] = {"steps": ("masks,train",), "memory": 0.1, "cpus": 1} | options
        places: dict[str, Any] = {"storage": f"file://{tmp_path}/store", "scratch_dir": tmp_path / "scratch"}
        videos = (str(clips / "ape"), f"file://{clips}/be*")
        return run_batch(
            BatchConfig(videos, tmp_path / output, **places, **settings), Progress(Console(quiet=True)), desk
        )

    return run


ALL = {f"{name}/{step}/result.txt" for name in ("ape", "bee") for step in ("masks", "train")}


def test_a_batch_needs_nothing_but_the_store(run: Callable, results: Callable, desk: Any, tmp_path: Path) -> None:
    found = run()
    assert not list(failures(found)) and set(results(tmp_path / "store")) == ALL and len(desk.begun()) == 4
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"batch.json", "batch.html"}
    assert json.loads((tmp_path / "store/batch.json").read_text())["videos"] == found["videos"]
    assert (tmp_path / "store/batch.html").read_text() == (tmp_path / "out/batch.html").read_text()
    assert not results(tmp_path / "out") and not list((tmp_path / "scratch").iterdir())
    again = run(output="elsewhere")  # another machine's output folder
    assert len(desk.begun()) == 4 and set(again["videos"]) == {"ape", "bee"}


def test_what_has_changed_or_failed_is_done_again(run: Callable, desk: Any, clips: Path, tmp_path: Path) -> None:
    rain = desk.fail("bee", "masks")
    assert list(failures(run())) == [("bee, masks", "It rained on bee.")]
    rain.unlink()
    assert list(failures(run())) and len(desk.begun()) == 3
    assert not list(failures(run(retry_failed=True))) and len(desk.begun()) == 5
    picture = cv2.imread(str(clips / "ape/01.png"))
    cv2.imwrite(str(clips / "ape/01.png"), 255 - picture)
    run()
    assert len(desk.begun("ape")) == 4 and len(desk.begun("bee")) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not end a child with its parent")
def test_a_killed_worker_leaves_no_record(run: Callable, results: Callable, desk: Any, tmp_path: Path) -> None:
    desk.hold("bee", "train")
    with desk.running(run) as running:
        _, worker = desk.wait_for(lambda: desk.begun("bee", "train"))[0]
        os.kill(worker, signal.SIGKILL)
        desk.wait_for(lambda: len(desk.begun("bee", "train")) == 2)
        assert not (tmp_path / "store/bee/batch/train.json").exists() and not (tmp_path / "store/bee/train").exists()
        desk.release()
        assert not list(failures(running.result(120)))
    assert set(results(tmp_path / "store")) == ALL and len(desk.begun()) == 5
    assert not list((tmp_path / "scratch").iterdir())
