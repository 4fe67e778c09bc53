"""A batch on two nodes: what is done, what is done again, what fails, and what is lost when something is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import psutil
import pytest
from rich.console import Console

from das3r_ns.batch.config import BatchConfig
from das3r_ns.batch.run import failures, run_batch
from das3r_ns.errors import Das3rError
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.progress import Progress

WAIT = 120.0
"""Seconds after which a batch that should end has not."""
STEPS = ("masks", "train")
ALL = {f"{name}/{step}/result.txt" for name in ("ape", "bee", "cow", "dog") for step in STEPS}


@pytest.fixture()
def run(cluster: Any, clips: Path, desk: Any, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs a batch of the clips, masks and training alone, with the desk's commands."""

    def run(videos: Path = clips, output: str = "out", **options: Any) -> dict[str, Any]:
        settings: dict[str, Any] = {"steps": ("masks,train",), "memory": 0.1, "cpus": 1} | options
        config = BatchConfig((str(videos),), tmp_path / output, **settings)
        return run_batch(config, Progress(Console(quiet=True)), desk)

    return run


def gone(process: int) -> bool:
    """Whether a process has ended."""
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def living_nodes() -> list[str]:
    """The nodes that Ray counts as there."""
    import ray

    return [node["NodeID"] for node in ray.nodes() if node["Alive"]]


def test_everything_is_done_once(run: Callable, results: Callable, desk: Any, tmp_path: Path) -> None:
    found = run()
    assert set(results(tmp_path / "out")) == ALL and len(desk.begun()) == 8
    assert not list(failures(found)) and not list((tmp_path / "out").rglob("*.tmp-*"))
    record = json.loads((tmp_path / "out/batch.json").read_text())["videos"]["bee"]["steps"]["train"]
    assert record["seconds"] > 0 and record["peak_mb"] > 0 and record["bytes"] > 0
    run()
    assert len(desk.begun()) == 8


def test_paths_among_the_options_are_found_by_workers_that_start_in_another_folder(
    run: Callable, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clips)
    given = FrontEndConfig(long_side=0, masks="joined", masks_dir=Path("bee"))
    video = run(clips / "ape", front_end=given)["videos"]["ape"]
    assert "failed" not in video and set(video["steps"]) == set(STEPS)


def test_what_has_changed_is_done_again(
    run: Callable, results: Callable, desk: Any, clips: Path, tmp_path: Path
) -> None:
    run()
    before = results(tmp_path / "out")
    picture = cv2.imread(str(clips / "cow/01.png"))
    cv2.imwrite(str(clips / "cow/01.png"), 255 - picture)
    run(max_num_iterations=None)
    assert len(desk.begun("cow")) == 4 and len(desk.begun()) == 10
    changed = {name for name, digest in results(tmp_path / "out").items() if before[name] != digest}
    assert changed == {"cow/masks/result.txt", "cow/train/result.txt"}
    run(max_num_iterations=5)  # the training depends on it, the masks do not
    assert len(desk.begun(step="masks")) == 5 and len(desk.begun(step="train")) == 9


def test_a_failure_stops_its_own_video_alone(run: Callable, results: Callable, desk: Any, tmp_path: Path) -> None:
    rain = desk.fail("bee", "masks")
    found = run()
    assert set(results(tmp_path / "out")) == {name for name in ALL if not name.startswith("bee")}
    assert list(failures(found)) == [("bee, masks", "It rained on bee.")]
    assert "It rained on bee." in (tmp_path / "out/batch.html").read_text()
    rain.unlink()
    found = run()  # left alone unless it is asked for
    assert len(desk.begun("bee")) == 1 and list(failures(found))
    found = run(retry_failed=True)
    assert set(results(tmp_path / "out")) == ALL and not list(failures(found))


def test_a_video_that_cannot_be_read_does_not_stop_the_others(run: Callable, clips: Path, tmp_path: Path) -> None:
    (clips / "bee/02.png").write_bytes(b"no picture")
    (clips / "ape/extra.png").write_bytes((clips / "ape/00.png").read_bytes())
    for name in ("00", "01", "02", "03"):
        (clips / f"dog/{name}.png").rename(clips / f"dog/{name}.png.txt")
    cv2.imwrite(str(clips / "dog/only.png"), cv2.imread(str(clips / "cow/00.png")))
    found = run()
    assert [name for name, _ in failures(found)] == ["dog"]
    assert "single frame" in found["videos"]["dog"]["failed"]


def test_what_makes_no_sense_is_refused_before_anything_begins(run: Callable, desk: Any, clips: Path) -> None:
    for options, reason in (
        ({"memory": 3.5}, "No machine has room for the step masks of ape, which takes 3.5 GB.*lends Ray 1.1 GB"),
        ({"steps": ("export",)}, "step export works on the result of train, and ape has none"),
        ({"steps": ("maks",)}, "no step maks"),
        ({"jobs": 0}, "--jobs 0 makes no sense"),
        ({"videos": clips / "gnu"}, "does not exist"),
        ({"output": "clips"}, "was not written by this command"),
    ):
        with pytest.raises(Das3rError, match=reason):
            run(**options)
    assert not desk.begun()


def test_two_batches_do_not_work_in_one_folder(run: Callable, desk: Any) -> None:
    desk.hold("ape", "masks")
    with desk.running(run) as running:
        desk.wait_for(lambda: desk.begun("ape", "masks"))
        with pytest.raises(Das3rError, match=r"Another das3r batch is at work in .*out"):
            run()
        desk.release()
        running.result(WAIT)
    assert len(desk.begun()) == 8


