"""One set through the front end: what it costs, and how far cameras and masks are from the truth.

``python benchmarks/measure_frontend.py SET VIDEO --output OUTPUT.json [--still]``: SET holds the truth, VIDEO frames
(see workspace.py), whose cached results are deleted first. With --still these are its clean plates: a film in which
nothing moves, whose masks must be empty.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import tyro

from das3r_ns.evaluation.compare import compare_cameras, compare_masks
from das3r_ns.evaluation.cost import Cost
from das3r_ns.evaluation.ground_truth import GroundTruth
from das3r_ns.files import write_json
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.run import load_or_estimate
from das3r_ns.scene.binary_masks import MOVES

CAMERAS = ("ate_percent", "rpe_r", "focal_error")
MASKS = ("J", "F", "recall", "false_alarms")


@dataclass
class Arguments:
    """Measure the front end on one set."""

    set: tyro.conf.Positional[Path]
    """Folder of the set, with its ground truth."""
    video: tyro.conf.Positional[Path]
    """Folder of links to its frames."""
    output: Path
    """JSON file to write."""
    still: bool = False
    """The video is that of the clean plates: only the cameras are compared, and what is marked counts."""


def main(arguments: Arguments) -> None:
    """Measure and write the result."""
    for cache in arguments.video.rglob(".das3r"):
        shutil.rmtree(cache)
    cost = Cost()
    estimate = load_or_estimate(arguments.video, FrontEndConfig()).estimate
    used = cost.so_far()
    problems: list[str] = []
    truth = GroundTruth(arguments.set)
    figures = compare_cameras(estimate, truth, problems)
    if not arguments.still:
        figures |= compare_masks(estimate, truth, problems)
    if problems:
        raise SystemExit(" ".join(problems))
    write_json(
        arguments.output,
        {
            "frames": estimate.num_frames,
            "size": f"{estimate.width}x{estimate.height}",
            **used,
            "seconds_per_frame": round(used["wall_s"] / estimate.num_frames, 3),
            "camera_kind": estimate.camera_kind,
            "marked": float((estimate.dynamic_probability >= MOVES).mean()),
            **{name: figures[name] for name in (*CAMERAS, *MASKS) if name in figures},
            "seconds": estimate.provenance["seconds"],
        },
    )


if __name__ == "__main__":
    main(tyro.cli(Arguments))
