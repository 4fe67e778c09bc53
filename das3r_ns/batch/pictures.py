"""The pictures of a video in a batch's page: its middle frame as it is, with its mask, and without what moves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import UInt8
from rich.console import Console

from das3r_ns.pictures import read_picture
from das3r_ns.progress import Progress

if TYPE_CHECKING:
    from das3r_ns.batch.steps import Step

WIDTH = 480
"""Of a picture, pixels."""
QUALITY = 80
BEFORE, MASK, AFTER = "before.jpg", "mask.jpg", "after.jpg"
TINT = np.array([40, 40, 230], np.float32)
"""Colour of what moves, BGR."""
STRENGTH = 0.55


def draw_pictures(step: Step) -> None:
    """Write the pictures that the result of a step gives into the folder of its record; none where it gives none."""
    pictures = step.record.parent
    if step.name == "masks" and (step.target / "das3r.json").is_file():
        names = json.loads((step.target / "das3r.json").read_text(encoding="utf-8"))["frame_names"]
        frame = _frame(step, names[len(names) // 2])
        mask = read_picture(step.target / "masks" / f"{len(names) // 2:05d}.png", cv2.IMREAD_GRAYSCALE)
        if frame is None or mask is None:
            return
        _write(pictures / BEFORE, frame)
        tinted = np.where(mask[..., None] > 0, frame * (1 - STRENGTH) + TINT * STRENGTH, frame)
        _write(pictures / MASK, tinted.astype(np.uint8))
    if step.name == "clean-plate" and (step.target / "clean-plate.json").is_file():
        names = json.loads((step.target / "clean-plate.json").read_text(encoding="utf-8"))["frame_names"]
        plate = read_picture(step.target / "frames" / f"{len(names) // 2:05d}.png")
        # Not always that of the masks: the plates repeat what the video does.
        frame = _frame(step, names[len(names) // 2])
        if plate is not None and frame is not None:
            _write(pictures / BEFORE, frame)
            _write(pictures / AFTER, plate)


def _frame(step: Step, name: str) -> UInt8[np.ndarray, "H W 3"] | None:
    """A frame of the video by its name, BGR."""
    from das3r_ns.frontend.frames import find_frames

    clip = find_frames(step.data, step.front_end, Progress(Console(quiet=True)))
    image = next(clip.without(set(clip.names) - {name}).original_images(), None)
    return None if image is None else np.ascontiguousarray(image[..., ::-1])


def _write(path: Path, picture: UInt8[np.ndarray, "H W 3"]) -> None:
    size = (WIDTH, round(WIDTH * picture.shape[0] / picture.shape[1]))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    path.write_bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())
