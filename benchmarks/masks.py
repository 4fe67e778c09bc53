"""Masks of every set of a folder: overlap with the truth, false alarms, and what is marked where nothing moves.

``python benchmarks/masks.py --data SETS --workspace FOLDER [--update-docs]``: SETS holds sets in the layout of ``das3r
demo``. A set that has true masks is run on its frames; one that has ``clean/`` also on that, as a film in which nothing
moves. J is DAVIS's, the mean over the frames; false alarms are what is marked and does not move, in percent of the
picture.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tyro
from rich.console import Console
from workspace import find_sets

from das3r_ns.evaluation.compare import usable_masks
from das3r_ns.evaluation.ground_truth import GroundTruth
from das3r_ns.evaluation.machine import describe_machine, machine_line
from das3r_ns.evaluation.metrics import mask_iou
from das3r_ns.files import link_files, write_json, write_text
from das3r_ns.frontend.choice import FRONT_ENDS
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.run import load_or_estimate
from das3r_ns.progress import Progress
from das3r_ns.scene.binary_masks import MOVES
from das3r_ns.scene.estimate import SceneEstimate

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- masks:begin -->", "<!-- masks:end -->"


@dataclass
class Arguments:
    """Measure the masks of the front end without weights."""

    data: Path
    """Folder of the sets."""
    workspace: Path
    """Folder for links and results of the front end; what it has cached there is deleted first."""
    sets: tuple[str, ...] = ()
    """Names of the sets to run; all by default. Those that were measured before keep their figures."""
    output: Path = field(default_factory=lambda: ROOT / "benchmarks" / "results" / "masks.json")
    """JSON file to write, after each set."""
    max_frames: int = FrontEndConfig.max_frames
    """Frame budget of the front end."""
    update_docs: bool = False
    """Write the table into docs/results.md too."""


class CpuProgress(Progress):
    """Counts the CPU seconds of the stages."""

    def __init__(self) -> None:
        super().__init__(Console(quiet=True))
        self.cpu: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[], None]]:
        """See :meth:`das3r_ns.progress.Progress.stage`."""
        start = time.process_time()
        with super().stage(name, total) as advance:
            yield advance
        self.cpu[name] = self.cpu.get(name, 0.0) + time.process_time() - start


def measure(folder: Path, part: str, arguments: Arguments) -> dict[str, Any]:
    """Run the front end on one part of a set ("frames", or "clean", where nothing moves) and compare."""
    video = arguments.workspace / folder.name / part
    link_files(sorted(path for path in (folder / part).iterdir() if path.is_file()), video / "frames")
    for cache in video.rglob(".das3r"):
        shutil.rmtree(cache)
    progress, start = CpuProgress(), time.process_time()
    config = FrontEndConfig(front_end="geometric", max_frames=arguments.max_frames)
    estimate = load_or_estimate(video, config, progress).estimate
    record: dict[str, Any] = {
        "frames": estimate.num_frames,
        "camera_kind": estimate.camera_kind,
        "marked": round(100 * float((estimate.dynamic_probability >= MOVES).mean()), 2),
        "cpu_s": round(time.process_time() - start, 1),
        "stages_cpu_s": {name: round(seconds, 1) for name, seconds in progress.cpu.items()},
        "date": date.today().isoformat(),
        "commit": commit(),
        "front_end": f"geometric, version {FRONT_ENDS['geometric'].version}",
        "machine": describe_machine(),
    }
    return record | (compared(estimate, GroundTruth(folder)) if part == "frames" else {})


def compared(estimate: SceneEstimate, truth: GroundTruth) -> dict[str, float]:
    """J, and the false alarms in percent of the picture."""
    indices, problems = truth.indices(estimate.frame_names), []
    masks = usable_masks(truth, indices, problems)
    if problems:
        raise SystemExit(" ".join(problems))
    overlaps, false = [], []
    for i, probability in zip(indices, estimate.dynamic_probability, strict=True):
        found = cv2.resize(probability, truth.size, interpolation=cv2.INTER_LINEAR) >= MOVES
        overlaps.append(float(mask_iou(found, masks[i])))
        false.append(float((found & ~masks[i]).mean()))
    return {"J": round(float(np.mean(overlaps)), 3), "false_alarms": round(100 * float(np.mean(false)), 2)}


def commit() -> str:
    """Of the checkout this runs in; marked where files differ from it."""
    described = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return described.stdout.strip() or "unknown"


def table(records: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Markdown: a row a set, with the stages' CPU seconds of all sets below."""
    every = [record for parts in records.values() for record in parts.values()]
    made = [", ".join(sorted({record[key] for record in every})) for key in ("date", "commit", "front_end")]
    machines = "; ".join(sorted({machine_line(record["machine"]) for record in every}))
    lines = [
        f"Measured {made[0]}. Commit: {made[1]}. Front end: {made[2]}. Machine: {machines}.",
        "",
        "| set | frames | camera | J | false alarms % | marked where nothing moves % | CPU s a frame |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, parts in sorted(records.items()):
        film, still = parts.get("frames", {}), parts.get("clean", {})
        main = film or still
        cells = [
            name,
            str(main["frames"]),
            main["camera_kind"],
            f"{film['J']:.3f}" if "J" in film else "-",
            f"{film['false_alarms']:.2f}" if "false_alarms" in film else "-",
            f"{still['marked']:.2f}" if still else "-",
            f"{main['cpu_s'] / main['frames']:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    frames, stages = sum(record["frames"] for record in every), {}
    for record in every:
        for stage, seconds in record["stages_cpu_s"].items():
            stages[stage] = stages.get(stage, 0.0) + seconds
    costs = ", ".join(f"{stage} {seconds / frames:.2f}" for stage, seconds in stages.items())
    return "\n".join([*lines, "", f"CPU seconds a frame, mean of all: {costs}."])


def update_docs(text: str, file: Path) -> None:
    """Put the table between its marks in a Markdown file, at its end where there are none."""
    block, old = f"{BEGIN}\n{text}\n{END}", file.read_text() if file.is_file() else "# Results\n"
    if BEGIN in old and END in old:
        before, _, rest = old.partition(BEGIN)
        write_text(file, before + block + rest.partition(END)[2])
    else:
        write_text(file, f"{old.rstrip()}\n\n## Masks, and films in which nothing moves\n\n{block}\n")


def main(arguments: Arguments) -> None:
    """Measure, print, and write the results."""
    records = json.loads(arguments.output.read_text())["records"] if arguments.output.is_file() else {}
    for name in arguments.sets or find_sets(arguments.data):
        folder = arguments.data / name
        parts = [part for part, needs in (("frames", "masks"), ("clean", "clean")) if (folder / needs).is_dir()]
        for part in parts:
            records.setdefault(name, {})[part] = measure(folder, part, arguments)
            write_json(arguments.output, {"records": records})
            figures = {key: records[name][part].get(key) for key in ("J", "false_alarms", "marked", "cpu_s")}
            print(name, part, figures, flush=True)
    text = table(records)
    print(text)
    if arguments.update_docs:
        update_docs(text, ROOT / "docs" / "results.md")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
