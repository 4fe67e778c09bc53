"""One set through the front end: what it costs, and how far cameras and masks are from the truth.

``python benchmarks/measure_frontend.py SET VIDEO --output OUTPUT.json``: SET holds the ground truth, VIDEO its frames
(see workspace.py), whose cached results are deleted first.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tyro

from das3r_ns.evaluation.cost import Cost
from das3r_ns.evaluation.ground_truth import GroundTruth
from das3r_ns.evaluation.metrics import ate_percent, focal_error, mask_iou
from das3r_ns.files import write_json
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.export import MOVES
from das3r_ns.frontend.run import load_or_estimate
from das3r_ns.frontend.scene import SceneEstimate


@dataclass
class Arguments:
    """Measure the front end on one set."""

    set: tyro.conf.Positional[Path]
    """Folder of the set, with its ground truth."""
    video: tyro.conf.Positional[Path]
    """Folder of links to its frames."""
    output: Path
    """JSON file to write."""


def compare(estimate: SceneEstimate, truth: GroundTruth) -> dict[str, Any]:
    """ATE, focal error and J of an estimate, as far as there is ground truth for them."""
    indices = truth.indices(estimate.frame_names)
    figures: dict[str, Any] = {}
    if truth.has("poses.txt"):
        figures["ate_percent"] = ate_percent(estimate.c2w_cv, truth.c2w_cv[indices])
        figures["focal_error"] = focal_error(estimate.intrinsics, estimate.width, truth.intrinsics, truth.size[0])
    if truth.has("masks"):
        # As `das3r masks` writes them: the probability at the size of the video, then the threshold.
        predicted = [cv2.resize(p, truth.size, interpolation=cv2.INTER_LINEAR) for p in estimate.dynamic_probability]
        j = mask_iou(np.stack(predicted) >= MOVES, np.stack([truth.mask(i) for i in indices]))
        figures["J"] = float(j.mean())
    return figures


def main(arguments: Arguments) -> None:
    """Measure and write the result."""
    for cache in arguments.video.rglob(".das3r"):
        shutil.rmtree(cache)
    cost = Cost()
    estimate = load_or_estimate(arguments.video, FrontEndConfig()).estimate
    used = cost.so_far()
    write_json(
        arguments.output,
        {
            "frames": estimate.num_frames,
            "size": f"{estimate.width}x{estimate.height}",
            **used,
            "seconds_per_frame": round(used["wall_s"] / estimate.num_frames, 3),
            "camera_kind": estimate.camera_kind,
            **compare(estimate, GroundTruth(arguments.set)),
            "provenance": estimate.provenance,
        },
    )


if __name__ == "__main__":
    main(tyro.cli(Arguments))
