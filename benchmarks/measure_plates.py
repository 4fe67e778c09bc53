"""Clean plates of one set: train, render every training camera, compare with the set's clean plates.

``python benchmarks/measure_plates.py SET VIDEO RUN_DIR --output OUTPUT.json [--method das3r] [--plain]``

Which pixels count is told in das3r_ns/evaluation/plates.py and observed.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from nerfstudio.models.splatfacto import SplatfactoModel

from das3r_ns.evaluation.baselines import splatfacto_anywhere
from das3r_ns.evaluation.cost import Cost
from das3r_ns.evaluation.ground_truth import GroundTruth
from das3r_ns.evaluation.measured_training import train
from das3r_ns.evaluation.methods import method_config
from das3r_ns.evaluation.observed import with_observed
from das3r_ns.evaluation.plates import masks_at, observed_at, score_plates, to_size
from das3r_ns.files import write_json
from das3r_ns.trained.run import render_training_view, training_images


@dataclass
class Arguments:
    """Train on one set and measure its clean plates."""

    set: tyro.conf.Positional[Path]
    """Folder of the set, with its ground truth."""
    video: tyro.conf.Positional[Path]
    """Folder of links to its frames; its front-end cache is used."""
    run_dir: tyro.conf.Positional[Path]
    """Folder for what training writes, and for a scene of the clean plates where the set has no `observed` pictures."""
    output: Path
    """JSON file to write."""
    method: Literal["das3r", "das3r-light"] = "das3r-light"
    """Preset to train with."""
    plain: bool = False
    """Train plain splatfacto with the preset's iterations and resolution instead."""


def main(arguments: Arguments) -> None:
    """Measure and write the result."""
    config = method_config("splatfacto" if arguments.plain else arguments.method, arguments.method)
    config.pipeline.datamanager.dataparser.data = arguments.video  # pyright: ignore[reportAttributeAccessIssue]
    config.output_dir = arguments.run_dir
    config.experiment_name = "plain" if arguments.plain else "das3r"
    whole = Cost()
    with splatfacto_anywhere():
        pipeline, training = train(config)
        used = whole.so_far()
        indices = list(range(len(training_images(pipeline))))
        renders = [render_training_view(pipeline, i)["rgb"] for i in indices]
    assert isinstance(pipeline.model, SplatfactoModel)

    truth = GroundTruth(arguments.set)
    if len(indices) != truth.num_frames:
        raise SystemExit(f"{arguments.set} has {truth.num_frames} frames and {len(indices)} were trained on.")
    size = (renders[0].shape[1], renders[0].shape[0])
    covered = masks_at(truth, indices, size)
    truth = with_observed(truth, arguments.run_dir / "clean-scene")
    observed = observed_at(truth, indices, size)
    write_json(
        arguments.output,
        {
            "method": "plain splatfacto" if arguments.plain else arguments.method,
            "iterations": config.max_num_iterations,
            "size": f"{size[0]}x{size[1]}",
            "gaussians": pipeline.model.num_points,
            "iterations_per_s": round(config.max_num_iterations / training["wall_s"], 2),
            **used,
            **score_plates(renders, [to_size(truth.clean(i), size) for i in indices], covered, observed),
        },
    )


if __name__ == "__main__":
    main(tyro.cli(Arguments))
