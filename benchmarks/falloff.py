"""What taking off a lens's dark corners gives: one set darkened, trained with the falloff taken off and without.

``python benchmarks/falloff.py SET FOLDER --frames 24 --steps 1200``: SET is in the layout of ``das3r demo`` with clean
plates, FOLDER is made. Its frames and plates are multiplied by 1 - DARKER s, s the squared distance from the centre in
half diagonals. The plates of training frames are compared with the darkened ones, frames 5, 15, ... are held out. The
figures go to benchmarks/results/falloff.json and into docs/results.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tyro
from provenance import provenance_line, stamp
from report import table, update_between_marks

from das3r_ns.evaluation.ground_truth import GroundTruth
from das3r_ns.evaluation.measured_training import train
from das3r_ns.evaluation.methods import method_config
from das3r_ns.evaluation.plates import masks_at, observed_at, score_plates, to_size
from das3r_ns.files import write_json
from das3r_ns.trained.run import render_training_view, training_images

HERE = Path(__file__).parent
KEPT = HERE / "results" / "falloff.json"
PAGE = HERE.parent / "docs" / "results.md"
DARKER = 0.33
"""Share of the stored values that the corners lose."""


@dataclass
class Arguments:
    """Compare trainings with and without the falloff of the lens."""

    set: tyro.conf.Positional[Path]
    """Folder of the set."""
    folder: tyro.conf.Positional[Path]
    """Folder for the darkened set and what training writes."""
    frames: int = 24
    """Frames that are used, the first ones."""
    steps: int = 1200
    """Steps of das3r-light."""


TRAININGS = {
    "dark corners, taken off": ("dark", True),
    "dark corners, left": ("dark", False),
    "no dark corners": ("even", True),
}
"""What a training is called, whose frames it sees, and whether light is learned."""
COLUMNS = {
    "hidden dB": "psnr_hidden",
    "static dB": "psnr_static",
    "static, near the corners dB": "psnr_outer",
    "held-out static dB": "held_out",
}


def write_set(source: Path, target: Path, count: int, darker: float) -> GroundTruth:
    """The first frames of a set, frames and plates darkened towards the corners."""
    for part in ("frames", "clean", "masks", "observed"):
        (target / part).mkdir(parents=True, exist_ok=True)
        for path in sorted(p for p in (source / part).iterdir() if p.is_file())[:count]:
            picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            if part in ("frames", "clean"):
                picture = np.rint(picture * (1 - darker * squares(*picture.shape[:2]))[..., None]).astype(np.uint8)
            cv2.imwrite(str(target / part / f"{path.stem}.png"), picture)
    return GroundTruth(target)


def squares(height: int, width: int) -> np.ndarray:
    """Squared distance of every pixel from the centre, in half diagonals."""
    y, x = np.mgrid[:height, :width]
    return ((x + 0.5 - width / 2) ** 2 + (y + 0.5 - height / 2) ** 2) / (width**2 + height**2) * 4


def measure(truth: GroundTruth, arguments: Arguments, learns: bool) -> dict[str, Any]:
    """Train on a set and compare its plates with the truth."""
    config: Any = method_config("das3r-light", "das3r-light", arguments.steps)
    parser = config.pipeline.datamanager.dataparser
    parser.data, parser.eval_split = truth.directory, "paper"
    config.pipeline.model.learn_light = learns
    config.output_dir = arguments.folder.resolve() / "runs"
    config.experiment_name = f"{truth.directory.name}-{learns}"
    pipeline, _ = train(config)
    indices = training_images(pipeline).metadata["frame_indices"].tolist()
    renders = [render_training_view(pipeline, i)["rgb"] for i in range(len(indices))]
    size = renders[0].shape[1], renders[0].shape[0]
    covered, observed = masks_at(truth, indices, size), observed_at(truth, indices, size)
    clean = [to_size(truth.clean(i), size) for i in indices]
    outer = np.where(squares(size[1], size[0]) > 0.5, covered, 1.0)
    held_out = pipeline.get_average_eval_image_metrics()
    assert held_out is not None
    return {
        "steps": arguments.steps,
        "frames": arguments.frames,
        "gaussians": pipeline.model.num_points,
        **score_plates(renders, clean, covered, observed),
        "psnr_outer": score_plates(renders, clean, outer, observed)["psnr_static"],
        "held_out": held_out["psnr_static_corrected"],
        **stamp(),
    }


def main(arguments: Arguments) -> None:
    """Train what is missing, and write the table."""
    kept: dict[str, Any] = json.loads(KEPT.read_text()) if KEPT.is_file() else {}
    for name, (film, learns) in TRAININGS.items():
        truth = write_set(arguments.set, arguments.folder / film, arguments.frames, DARKER if film == "dark" else 0.0)
        kept.setdefault(arguments.set.name, {})[name] = measure(truth, arguments, learns)
        write_json(KEPT, kept)
    update_between_marks(PAGE, "falloff", markdown(kept))


def markdown(kept: dict[str, Any]) -> str:
    """All that was measured."""
    rows = [
        [of_set, str(r["frames"]), str(r["steps"]), name, *(f"{r[key]:.2f}" for key in COLUMNS.values())]
        for of_set, records in sorted(kept.items())
        for name, r in records.items()
    ]
    records = [record for of_set in kept.values() for record in of_set.values()]
    return "\n".join([provenance_line(records), "", *table(("set", "frames", "steps", "training", *COLUMNS), rows)])


if __name__ == "__main__":
    main(tyro.cli(Arguments))
