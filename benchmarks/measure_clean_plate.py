"""``das3r clean-plate`` of a trained run, compared with the set's clean plates.

``python benchmarks/measure_clean_plate.py SET --load-config CONFIG --output-dir PLATES --output OUTPUT.json``

At the size of the video. ``hidden`` are the pixels under the ground-truth mask whose background some frame sees (told
in das3r_ns/evaluation/observed.py), ``static`` those at least EDGE pixels away from it. Static pixels are compared with
the frame, which the plate shall repeat there, and with the set's clean plate, which has no shadows of movers either.
``render`` is the rendered scene alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tyro
from jaxtyping import Float

from das3r_ns.cleanplate.write import HOLE, MARKER, PlateSettings, write_clean_plates
from das3r_ns.evaluation.cost import Cost
from das3r_ns.evaluation.ground_truth import GroundTruth
from das3r_ns.evaluation.machine import describe_machine
from das3r_ns.evaluation.metrics import psnr_over
from das3r_ns.evaluation.observed import with_observed
from das3r_ns.evaluation.plates import EDGE
from das3r_ns.files import write_json
from das3r_ns.trained.scene import TrainedScene


@dataclass
class Arguments:
    """Write the clean plates of a run and measure them."""

    set: tyro.conf.Positional[Path]
    """Folder of the set, with its ground truth."""
    load_config: Path
    """The config.yml of a run on its frames."""
    output_dir: Path
    """Folder for the clean plates."""
    output: Path
    """JSON file to write."""
    clean_scenes: Path = Path("clean-scenes")
    """Folder for scenes of clean plates, which sets without `observed` pictures need; made once per set."""


def read(path: Path) -> Float[np.ndarray, "H W 3"]:
    """A picture, RGB, 0 to 1."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise SystemExit(f"{path} cannot be read.")
    return picture[..., ::-1].astype(np.float32) / 255


def main(arguments: Arguments) -> None:
    """Measure and write the result."""
    given = GroundTruth(arguments.set)
    truth = with_observed(given, arguments.clean_scenes / arguments.set.resolve().name)
    scene = TrainedScene.open(arguments.load_config)
    cost = Cost()
    write_clean_plates(scene, arguments.output_dir, PlateSettings())
    used = cost.so_far()
    near = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * EDGE + 1, 2 * EDGE + 1))
    values: dict[str, list[float]] = {}
    never, marked, both = 0, 0, 0
    for i in range(scene.num_frames):
        name = f"{i:05d}.png"
        plate, render = read(arguments.output_dir / "frames" / name), read(arguments.output_dir / "render" / name)
        sources = cv2.imread(str(arguments.output_dir / "sources" / name), cv2.IMREAD_GRAYSCALE)
        mask = truth.mask(i)
        seen = truth.observed(i) > 0
        hidden, unseen = mask & seen, mask & ~seen
        static = cv2.dilate(mask.astype(np.uint8), near) == 0
        clean, frame = truth.clean(i), read(truth.frame_paths[i])
        figures = {
            "psnr_hidden": psnr_over(plate, clean, hidden),
            "psnr_static_to_frame": psnr_over(plate, frame, static),
            "psnr_static_to_clean": psnr_over(plate, clean, static),
            "psnr_hidden_render": psnr_over(render, clean, hidden),
            "psnr_static_render": psnr_over(render, clean, static),
        }
        for key, value in figures.items():
            values.setdefault(key, []).append(value)
        never, marked = never + int(unseen.sum()), marked + int((sources == HOLE).sum())
        both += int((unseen & (sources == HOLE)).sum())
    pixels = scene.num_frames * truth.size[0] * truth.size[1]
    result: dict[str, Any] = {
        "machine": describe_machine(),
        "set": arguments.set.name,
        "observed_from": "the set" if given.has("observed") else "the clean plates",
        "size": f"{truth.size[0]}x{truth.size[1]}",
        "frames": scene.num_frames,
        **used,
        **{key: round(float(np.nanmean(of_frames)), 2) for key, of_frames in values.items()},
        "never_seen_percent": round(100 * never / pixels, 3),
        "holes_percent": round(100 * marked / pixels, 3),
        "holes_truly_never_seen_percent": round(100 * both / max(marked, 1), 1),
        "percent_from": json.loads((arguments.output_dir / MARKER).read_text())["percent"],
    }
    write_json(arguments.output, result)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
