"""One clip through the front end: ``python benchmarks/measure_field.py VIDEO TRUTH --output FILE [--still]``.

What is in the front end's cache is read, not computed again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from das3r_ns.evaluation.compare import compare_cameras, compare_masks
from das3r_ns.evaluation.cost import Cost
from das3r_ns.evaluation.ground_truth import GroundTruth
from das3r_ns.files import write_json
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.run import load_or_estimate
from das3r_ns.scene.binary_masks import MOVES
from das3r_ns.scene.estimate import SceneEstimate

FIGURES = ("ate_percent", "rpe_r", "focal_error", "J", "false_alarms")


@dataclass
class Arguments:
    """Measure the front end on one clip."""

    video: tyro.conf.Positional[Path]
    """Folder of frames, or video file."""
    truth: tyro.conf.Positional[Path]
    """Folder of its ground truth."""
    output: Path
    """JSON file to write."""
    still: bool = False
    """Nothing moves in the video, whatever the truth says."""
    front_end: FrontEndConfig = field(default_factory=lambda: FrontEndConfig(front_end="geometric"))
    """Settings of the front end."""


def main(arguments: Arguments) -> None:
    """Measure and write the result."""
    cost = Cost()
    scene = load_or_estimate(arguments.video, arguments.front_end)
    estimate, signs = scene.estimate, None if scene.verdict is None else scene.verdict.signs
    used = cost.so_far()
    problems: list[str] = []
    truth = GroundTruth(arguments.truth)
    marked = float((estimate.dynamic_probability >= MOVES).mean())
    figures: dict[str, Any] = compare_cameras(estimate, truth, problems)
    figures |= {"false_alarms": marked} if arguments.still else compare_masks(estimate, truth, problems)
    focals = arguments.truth / "focals.txt"
    if focals.is_file():
        figures["focal_error"] = focal_error_by_frame(estimate, truth, np.loadtxt(focals))
    seconds = estimate.provenance["seconds"]
    write_json(
        arguments.output,
        {
            "frames": estimate.num_frames,
            "size": f"{estimate.width}x{estimate.height}",
            **used,
            "seconds": round(sum(seconds.values()), 1),
            "camera_kind": estimate.camera_kind,
            "marked": marked,
            **{name: figures[name] for name in FIGURES if name in figures},
            "problems": problems,
            "stereo": arguments.front_end.stereo,
            **({} if signs is None else {"signs": signs.record()}),
        },
    )


def focal_error_by_frame(estimate: SceneEstimate, truth: GroundTruth, focals: np.ndarray) -> float:
    """Relative error of the focal, mean over the frames of a lens that zooms."""
    true = focals[truth.indices(estimate.frame_names)] / truth.size[0]
    return float(np.abs(estimate.intrinsics[:, 0, 0] / estimate.width / true - 1).mean())


if __name__ == "__main__":
    main(tyro.cli(Arguments))
