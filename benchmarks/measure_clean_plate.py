"""``das3r clean-plate`` of a trained run, compared with the set's clean plates.

``python benchmarks/measure_clean_plate.py SET --load-config CONFIG --output-dir PLATES --output OUTPUT.json``

At the size of the video. ``hidden`` are the pixels under the ground-truth mask whose background some frame sees (the
set's ``observed`` pictures; where it has none, by reprojecting the rendered depth into the other frames, with the
ground-truth masks), ``static`` those at least EDGE pixels away from it. Static pixels are compared with the frame,
which the plate shall repeat there, and with the set's clean plate, which has no shadows of movers either. ``render`` is
the rendered scene alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tyro
from jaxtyping import Bool, Float

from das3r_ns.cleanplate.holes import ever_seen
from das3r_ns.cleanplate.write import HOLE, MARKER, PlateSettings, write_clean_plates
from das3r_ns.evaluation.cost import Cost
from das3r_ns.evaluation.ground_truth import GroundTruth
from das3r_ns.evaluation.machine import describe_machine
from das3r_ns.evaluation.metrics import psnr_over
from das3r_ns.evaluation.plates import EDGE
from das3r_ns.evaluation.trained_scene import TrainedScene
from das3r_ns.files import write_json


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


def read(path: Path) -> Float[np.ndarray, "H W 3"]:
    """A picture, RGB, 0 to 1."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise SystemExit(f"{path} cannot be read.")
    return picture[..., ::-1].astype(np.float32) / 255


def seen_pixels(scene: TrainedScene, truth: GroundTruth) -> list[Bool[np.ndarray, "H W"]]:
    """For every frame, which pixels under the ground-truth mask show a point that some frame sees."""
    count = scene.num_frames
    if truth.has("observed"):
        return [truth.observed(i) > 0 for i in range(count)]
    size = scene.working_size
    masks = [cv2.resize(truth.mask(i).astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0 for i in range(count)]
    shown = ~np.stack([cv2.dilate(m.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0 for m in masks])
    depth = np.stack([scene.render(i, size)["depth"][..., 0] for i in range(count)])
    k, c2w_cv = scene.intrinsics(size), scene.c2w_cv()
    seen = [ever_seen(i, mask, shown, depth, k, c2w_cv) for i, mask in enumerate(masks)]
    return [cv2.resize(s.astype(np.uint8), truth.size, interpolation=cv2.INTER_NEAREST) > 0 for s in seen]


def main(arguments: Arguments) -> None:
    """Measure and write the result."""
    truth = GroundTruth(arguments.set)
    scene = TrainedScene.open(arguments.load_config)
    cost = Cost()
    write_clean_plates(scene, arguments.output_dir, PlateSettings())
    used = cost.so_far()
    seen = seen_pixels(scene, truth)
    near = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * EDGE + 1, 2 * EDGE + 1))
    values: dict[str, list[float]] = {}
    never, marked, both = 0, 0, 0
    for i in range(scene.num_frames):
        name = f"{i:05d}.png"
        plate, render = read(arguments.output_dir / "frames" / name), read(arguments.output_dir / "render" / name)
        sources = cv2.imread(str(arguments.output_dir / "sources" / name), cv2.IMREAD_GRAYSCALE)
        mask = truth.mask(i)
        hidden, unseen = mask & seen[i], mask & ~seen[i]
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
        "observed_from": "the set" if truth.has("observed") else "rendered depth",
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
