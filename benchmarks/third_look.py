"""Masks of the front end, and as a trained scene mends them (``das3r masks --load-config``), against the truth.

``python benchmarks/third_look.py SET --load-config CONFIG``: SET is a folder in the layout of ``das3r demo``, CONFIG
the config.yml of a run on its frames. The figures are kept in benchmarks/results/third_look.json and written into
docs/results.md.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from provenance import provenance_line, stamp
from report import update_between_marks

from das3r_ns.evaluation.compare import compare_masks
from das3r_ns.evaluation.ground_truth import GroundTruth
from das3r_ns.files import write_json
from das3r_ns.progress import Progress
from das3r_ns.trained.scene import TrainedScene
from das3r_ns.trained.third_look import look_by_scene

HERE = Path(__file__).parent
KEPT = HERE / "results" / "third_look.json"
PAGE = HERE.parent / "docs" / "results.md"


@dataclass
class Arguments:
    """Compare the masks that a run was trained with, and those that its scene implies, with the truth."""

    set: tyro.conf.Positional[Path]
    """Folder of the set, with its true masks."""
    load_config: Path
    """The config.yml of a run on it."""


def main(arguments: Arguments) -> None:
    """Measure and write the table."""
    scene = TrainedScene.open(arguments.load_config)
    steps = 1 + max(int(path.stem[5:]) for path in (arguments.load_config.parent / "nerfstudio_models").glob("*.ckpt"))
    truth, problems = GroundTruth(arguments.set), []
    before = compare_masks(scene.video.estimate, truth, problems)
    start = time.process_time()
    after = compare_masks(look_by_scene(scene, Progress()).estimate, truth, problems)
    if problems:
        raise SystemExit(" ".join(problems))
    row = {"frames": scene.num_frames, "steps": steps, "before": before, "after": after, **stamp()}
    row["cpu_s"] = round(time.process_time() - start, 1)
    kept: dict[str, Any] = json.loads(KEPT.read_text()) if KEPT.is_file() else {}
    kept[arguments.set.name] = row
    write_json(KEPT, kept)
    update_between_marks(PAGE, "third_look", table(kept))


def table(kept: dict[str, Any]) -> str:
    """All that was measured, as Markdown."""
    titles = ("set", "frames", "steps", "J", "J by the scene", "false alarms %", "by the scene", "CPU s")
    lines = [" | ".join(("", *titles, "")).strip(), "| --- " * len(titles) + "|"]
    for name, row in sorted(kept.items()):
        before, after = row["before"], row["after"]
        figures = [f"{one['J']:.3f}" for one in (before, after)]
        figures += [f"{100 * one['false_alarms']:.2f}" for one in (before, after)]
        lines.append(f"| {name} | {row['frames']} | {row['steps']} | {' | '.join(figures)} | {row['cpu_s']} |")
    return "\n".join([provenance_line(kept.values()), "", *lines])


if __name__ == "__main__":
    main(tyro.cli(Arguments))
