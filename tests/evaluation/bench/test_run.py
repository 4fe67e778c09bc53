"""Which measurements a benchmark makes, what happens when one fails, and where it goes on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pytest

from das3r_ns.batch.cluster import Needs, Outcome, Task
from das3r_ns.errors import Das3rError
from das3r_ns.evaluation.bench import run
from das3r_ns.evaluation.bench.config import BenchConfig
from das3r_ns.evaluation.bench.job import Job, Record, read_job, write_job
from das3r_ns.evaluation.bench.process import run_job
from das3r_ns.evaluation.bench.run import Bench, in_own_process, run_bench
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.progress import Progress


def write_davis(root: Path, *names: str, frames: int = 7, annotated: bool = True) -> Path:
    for name in names:
        for kind, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
            if kind == "JPEGImages" or annotated:
                (root / kind / "480p" / name).mkdir(parents=True)
                for number in range(frames):
                    picture = np.full((40, 64, 3), 40 * (number % 2), np.uint8)
                    cv2.imwrite(str(root / kind / "480p" / name / f"{number:05d}.{suffix}"), picture)
    return root


@pytest.fixture()
def davis(tmp_path: Path) -> Path:
    return write_davis(tmp_path / "davis", "dog", "goat")


def config(davis: Path, **changes) -> BenchConfig:
    settings: dict = {"methods": ("splatfacto", "das3r-light"), "sequences": ("dog", "goat")} | changes
    return BenchConfig("davis", davis, davis.parent / "out", **settings)


class Measure:
    """Stands in for the measurement; remembers what it was asked for, and fails where it is told to."""

    def __init__(self, *failing: tuple[str, str]) -> None:
        self.asked: list[tuple[str, str]] = []
        self.failing = failing

    def __call__(self, job: Job) -> Record:
        self.asked.append((job.sequence, job.name))
        if (job.sequence, job.name) in self.failing:
            return {"failed": "It rained."}
        return {"figures": {"psnr_static": 20.0}, "problems": []}


DOG = [("dog", "front-end"), ("dog", "das3r-light"), ("dog", "splatfacto")]


@pytest.mark.parametrize(
    ("changes", "option"), [({"max_iterations": 0}, "--max-iterations"), ({"num_frames": 1}, "--num-frames")]
)
def test_settings_that_make_no_sense_are_refused(davis: Path, changes: dict, option: str) -> None:
    with pytest.raises(Das3rError, match=option):
        Bench.plan(config(davis, **changes))


def test_a_file_is_no_output_folder(davis: Path) -> None:
    (davis.parent / "out").touch()
    with pytest.raises(Das3rError, match="out is a file"):
        run_bench(config(davis), Progress(), Measure())


def test_das3r_comes_first_and_only_the_papers_eight_are_trained(davis: Path) -> None:
    measure = Measure()
    results = run_bench(config(davis), Progress(), measure)
    assert measure.asked == [*DOG, ("goat", "front-end")]
    assert results["base"] == "das3r-light" and results["methods"] == ["das3r-light", "splatfacto"]
    assert results["machine"]["cores"] and results["records"]["dog"]["splatfacto"]["date"]


def test_whoever_measures_may_start_in_another_folder(davis: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(davis.parent)
    jobs: list[Job] = []

    def measure(job: Job) -> Record:
        jobs.append(job)
        return {"figures": {}, "problems": []}

    front_end = FrontEndConfig(known_poses=Path("poses"), long_side=0)
    run_bench(BenchConfig("davis", Path("davis"), Path("out"), ("das3r",), front_end=front_end), Progress(), measure)
    for job in jobs:
        assert (job.config.data, job.config.output_dir) == (davis, davis.parent / "out")
        assert job.config.front_end.known_poses == davis.parent / "poses"
    assert front_end.known_poses == Path("poses")


def test_front_end_only(davis: Path) -> None:
    measure = Measure()
    run_bench(config(davis, front_end_only=True), Progress(), measure)
    assert measure.asked == [("dog", "front-end"), ("goat", "front-end")]


def test_a_second_run_measures_what_failed_and_nothing_else(davis: Path, capsys) -> None:
    run_bench(config(davis), Progress(), Measure(("dog", "das3r-light")))
    assert "dog, das3r-light: It rained." in capsys.readouterr().err
    measure = Measure()
    results = run_bench(config(davis), Progress(), measure)
    assert measure.asked == [("dog", "das3r-light")]
    assert "failed" not in results["records"]["dog"]["das3r-light"]


def test_an_interrupted_run_goes_on(davis: Path) -> None:
    first = Measure()

    def interrupted(job: Job) -> Record:
        if job.name == "splatfacto":
            raise KeyboardInterrupt
        return first(job)

    with pytest.raises(KeyboardInterrupt):
        run_bench(config(davis), Progress(), interrupted)
    measure = Measure()
    run_bench(config(davis), Progress(), measure)
    assert first.asked + measure.asked == [*DOG, ("goat", "front-end")]


def test_other_settings_measure_again_only_what_depends_on_them(davis: Path) -> None:
    run_bench(config(davis), Progress(), Measure())
    for changes, expected in (
        ({"max_iterations": 9}, DOG[1:]),
        ({"max_iterations": 9, "num_frames": 6}, [*DOG, ("goat", "front-end")]),
        ({"max_iterations": 9, "num_frames": 6, "fresh": True}, [*DOG, ("goat", "front-end")]),
        ({"max_iterations": 9, "num_frames": 6, "methods": ("das3r-light",)}, []),
    ):
        measure = Measure()
        run_bench(config(davis, **changes), Progress(), measure)
        assert measure.asked == expected


def test_a_damaged_record_is_measured_again(davis: Path) -> None:
    run_bench(config(davis), Progress(), Measure())
    path = davis.parent / "out/records/dog/splatfacto.json"
    path.write_text(path.read_text()[:40])
    measure = Measure()
    run_bench(config(davis), Progress(), measure)
    assert measure.asked == [("dog", "splatfacto")]
    assert json.loads(path.read_text())["figures"] == {"psnr_static": 20.0}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"methods": ("nerf",)}, "no method 'nerf'"),
        ({"sequences": ("dig",)}, "no sequence dig"),
        ({"data": Path("nowhere")}, "nowhere is not a folder"),
        ({"protocol": "kitti"}, "no protocol 'kitti'"),
        ({"sequences": ("camel", "cows")}, "no sequence of the protocol davis.*480p/camel does not exist"),
    ],
)
def test_what_cannot_be_done_at_all_is_named(davis: Path, changes: dict, named: str) -> None:
    settings = vars(config(davis)) | changes
    with pytest.raises(Das3rError, match=named):
        Bench.plan(BenchConfig(**settings))


def test_a_missing_sequence_is_a_failure_of_its_own(davis: Path) -> None:
    results = run_bench(config(davis, sequences=("camel", "dog"), front_end_only=True), Progress(), run_job_quickly)
    assert "480p/camel does not exist" in results["records"]["camel"]["front-end"]["failed"]
    assert "failed" not in results["records"]["dog"]["front-end"]


def run_job_quickly(job: Job) -> Record:
    """Opens the sequence as the measurement does, and leaves it at that."""
    return run_job(job) if job.sequence == "camel" else {"figures": {}, "frames": job.truth.num_frames}


def test_jobs_survive_the_way_to_their_process(davis: Path, tmp_path: Path) -> None:
    settings = config(davis, max_iterations=5, front_end=FrontEndConfig(max_frames=20, long_side=0), strict=True)
    job = Job(settings, "dog", "robust", "das3r-light")
    write_job(job, tmp_path / "job.json")
    read = read_job(tmp_path / "job.json")
    assert read.config == settings
    assert read.config.settings("splats") == settings.settings("splats")
    assert (read.sequence, read.method, read.base, read.config.data) == ("dog", "robust", "das3r-light", davis)


def test_the_first_fifty_frames_are_a_clip_of_their_own(tmp_path: Path) -> None:
    root = write_davis(tmp_path / "davis", "dog", frames=53)
    job = Job(BenchConfig("davis", root, tmp_path / "out"), "dog", "das3r-light", "das3r-light")
    clip = job.link_clip()
    assert sorted(path.name for path in clip.iterdir())[-1] == "00049.jpg" and len(list(clip.iterdir())) == 50
    whole = Job(job.config, "dog", None, "das3r-light").link_clip()
    assert len(list(whole.iterdir())) == 53 and whole != clip


def test_a_process_that_dies_leaves_its_last_words(davis: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(config(davis), "dog", None, "das3r-light")
    monkeypatch.setattr(run.sys, "executable", "/bin/false")
    record = in_own_process(job)
    assert "exit code 1" in record["failed"] and "front-end.txt" in record["failed"]


def test_the_front_end_follows_the_preset_unless_told_otherwise(davis: Path) -> None:
    preset = FrontEndConfig(long_side=480)
    assert config(davis).applied(preset) == preset
    changed = config(davis, front_end=FrontEndConfig(front_end="geometric", max_frames=9, long_side=0))
    assert changed.applied(preset) == FrontEndConfig(front_end="geometric", max_frames=9, long_side=480)
    assert config(davis, front_end=FrontEndConfig(long_side=256)).applied(preset).long_side == 256


class Here:
    """Stands in for a cluster: runs the chains in this process, and loses one task."""

    def __init__(self, lost: tuple[str, str]) -> None:
        self.lost = lost
        self.ran: list[tuple[str, str, str | None]] = []

    def machines(self) -> list[Needs]:
        return [Needs(2, 0, 1 << 34)]

    def run(self, chains: Iterable[tuple[str, Sequence[Task]]], jobs: int) -> Iterator[Outcome | None]:
        for name, tasks in chains:
            for task in tasks:
                self.ran.append((name, task.name, task.after))
                yield None
                if (name, task.name) == self.lost:
                    yield Outcome(name, task, error=RuntimeError("it was struck by lightning"))
                else:
                    yield Outcome(name, task, task.function(*task.arguments))


def test_on_a_cluster_each_sequence_is_a_chain(davis: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Here(lost=("dog", "splatfacto"))
    monkeypatch.setattr(run, "connected", lambda address: nullcontext(cluster))
    alone = run_bench(config(davis), Progress(), Measure())
    spread = run_bench(config(davis, address="auto", fresh=True), Progress(), Measure())
    assert cluster.ran[:3] == [
        ("dog", "front-end", None),
        ("dog", "das3r-light", "front-end"),
        ("dog", "splatfacto", "das3r-light"),
    ]
    assert "lightning" in spread["records"]["dog"].pop("splatfacto")["failed"]
    del alone["records"]["dog"]["splatfacto"]
    assert spread["records"] == alone["records"]
    again = Measure()
    run_bench(config(davis), Progress(), again)
    assert again.asked == [("dog", "splatfacto")]
