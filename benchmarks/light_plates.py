"""What learning the light gives: one set with a lens's dark corners or a drifting exposure, trained with and without.

``python benchmarks/light_plates.py SET FOLDER --frames 24 --steps 1200``: SET is in the layout of ``das3r demo`` with
clean plates, FOLDER is made. Its frames and plates are changed as FILMS says. The plates of training frames are
compared with the changed ones, frames 5, 15, ... are held out. The figures go to benchmarks/results/light_plates.json
and into docs/results.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable
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
KEPT = HERE / "results" / "light_plates.json"
PAGE = HERE.parent / "docs" / "results.md"
DARKER = 0.33
"""Share of the stored values that the corners lose."""
DRIFT = (0.55, 1.5)
"""Linear light of the first frame and of the last one; the balance of blue and red drifts by a quarter beside."""


@dataclass
class Arguments:
    """Compare trainings that learn the light with those that do not."""

    set: tyro.conf.Positional[Path]
    """Folder of the set."""
    folder: tyro.conf.Positional[Path]
    """Folder for the changed sets and what training writes."""
    frames: int = 24
    """Frames that are used, the first ones."""
    steps: int = 1200
    """Steps of das3r-light."""
    only: tuple[str, ...] = ()
    """Which trainings, by the name of their film (dark, drift, even); all if none is named."""


TRAININGS = {
    "dark corners, taken off": ("dark", True),
    "dark corners, left": ("dark", False),
    "light that drifts, learned": ("drift", True),
    "light that drifts, left": ("drift", False),
    "neither": ("even", True),
}
"""What a training is called, whose frames it sees, and whether light is learned."""
COLUMNS = {
    "hidden dB": "psnr_hidden",
    "static dB": "psnr_static",
    "static, near the corners dB": "psnr_outer",
    "held-out static dB": "held_out",
}


def write_set(source: Path, target: Path, count: int, film: str) -> GroundTruth:
    """The first frames of a set, frames and plates in the light of a film."""
    for part in ("frames", "clean", "masks", "observed"):
        (target / part).mkdir(parents=True, exist_ok=True)
        for earlier in (target / part).glob("*.png"):  # of more frames, perhaps
            earlier.unlink()
        paths = sorted(p for p in (source / part).iterdir() if p.is_file())[:count]
        for number, path in enumerate(paths):
            picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            if part in ("frames", "clean"):
                lit = FILMS[film](picture.astype(np.float64), number / max(count - 1, 1))
                picture = np.clip(np.rint(lit), 0, 255).astype(np.uint8)
            cv2.imwrite(str(target / part / f"{path.stem}.png"), picture)
    return GroundTruth(target)


def darkened(picture: np.ndarray, time: float) -> np.ndarray:
    """By 1 - DARKER s, s the squared distance from the centre in half diagonals."""
    del time
    return picture * (1 - DARKER * squares(*picture.shape[:2]))[..., None]


def drifting(picture: np.ndarray, time: float) -> np.ndarray:
    """Exposure and white balance of a time from 0 to 1, in light that 2.2 is the gamma of; BGR."""
    first, last = DRIFT
    gain = first * (last / first) ** time * np.array([0.75 + 0.5 * time, 1.0, 1.25 - 0.5 * time])
    return 255 * ((picture / 255) ** 2.2 * gain) ** (1 / 2.2)


FILMS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "dark": darkened,
    "drift": drifting,
    "even": lambda picture, time: picture,
}
"""What is done to a picture, by the name of a film."""


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
        if arguments.only and film not in arguments.only:
            continue
        truth = write_set(arguments.set, arguments.folder / film, arguments.frames, film)
        kept.setdefault(arguments.set.name, {})[name] = measure(truth, arguments, learns)
        write_json(KEPT, kept)
    update_between_marks(PAGE, "light_plates", markdown(kept))


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