def test_no_more_videos_at_a_time_than_asked_for(run: Callable, desk: Any) -> None:
    desk.hold("ape", "train")
    with desk.running(run, jobs=1) as running:
        desk.wait_for(lambda: desk.begun("ape", "train"))
        time.sleep(1)
        assert len(desk.begun()) == 2
        desk.release()
        running.result(WAIT)
    assert len(desk.begun()) == 8


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not end a child with its parent")
def test_a_killed_worker_begins_again(run: Callable, results: Callable, desk: Any, tmp_path: Path) -> None:
    desk.hold("bee", "train")
    with desk.running(run) as running:
        command, worker = desk.wait_for(lambda: desk.begun("bee", "train"))[0]
        os.kill(worker, signal.SIGKILL)
        desk.wait_for(lambda: len(desk.begun("bee", "train")) == 2)
        desk.wait_for(lambda: gone(command))
        assert not (tmp_path / "out/bee/train").exists()
        desk.release()
        found = running.result(WAIT)
    assert set(results(tmp_path / "out")) == ALL and not list(failures(found))
    assert len(desk.begun()) == 9 and not list((tmp_path / "out").rglob("*.tmp-*"))


def test_a_killed_command_begins_again_and_is_given_up_in_the_end(
    run: Callable, results: Callable, desk: Any, tmp_path: Path
) -> None:
    desk.hold("bee", "train")
    with desk.running(run, retries=1) as running:
        for attempt in (1, 2):
            desk.wait_for(lambda attempt=attempt: len(desk.begun("bee", "train")) == attempt)
            for command, _ in desk.begun("bee", "train"):
                if not gone(command):
                    os.kill(command, signal.SIGKILL)
        found = running.result(WAIT)
    ((what, reason),) = failures(found)
    assert what == "bee, train" and "lost each time" in reason and "killed" in reason
    assert len(results(tmp_path / "out")) == 7


def test_a_node_that_goes_takes_nothing_with_it(
    run: Callable, results: Callable, desk: Any, cluster: Any, tmp_path: Path
) -> None:
    run(output="undisturbed")
    earlier = set(desk.begun())
    for name in ("ape", "bee", "cow", "dog"):
        desk.hold(name, "train")
    node = cluster.add_node(num_cpus=1, memory=1 << 30, object_store_memory=80 << 20)
    with desk.running(run) as running:
        # A training on each of the three nodes, one of which goes, and with it its worker and what that has begun.
        desk.wait_for(lambda: len(desk.begun(step="train")) == 4 + 3)
        cluster.remove_node(node, allow_graceful=False)
        desk.wait_for(lambda: any(gone(command) for command, _ in set(desk.begun(step="train")) - earlier))
        desk.release()
        found = running.result(WAIT)
    assert not list(failures(found)) and set(found["videos"]) == {"ape", "bee", "cow", "dog"}
    assert len(desk.begun()) == len(earlier) + 9

    def as_undisturbed() -> bool:
        run()  # begins nothing, and clears away what the lost node's workers have left once they are gone
        return results(tmp_path / "out") == results(tmp_path / "undisturbed")

    desk.wait_for(as_undisturbed)
    assert len(desk.begun()) == len(earlier) + 9
    # Ray counts a lost node as there for some seconds, and a driver that begins meanwhile may attach itself to it.
    desk.wait_for(lambda: len(living_nodes()) == 2)


DRIVER = """
import sys
from pathlib import Path
import runpy
from rich.console import Console
from das3r_ns.batch.config import BatchConfig
from das3r_ns.batch.run import run_batch
from das3r_ns.progress import Progress
address, videos, output, desk, conftest = sys.argv[1:]
config = BatchConfig((videos,), Path(output), steps=("masks,train",), memory=0.1, cpus=1, jobs=1, address=address)
run_batch(config, Progress(Console(quiet=True)), runpy.run_path(conftest)["Desk"](Path(desk)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not end a child with its parent")
def test_a_killed_driver_loses_only_what_was_at_work(
    run: Callable, results: Callable, desk: Any, cluster: Any, clips: Path, tmp_path: Path
) -> None:
    run(output="undisturbed")
    desk.hold("cow", "train")
    conftest = str(Path(__file__).with_name("conftest.py"))
    arguments = [cluster.address, str(clips), str(tmp_path / "out"), str(desk.folder), conftest]
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, *arguments])

    def at_work() -> list[Any]:
        return [command for command, _ in desk.begun("cow", "train") if not gone(command)]

    # Ray may lose a worker of its own accord on a busy machine, and begins its step once more.
    desk.wait_for(lambda: bool(at_work()) or driver.poll() is not None)
    commands = at_work()
    assert len(commands) == 1 and driver.poll() is None
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    desk.wait_for(lambda: gone(commands[0]))
    assert not (tmp_path / "out/cow/train").exists() and (tmp_path / "out/bee/train/result.txt").is_file()
    desk.release()
    assert not list(failures(run()))
    assert results(tmp_path / "out") == results(tmp_path / "undisturbed")
    # Beside the undisturbed run: cow's training twice at least, what was finished before once.
    begun = {f"{name}-{step}": len(desk.begun(name, step)) for name in ("ape", "bee", "cow", "dog") for step in STEPS}
    assert begun["cow-train"] >= 3 and min(begun.values()) == 2
    assert not list((tmp_path / "out").rglob("*.tmp-*"))
