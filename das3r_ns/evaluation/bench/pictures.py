"""The pictures of a report: small JPEG files beside the records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import UInt8

from das3r_ns.video.image_folder import read_image

if TYPE_CHECKING:
    from das3r_ns.evaluation.bench.job import Job

WIDTH = 360
"""Width of a picture in the report, pixels."""
QUALITY = 85
SHOWN = 3
"""Frames of every sequence that the report shows."""


def shown_frames(frames: list[int]) -> list[int]:
    """SHOWN of these frames at most, from early to late."""
    return [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, SHOWN + 2).round().astype(int)[1:-1])]


def read_rgb(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """A frame."""
    return read_image(path)


def save_picture(job: Job, index: int, pictures: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Write pictures of one frame.

    Args:
        job: Whose output folder.
        index: Of the frame.
        pictures: Title -> RGB or grey picture (H x W x 3 or 1), 8 bit or in [0, 1].

    Returns:
        Title -> file, relative to the output folder.
    """
    written: dict[str, str] = {}
    for number, (title, picture) in enumerate(pictures.items()):
        if picture.dtype != np.uint8:
            picture = np.rint(picture.clip(0, 1) * 255).astype(np.uint8)
        picture = np.broadcast_to(picture, (*picture.shape[:2], 3))
        size = (WIDTH, round(WIDTH * picture.shape[0] / picture.shape[1]))
        small = cv2.resize(np.ascontiguousarray(picture[..., ::-1]), size, interpolation=cv2.INTER_AREA)
        path = job.file("pictures", f"-{index:05d}-{number}.jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())
        written[title] = str(path.relative_to(job.config.output_dir))
    return written
