"""Everything das3r is measured by, with the machine it was measured on.

    python benchmarks/reach.py --data SETS                 # everything; hours on two cores
    python benchmarks/reach.py --data SETS --only frontend masks --sets davis_dog

SETS is a folder of sets in the layout that ``das3r demo`` writes (see das3r_ns/evaluation/ground_truth.py). Every
figure comes from a process of its own, so that its peak memory is its own. What is in the result file already is not
measured again, unless --fresh; so a run that was interrupted goes on where it was. With --update-docs the result file
is taken into benchmarks/results/reach.json, whose tables are written into docs/results.md.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from measure_bad_input import cases
from provenance import stamp
from report import markdown, print_report, update_between_marks
from rich.console import Console
from workspace import find_sets, link_video

from das3r_ns.evaluation.machine import describe_machine
from das3r_ns.files import write_json

HERE = Path(__file__).parent
KEPT = HERE / "results" / "reach.json"
PAGE = HERE.parent / "docs" / "results.md"
Part = Literal["frontend", "masks", "still", "plates", "light", "bad-input", "gpu"]
PARTS: tuple[Part, ...] = ("frontend", "masks", "still", "plates", "light", "bad-input", "gpu")
LIGHT_SIZE = (480, 270)


@dataclass
class Arguments:
    """Measure das3r on a folder of sets and print what it reaches."""

    data: Path
    """Folder of the sets."""
    output_dir: Path = Path("results")
    """Folder for reach.json, the logs of every measurement and the trained runs."""
    only: tuple[Part, ...] = PARTS
    """What to measure: frontend (sets with true cameras: cost, ATE, focal, J), masks (sets with masks alone: cost, J),
    still (the clean plates of a set as a film in which nothing moves: what is marked all the same),
    plates (clean plates against plain splatfacto), light (ns-train das3r-light, timed), bad-input, and gpu (das3r and
    the rasteriser on CUDA; nothing where there is none)."""
    sets: tuple[str, ...] = ()
    """Names of the sets to use; all if none is named."""
    method: Literal["das3r", "das3r-light"] = "das3r-light"
    """Preset that clean plates are trained with."""
    fresh: bool = False
    """Measure again what has been measured."""
    update_docs: bool = False
    """Also keep the results in benchmarks/results/ and write the tables between the marks in docs/results.md."""


@dataclass(frozen=True)
class Job:
    """One measurement: its key in the results, and the script and arguments that make it."""

    key: str
    script: str
    arguments: tuple[str, ...]
    has_output: bool = True
    """Whether the script writes a JSON file; what it prints is kept otherwise."""


def jobs(arguments: Arguments) -> Iterator[Job]:
    """All measurements asked for, in an order in which later ones find the caches of earlier ones."""
    available = find_sets(arguments.data)
    if unknown := set(arguments.sets) - set(available):
        raise SystemExit(f"No such set: {', '.join(sorted(unknown))}. There are: {', '.join(available)}.")
    names = arguments.sets or available

    def has(name: str, part: str) -> bool:
        return (arguments.data / name / part).exists()

    def video(name: str) -> str:
        return str(link_video(arguments.data / name, arguments.output_dir.resolve() / "videos" / name))

    def run_dir(name: str, kind: str) -> str:
        return str(arguments.output_dir / "runs" / f"{name}-{kind}")

    for name in names:
        part = "frontend" if has(name, "poses.txt") else "masks"
        if part in arguments.only:
            yield Job(f"{part}/{name}", "measure_frontend.py", (str(arguments.data / name), video(name)))
        if "still" in arguments.only and has(name, "clean"):
            clean = link_video(arguments.data / name, arguments.output_dir.resolve() / f"videos/{name}-clean", "clean")
            yield Job(f"still/{name}", "measure_frontend.py", (str(arguments.data / name), str(clean), "--still"))
    plates = [(arguments.method, "plates")] if "plates" in arguments.only else []
    if "gpu" in arguments.only and torch.cuda.is_available():
        plates.append(("das3r", "gpu"))
        yield Job("gpu/rasterizer", "rasterizer.py", (), has_output=False)
    for method, part in plates:
        for name in names:
            if not (has(name, "clean") and has(name, "poses.txt")):
                continue
            places = (str(arguments.data / name), video(name), run_dir(name, method))
            yield Job(f"{part}/{name}/{method}", "measure_plates.py", (*places, "--method", method))
            yield Job(f"{part}/{name}/{method}/plain", "measure_plates.py", (*places, "--method", method, "--plain"))
    if "light" in arguments.only:
        for name in names:
            if is_light_clip(arguments.data / name):
                yield Job(f"light/{name}", "measure_light.py", (video(name), run_dir(name, "light")))
    if "bad-input" in arguments.only:
        for case in cases():
            yield Job(f"bad-input/{case}", "measure_bad_input.py", (case, run_dir(case, "bad-input")))


def is_light_clip(directory: Path) -> bool:
    """Whether the set is of the size that das3r-light's time is stated for."""
    from das3r_ns.evaluation.ground_truth import GroundTruth

    return GroundTruth(directory).size == LIGHT_SIZE


def measure(job: Job, output_dir: Path) -> dict[str, Any]:
    """Run one measurement in a process of its own; a failure is a result too."""
    name = job.key.replace("/", "-")
    log, output = output_dir / "logs" / f"{name}.txt", output_dir / "parts" / f"{name}.json"
    log.parent.mkdir(parents=True, exist_ok=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)
    if job.key.startswith("bad-input"):
        shutil.rmtree(job.arguments[1], ignore_errors=True)
    command = [sys.executable, str(HERE / job.script), *job.arguments]
    if job.has_output:
        command += ["--output", str(output)]
    with log.open("w") as stream:
        code = subprocess.run(command, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL).returncode
    if output.is_file():
        return json.loads(output.read_text())
    last = log.read_text().strip().splitlines()[-30:]
    return {"printed": last} if code == 0 else {"failed": code, "log": str(log), "last": last[-3:]}


def keep(results: dict[str, Any], kept: Path = KEPT, page: Path = PAGE) -> None:
    """Take results into those that are kept, and write the tables of all."""
    known: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {}
    write_json(kept, known | results)
    update_between_marks(page, "reach", markdown(known | results))


def main(arguments: Arguments) -> None:
    """Measure what is missing and print everything."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    path = arguments.output_dir / "reach.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    results["machine"] = describe_machine()
    todo = [job for job in jobs(arguments) if arguments.fresh or "failed" in results.get(job.key, {"failed": None})]
    for number, job in enumerate(todo, 1):
        with console.status(f"{number} of {len(todo)}: {job.key}"):
            results[job.key] = {**measure(job, arguments.output_dir), **stamp()}
        write_json(path, results)
        if "failed" in results[job.key]:
            console.print(f"[red]{job.key} failed; see {results[job.key]['log']}")
    print_report(results, console)
    if arguments.update_docs:
        keep(results)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
