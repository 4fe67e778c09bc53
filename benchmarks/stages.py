"""What the front end without weights costs, stage by stage: this checkout against an earlier one, in one run.

    python benchmarks/stages.py SETS BEFORE --output-dir results [--update-docs]

SETS is a folder of sets; BEFORE another checkout of the repository (``git worktree add --detach BEFORE COMMIT``). Each
figure comes from a process of its own. With --update-docs the results are kept in benchmarks/results/stages.json, whose
table is written into docs/results.md. Run it once before on both checkouts (or twice): what numba compiles counts too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from provenance import provenance_line
from report import table, update_between_marks

from das3r_ns.files import write_json

HERE = Path(__file__).resolve().parent
KEPT = HERE / "results" / "stages.json"
PAGE = HERE.parent / "docs" / "results.md"
SETS = ("comp_fox_dancer", "davis_dog", "synth_plaza_arc")
STAGES = ("Optical flow", "Cameras", "Depth", "What moves", "Points", "Stereo", "Second look")


@dataclass
class Arguments:
    """Measure the stages of the front end on a few sets, before and now."""

    data: tyro.conf.Positional[Path]
    """Folder of the sets."""
    before: tyro.conf.Positional[Path]
    """Checkout to compare with."""
    output_dir: Path = Path("results")
    """Folder for what every process measured."""
    sets: tuple[str, ...] = SETS
    """Names of the sets."""
    frames: int = 24
    """How many of their first frames are taken."""
    update_docs: bool = False
    """Also keep the results in benchmarks/results/ and write the table between the marks in docs/results.md."""


def main(arguments: Arguments) -> None:
    """Measure, and print the table."""
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    for name in arguments.sets:
        for code, checkout in (("before", arguments.before.resolve()), ("now", HERE.parent)):
            output = arguments.output_dir.resolve() / f"{name}-{code}.json"
            command = [sys.executable, str(HERE / "measure_stages.py"), str(arguments.data / name), str(output)]
            environment = {**os.environ, "PYTHONPATH": str(checkout)}
            subprocess.run([*command, "--frames", str(arguments.frames)], env=environment, check=True)
            results[f"{name}/{code}"] = json.loads(output.read_text())
    print(markdown(results))
    if arguments.update_docs:
        write_json(KEPT, results)
        update_between_marks(PAGE, "stages", markdown(results))


def markdown(results: dict[str, Any]) -> str:
    """The table as Markdown, with where its figures come from."""
    rows = []
    for key, found in results.items():
        name, code = key.split("/")
        parts = [found["stages"].get(stage, 0.0) for stage in STAGES]
        seconds = [*parts, found["cpu_s"] - sum(parts)]
        label = f"{name}, {found['frames']} frames, {found['size']}" if code == "before" else ""
        per_frame = found["cpu_s"] / found["frames"]
        rows.append(
            (label, code, *(f"{part:.1f}" for part in seconds), f"{found['cpu_s']:.1f}", f"**{per_frame:.2f}**")
        )
    columns = ("set", "code", *(stage.lower() for stage in STAGES), "rest", "all", "a frame")
    return "\n".join([provenance_line(results.values()), "", *table(columns, rows)])


if __name__ == "__main__":
    main(tyro.cli(Arguments))
