"""Training at the working size against training at the size of the video, judged by the set's clean plates.

``python benchmarks/full_size.py SET FOLDER --train-sizes working original --frames 12 --steps 1000``

One preset, one estimate of the front end, one number of steps, of which those at smaller sizes have the preset's share;
every figure at the size of the video. ``hidden`` are the pixels under the true mask, ``static`` those at least EDGE
pixels away from it. ``render`` is the scene alone, ``plate`` what ``das3r clean-plate`` writes. Dirt is the share of
hidden pixels that are off by more than DIRT of white in some channel, as what is left of a mover is.

``--update-docs`` measures nothing, and writes the table of docs/results.md from benchmarks/results/full_size.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import tyro
from jaxtyping import Bool, Float
from provenance import provenance_line, stamp
from report import table, update_between_marks

from das3r_ns.cleanplate.write import MARKER, write_clean_plates
from das3r_ns.evaluation.cost import Cost
from das3r_ns.evaluation.ground_truth import GroundTruth
from das3r_ns.evaluation.measured_training import train
from das3r_ns.evaluation.metrics import psnr_over
from das3r_ns.evaluation.plates import EDGE
from das3r_ns.files import link_files, write_json
from das3r_ns.presets import trainer_config
from das3r_ns.splats.ssim import weighted_ssim
from das3r_ns.trained.scene import TrainedScene

DIRT = 0.15
ROOT = Path(__file__).parents[1]
RESULTS, DOCS = ROOT / "benchmarks/results/full_size", ROOT / "docs/results.md"
COLUMNS = {
    "render, static dB": ("render_static_psnr", "{:.2f}"),
    "SSIM": ("render_static_ssim", "{:.4f}"),
    "render, hidden dB": ("render_hidden_psnr", "{:.2f}"),
    "SSIM, hidden": ("render_hidden_ssim", "{:.4f}"),
    "plate, hidden dB": ("plate_hidden_psnr", "{:.2f}"),
    "dirt of the plate %": ("plate_dirt_percent", "{:.1f}"),
}
"""Of the table: what they show, and how."""


@dataclass
class Arguments:
    """Train a set at several sizes and measure its plates at the size of the video."""

    set: tyro.conf.Positional[Path] = Path()
    """Folder of the set, with masks and clean plates."""
    folder: tyro.conf.Positional[Path] = Path()
    """Folder to write; figures.json is added to, size by size."""
    train_sizes: tuple[str, ...] = ("working", "original")
    """What train-size is."""
    preset: str = "das3r-light"
    """Settings of all else."""
    frames: int = 0
    """Only so many, from the first; all if 0."""
    steps: int = 0
    """Steps of each training; those of the preset if 0."""
    update_docs: bool = False
    """Only write the table."""


def figures(
    pictures: dict[str, Float[np.ndarray, "H W 3"]], clean: Float[np.ndarray, "H W 3"], mask: Bool[np.ndarray, "H W"]
) -> dict[str, float]:
    """PSNR, SSIM and dirt of render and plate over what is hidden and what is static."""
    near = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * EDGE + 1, 2 * EDGE + 1))
    places = {"hidden": mask, "static": cv2.dilate(mask.astype(np.uint8), near) == 0}
    found: dict[str, float] = {}
    for what, picture in pictures.items():
        for where, pixels in places.items():
            if not pixels.any():
                continue
            weight = torch.from_numpy(pixels[..., None].astype(np.float32))
            found[f"{what}_{where}_psnr"] = psnr_over(picture, clean, pixels)
            both = torch.from_numpy(picture), torch.from_numpy(clean)
            found[f"{what}_{where}_ssim"] = float(weighted_ssim(*both, weight))
        if mask.any():
            found[f"{what}_dirt_percent"] = 100 * float((np.abs(picture - clean).max(axis=-1)[mask] > DIRT).mean())
    return found


def read(path: Path) -> Float[np.ndarray, "H W 3"]:
    """A picture, RGB, 0 to 1."""
    return cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32) / 255


def measure(arguments: Arguments, clip: Path, truth: GroundTruth, size: str) -> dict[str, Any]:
    """Train at one size and measure."""
    config: Any = trainer_config(arguments.preset)
    parser = config.pipeline.datamanager.dataparser
    config.data = parser.data = clip
    parser.train_size, parser.anyway = int(size) if size.isdigit() else size, True
    config.output_dir, config.experiment_name = arguments.folder.resolve() / "runs", size
    steps = arguments.steps or config.max_num_iterations
    model = config.pipeline.model
    model.resolution_schedule = max(1, model.resolution_schedule * steps // config.max_num_iterations)
    config.max_num_iterations = steps
    pipeline, training = train(config)
    plates, cost = arguments.folder / f"plates-{size}", Cost()
    scene = TrainedScene(pipeline)
    write_clean_plates(scene, plates)
    values: dict[str, list[float]] = {}
    for i in range(scene.num_frames):
        pictures = {what: read(plates / folder / f"{i:05d}.png") for what, folder in PICTURES.items()}
        for name, value in figures(pictures, truth.clean(i), truth.mask(i)).items():
            values.setdefault(name, []).append(value)
    camera = pipeline.datamanager.train_dataset.cameras[0]  # pyright: ignore[reportOptionalSubscript, reportOptionalMemberAccess]
    return {
        "train_size": f"{int(camera.width)}x{int(camera.height)}",
        "frames": scene.num_frames,
        "steps": config.max_num_iterations,
        "gaussians": scene.model.num_points,
        "training": training,
        "plates": cost.so_far(),
        "percent_from": json.loads((plates / MARKER).read_text())["percent"],
        **{name: round(float(np.nanmean(of_frames)), 4) for name, of_frames in values.items()},
    }


PICTURES = {"render": "render", "plate": "frames"}
"""What is measured, and the folder of clean plates that has it."""


def markdown(records: list[dict[str, Any]]) -> str:
    """The table, and where its figures come from."""
    rows = [
        [
            *(r["set"], str(r["frames"]), r["preset"], str(r["steps"]), r["train_size"], str(r["gaussians"])),
            *(shown.format(r[key]) for key, shown in COLUMNS.values()),
            *(f"{r['training']['cpu_s']:.0f}", str(r["training"]["peak_mb"])),
        ]
        for r in records
    ]
    names = ["set", "frames", "preset", "steps", "training images", "Gaussians", *COLUMNS, "training, CPU s", "MB"]
    return "\n".join([provenance_line(records), "", *table(names, rows)])


def load_results() -> list[dict[str, Any]]:
    """Every record in benchmarks/results/full_size."""
    return [record for path in sorted(RESULTS.glob("*.json")) for record in json.loads(path.read_text()).values()]


def main(arguments: Arguments) -> None:
    """Measure size by size."""
    if arguments.update_docs:
        update_between_marks(DOCS, "full_size", markdown(load_results()))
        return
    truth = GroundTruth(arguments.set)
    paths = truth.frame_paths[: arguments.frames or None]
    clip = arguments.folder.resolve() / f"{arguments.set.resolve().name}-{len(paths)}"
    link_files(paths, clip)
    output = arguments.folder / "figures.json"
    found: dict[str, Any] = json.loads(output.read_text()) if output.is_file() else {}
    for size in arguments.train_sizes:
        whence = {**stamp(), "set": arguments.set.name, "preset": arguments.preset}
        found[size] = whence | measure(arguments, clip, truth, size)
        write_json(output, found)
        print(json.dumps({size: found[size]}), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
