"""Writes the demo video and its ground truth to disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from das3r_ns.demo.room import Movers, build_room, camera_path
from das3r_ns.demo.world import SUPERSAMPLING, Box, Ellipsoid, Rays, cast_boxes, cast_ellipsoids
from das3r_ns.errors import Das3rError
from das3r_ns.files import check_output_directory, replace_directory, temporary_directory
from das3r_ns.pictures import write_png
from das3r_ns.scene.observed import grown, observed_count
from das3r_ns.workers import workers

MARKER = "demo.json"
FORMAT = 2
"""Raised whenever the picture changes, so that older demo folders are drawn again."""

NOTES = """# A demo video with exact ground truth
Drawn by `das3r demo`: a room, a hand-held camera, two walkers and a ball. They cast no shadow, so outside their
anti-aliased outline `frames/` and `clean/` are equal. No motion blur, no noise, no lens distortion.
- `frames/00000.png` the video; `clean/00000.png` the same cameras without what moves.
- `masks/00000.png` 255 = the first hit at the pixel's centre is a mover.
- `depth/00000.npz`, `clean_depth/00000.npz` key `depth`, float16, camera z in metres at the pixel's centre.
- `observed/00000.png` how many frames see that static point unmasked (masks grown by one pixel); 0 = none ever did.
- `poses.txt` a line a frame, 12 numbers: row-major 3x4 camera-to-world, OpenCV axes (x right, y down, z forward).
- `intrinsics.json` pinhole, pixels; the first pixel's centre is at (0.5, 0.5).
"""


class Moving(Protocol):
    """What moves through the world."""

    def at(self, time: float) -> list[Ellipsoid]:
        """Every part of every mover, ``time`` running from 0 to 1 over the video."""
        ...


@dataclass
class DemoFrame:
    """One frame and its ground truth (H x W)."""

    image: UInt8[np.ndarray, "H W 3"]
    clean: UInt8[np.ndarray, "H W 3"]
    mask: Bool[np.ndarray, "H W"]
    depth: Float[np.ndarray, "H W"]
    clean_depth: Float[np.ndarray, "H W"]


def write_demo(
    directory: Path,
    num_frames: int = 36,
    width: int = 320,
    height: int = 180,
    moving: bool = True,
    on_frame: Callable[[], None] = lambda: None,
) -> Path:
    """Write the demo video with exact ground truth; nothing happens where the same one is there already.

    Args:
        directory: Where to; a folder that holds anything but a demo is left alone.
        num_frames: Length of the video. The same walk is cut into that many frames.
        width: Of the picture, pixels.
        height: Of the picture, pixels.
        moving: Whether anything moves; False gives a fully static video with empty masks.
        on_frame: Called after each finished frame, for progress bars.

    Returns:
        ``directory``.

    Raises:
        Das3rError: ``directory`` holds something else, or cannot be written.
    """
    directory = Path(directory).resolve()
    settings = {"format": FORMAT, "num_frames": num_frames, "width": width, "height": height, "moving": moving}
    check_output_directory(directory, MARKER)
    if _read_json(directory / MARKER) == settings:
        return directory
    try:
        with temporary_directory(directory) as temporary:
            _write_all(temporary, settings, on_frame)
            replace_directory(temporary, directory)
    except OSError as error:
        raise Das3rError(f"The demo video cannot be written to {directory}: {error}.") from error
    return directory


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _write_all(directory: Path, settings: dict[str, int], on_frame: Callable[[], None]) -> None:
    width, height = settings["width"], settings["height"]
    poses = camera_path(settings["num_frames"])
    focal = 0.9 * width
    boxes, movers = build_room(), Movers() if settings["moving"] else None
    for folder in ("frames", "clean", "masks", "observed", "depth", "clean_depth"):
        (directory / folder).mkdir()

    def render(number: int) -> tuple[Bool[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
        time = number / max(len(poses) - 1, 1)
        frame = render_frame(boxes, movers, time, poses[number], focal, width, height)
        write_picture(directory / f"frames/{number:05d}.png", frame.image)
        write_picture(directory / f"clean/{number:05d}.png", frame.clean)
        write_picture(directory / f"masks/{number:05d}.png", frame.mask.astype(np.uint8) * 255)
        for folder, depth in (("depth", frame.depth), ("clean_depth", frame.clean_depth)):
            np.savez_compressed(directory / f"{folder}/{number:05d}.npz", depth=depth.astype(np.float16))
        on_frame()
        return frame.mask, frame.clean_depth

    with ThreadPoolExecutor(max_workers=workers()) as pool:
        rendered = list(pool.map(render, range(len(poses))))
        masked = grown(np.stack([mask for mask, _ in rendered]))
        depths = np.stack([depth for _, depth in rendered])
        counts = pool.map(lambda i: observed_count(i, masked, depths, poses, focal), range(len(poses)))
        for number, count in enumerate(counts):
            write_picture(directory / f"observed/{number:05d}.png", count)
    write_cameras(directory, poses, focal, width, height)
    (directory / "README.md").write_text(NOTES)
    (directory / MARKER).write_text(json.dumps(settings) + "\n")


def render_frame(
    boxes: list[Box],
    movers: Moving | None,
    time: float,
    c2w_cv: Float[np.ndarray, "4 4"],
    focal: float,
    width: int,
    height: int,
    standing: Sequence[Ellipsoid] = (),
) -> DemoFrame:
    """Draw one frame, with and without what moves; what is ``standing`` belongs to the static world."""
    rays = Rays.of_camera(c2w_cv, focal, width, height)
    depth, colour = cast_boxes(boxes, rays)
    cast_ellipsoids(standing, rays, depth, colour)
    clean, clean_depth = _develop(colour), _centres(depth)
    if movers is None:
        return DemoFrame(clean, clean, np.zeros((height, width), bool), clean_depth, clean_depth)
    hit = cast_ellipsoids(movers.at(time), rays, depth, colour)
    return DemoFrame(_develop(colour), clean, _centres(hit), _centres(depth), clean_depth)


def _centres(samples: np.ndarray) -> np.ndarray:
    """The sample at each pixel's centre."""
    return samples[SUPERSAMPLING // 2 :: SUPERSAMPLING, SUPERSAMPLING // 2 :: SUPERSAMPLING].copy()


def _develop(colour: Float[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """Average the samples of each pixel in linear light, then encode with gamma 2.2."""
    size = (colour.shape[1] // SUPERSAMPLING, colour.shape[0] // SUPERSAMPLING)
    pixels = cv2.resize(colour, size, interpolation=cv2.INTER_AREA)
    return (np.clip(pixels, 0, 1) ** (1 / 2.2) * 255 + 0.5).astype(np.uint8)


def write_cameras(directory: Path, poses: Float[np.ndarray, "N 4 4"], focal: float, width: int, height: int) -> None:
    """Write poses.txt and intrinsics.json as :data:`NOTES` has them; raises an OSError where that fails."""
    lines = (" ".join(f"{value:.9e}" for value in pose[:3].ravel()) for pose in poses)
    (directory / "poses.txt").write_text("\n".join(lines) + "\n")
    intrinsics = {"width": width, "height": height, "fx": focal, "fy": focal, "cx": width / 2, "cy": height / 2}
    (directory / "intrinsics.json").write_text(
        json.dumps({**intrinsics, "pixel_center": 0.5, "model": "PINHOLE"}, indent=1) + "\n"
    )


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a picture, RGB or grey of 8 bits; raises an OSError where that fails."""
    write_png(path, picture[..., ::-1] if picture.ndim == 3 else picture)
