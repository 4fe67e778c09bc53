"""Clean plates of one set: train, render every training camera, compare with the set's clean plates.

``python benchmarks/measure_plates.py SET VIDEO RUN_DIR --output OUTPUT.json [--method das3r] [--plain]``

Figures are taken at the size of the training images; ground truth is brought to that size (areas averaged). ``hidden``
are the pixels under the ground-truth mask that some frame sees static, ``static`` those at least EDGE pixels away from
the mask. Which hidden pixels some frame sees comes from the set's ``observed`` pictures or, where it has none, from
reprojecting the depth that the trained das3r renders into all other frames (visible there within 3 %, and not masked).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import tyro
from jaxtyping import Bool, Float
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.models.splatfacto import SplatfactoModel
from nerfstudio.pipelines.base_pipeline import Pipeline
from workspace import Cost, write_json

from das3r_ns.demo.write import observed_count
from das3r_ns.evaluation.checkpoint import render_training_view, training_images
from das3r_ns.evaluation.ground_truth import GroundTruth
from das3r_ns.evaluation.metrics import psnr_over

EDGE = 3
"""Pixels round the ground-truth mask that count as neither: anti-aliasing mixes the mover's colour into them."""


@dataclass
class Arguments:
    """Train on one set and measure its clean plates."""

    set: tyro.conf.Positional[Path]
    """Folder of the set, with its ground truth."""
    video: tyro.conf.Positional[Path]
    """Folder of links to its frames; its front-end cache is used."""
    run_dir: tyro.conf.Positional[Path]
    """Folder for what training writes. --plain reads the observed pixels that a run without it left there."""
    output: Path
    """JSON file to write."""
    method: Literal["das3r", "das3r-light"] = "das3r-light"
    """Preset to train with."""
    plain: bool = False
    """Train plain splatfacto with the preset's iterations and resolution instead."""


def train(config: TrainerConfig, arguments: Arguments) -> tuple[Pipeline, dict[str, float]]:
    """Train in this process, without a viewer.

    Returns:
        The trained pipeline, and what the iterations alone have used.
    """
    config.pipeline.datamanager.dataparser.data = arguments.video  # pyright: ignore[reportAttributeAccessIssue]
    config.output_dir = arguments.run_dir
    config.experiment_name = "plain" if arguments.plain else "das3r"
    config.timestamp = "run"
    config.vis = "tensorboard"
    config.logging.local_writer.enable = False
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    cost = Cost()
    trainer.train()
    return trainer.pipeline, cost.so_far()


def to_size(picture: Float[np.ndarray, "H W *c"], size: tuple[int, int]) -> Float[np.ndarray, "h w *c"]:
    """The picture at (width, height), areas averaged; untouched where it has that size."""
    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def masks_at(truth: GroundTruth, indices: list[int], size: tuple[int, int]) -> Float[np.ndarray, "N H W"]:
    """Covered share of each pixel in the ground-truth masks."""
    return np.stack([to_size(truth.mask(i).astype(np.float32), size) for i in indices])


def reprojected_observed(
    pipeline: Pipeline, depths: Float[np.ndarray, "N H W"], covered: Float[np.ndarray, "N H W"]
) -> Bool[np.ndarray, "N H W"]:
    """Which pixels' static points some frame sees unmasked, judged by rendered depth."""
    cameras = training_images(pipeline).cameras
    c2w_cv = np.tile(np.eye(4), (len(cameras), 1, 1))
    c2w_cv[:, :3] = cameras.camera_to_worlds.cpu().numpy() * [1.0, -1.0, -1.0, 1.0]
    masked = np.stack([cv2.dilate((c > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0 for c in covered])
    focal = float(cameras.fx[0])
    return np.stack([observed_count(i, masked, depths, c2w_cv, focal) > 0 for i in range(len(depths))])


def score(
    renders: list[Float[np.ndarray, "H W 3"]],
    clean: list[Float[np.ndarray, "H W 3"]],
    covered: Float[np.ndarray, "N H W"],
    observed: Bool[np.ndarray, "N H W"],
) -> dict[str, Any]:
    """PSNR over the hidden and over the static pixels: mean over frames, and of all frames' pixels together."""
    hidden = (covered > 0.5) & observed
    near = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * EDGE + 1, 2 * EDGE + 1))
    static = np.stack([cv2.dilate((c > 0).astype(np.uint8), near) == 0 for c in covered])
    figures: dict[str, Any] = {}
    for name, pixels in (("hidden", hidden), ("static", static)):
        values = [psnr_over(r, c, p) for r, c, p in zip(renders, clean, pixels, strict=True)]
        figures[f"psnr_{name}"] = float(np.nanmean(values))
        # One picture of all pixels in a row.
        figures[f"psnr_{name}_pooled"] = psnr_over(
            np.concatenate(renders), np.concatenate(clean), np.concatenate(list(pixels))
        )
        figures[f"{name}_percent"] = round(100 * float(pixels.mean()), 2)
    never = (covered > 0.5) & ~observed
    figures["never_seen_percent"] = round(100 * float(never.mean()), 2)
    return figures


def main(arguments: Arguments) -> None:
    """Measure and write the result."""
    if arguments.plain:
        from plain_splatfacto import plain_config

        config = plain_config(arguments.method)
    else:
        from das3r_ns.presets import trainer_config

        config = trainer_config(arguments.method)
    whole = Cost()
    pipeline, training = train(config, arguments)
    used = whole.so_far()
    assert isinstance(pipeline.model, SplatfactoModel)

    truth = GroundTruth(arguments.set)
    dataset = training_images(pipeline)
    indices = list(range(len(dataset)))
    if len(indices) != truth.num_frames:
        raise SystemExit(f"{arguments.set} has {truth.num_frames} frames and {len(indices)} were trained on.")
    outputs = [render_training_view(pipeline, i) for i in indices]
    renders = [o["rgb"] for o in outputs]
    size = (renders[0].shape[1], renders[0].shape[0])
    covered = masks_at(truth, indices, size)
    remembered = arguments.run_dir / "observed.npz"
    if truth.has("observed"):
        observed = np.stack([to_size((truth.observed(i) > 0).astype(np.float32), size) > 0.5 for i in indices])
    elif arguments.plain:
        observed = np.load(remembered)["observed"]  # one set of pixels for both
    else:
        observed = reprojected_observed(pipeline, np.stack([o["depth"][..., 0] for o in outputs]), covered)
        np.savez_compressed(remembered, observed=observed)
    write_json(
        arguments.output,
        {
            "method": "plain splatfacto" if arguments.plain else arguments.method,
            "iterations": config.max_num_iterations,
            "size": f"{size[0]}x{size[1]}",
            "gaussians": pipeline.model.num_points,
            "iterations_per_s": round(config.max_num_iterations / training["wall_s"], 2),
            **used,
            **score(renders, [to_size(truth.clean(i), size) for i in indices], covered, observed),
        },
    )


if __name__ == "__main__":
    main(tyro.cli(Arguments))
