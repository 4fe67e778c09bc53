"""Tiny videos, and steps that do nothing but write a file, so that a batch of them takes seconds."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from das3r_ns.batch.config import STEPS, StepName
from das3r_ns.batch.look import Look
from das3r_ns.batch.steps import PYTHON, TARGET, Step, key
from das3r_ns.batch.videos import Video

MEMORY = 1 << 30
"""Of each node, bytes."""
WAIT = 120.0
"""Seconds after which something that should happen has not."""
PROGRAM = """
import hashlib, os, pathlib, sys, time
step, data, target, desk = sys.argv[1:]
data, target, desk = pathlib.Path(data), pathlib.Path(target), pathlib.Path(desk)
(desk / f"{data.name}-{step}-{os.getpid()}-{os.getppid()}").touch()
(target / "half").touch()
while (desk / f"hold-{data.name}-{step}").exists():
    time.sleep(0.02)
if (desk / f"fail-{data.name}-{step}").exists():
    sys.exit("Some warning.\\ndas3r: It rained on " + data.name + ".")
(target / "half").unlink()
content = b"".join(path.read_bytes() for path in sorted(data.glob("*.png")))
(target / "result.txt").write_text(step + " " + hashlib.sha256(content).hexdigest())
"""


class Desk:
    """Stands in for the commands: says which have begun, holds them up, and lets them fail.

    Its steps are handed to :func:`~das3r_ns.batch.run.run_batch`; a folder is all it has, so a process may be killed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self, video: Video, look: Look, output_dir: Path, wanted: tuple[StepName, ...], cpus: int
    ) -> list[Step]:
        folder = output_dir / video.name
        return [
            Step(
                *(name, video.name, folder),
                (PYTHON, "-I", "-S", "-c", PROGRAM, name, str(video.data), TARGET, str(self.folder)),
                *(key(video, look, name), video.data, video.settings(), cpus, video.url),
            )
            for name in STEPS
            if name in wanted
        ]

    def begun(self, video: str = "*", step: str = "*") -> list[tuple[int, int]]:
        """Process and parent process of every command that has begun."""
        names = [path.name.rsplit("-", 2) for path in self.folder.glob(f"{video}-{step}-*-*")]
        return [(int(process), int(parent)) for what, process, parent in names if not what.startswith(("hold", "fail"))]

    def hold(self, video: str, step: str) -> Path:
        """Hold up a step for as long as the file is there."""
        path = self.folder / f"hold-{video}-{step}"
        path.touch()
        return path

    def release(self) -> None:
        """Hold up nothing any more."""
        for path in self.folder.glob("hold-*"):
            path.unlink()

    @contextmanager
    def running(self, run: Callable[..., Any], **options: Any) -> Iterator[Future[Any]]:
        """A batch that runs beside the test; nothing holds it up at the end."""
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(run, **options)
            try:
                yield running
            finally:
                self.release()

    def wait_for(self, condition: Callable[[], Any]) -> Any:
        """What a condition gives as soon as it gives something."""
        deadline = time.monotonic() + WAIT
        while not (found := condition()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return found

    def fail(self, video: str, step: str) -> Path:
        """Let a step fail for as long as the file is there."""
        path = self.folder / f"fail-{video}-{step}"
        path.touch()
        return path


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one CPU each."""
    ray = pytest.importorskip("ray", reason="the extra cluster is not installed")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "memory": MEMORY, "object_store_memory": 80 << 20, "include_dashboard": False}
    started = Cluster(initialize_head=True, connect=False, head_node_args=node)
    started.add_node(**node)
    try:
        ray.init(address=started.address, log_to_driver=False, logging_level="error")
        yield started
    finally:
        ray.shutdown()
        started.shutdown()


@pytest.fixture()
def desk(tmp_path: Path) -> Desk:
    (tmp_path / "desk").mkdir()
    return Desk(tmp_path / "desk")


@pytest.fixture()
def clips(tmp_path: Path) -> Path:
    """A folder of four videos of four frames."""
    rng = np.random.default_rng(0)
    for name in ("ape", "bee", "cow", "dog"):
        (tmp_path / "clips" / name).mkdir(parents=True)
        for number in range(4):
            picture = rng.integers(0, 255, (36, 48, 3), np.uint8)
            cv2.imwrite(str(tmp_path / "clips" / name / f"{number:02d}.png"), picture)
    return tmp_path / "clips"


@pytest.fixture(scope="session")
def results() -> Callable[[Path], dict[str, str]]:
    """Every file of an output folder but records, logs and the report: name -> hash."""

    def read(output: Path) -> dict[str, str]:
        files = [path for path in output.rglob("*") if path.is_file()]
        whole = sorted(path for path in files if path.parent.name != "batch" and path.parent != output)
        return {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest() for path in whole}

    return read
