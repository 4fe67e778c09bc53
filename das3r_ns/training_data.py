"""What training needs besides images and cameras, derived from a SceneEstimate and kept in its cache folder.

Static weights as 16-bit PNG, static masks as 8-bit PNG and the seed points. Each is stored under a hash of the estimate
and of the settings it depends on, so opening a checkpoint only reads files.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from das3r_ns.errors import Das3rError
from das3r_ns.files import replace_directory
from das3r_ns.frontend import cache
from das3r_ns.frontend.scene import SceneEstimate
from das3r_ns.points import SeedPoints, fused_points, per_pixel_points

MASK_THRESHOLD = 0.5
"""A pixel whose static weight is at least this is static in the binary mask."""
_FORMAT = 1
"""Raised whenever the derived files change for the same input, so that old ones are not read."""


@dataclass(frozen=True)
class SeedSettings:
    """How the seed points are made."""

    seeds: Literal["fused", "paper"]
    """One cloud fused from all frames, or one point per confident pixel of every frame."""
    max_points: int
    """Most points to make."""
    keep_dynamic: bool
    """Whether pixels that move seed points too (``paper`` always does)."""


@dataclass(frozen=True)
class StaticFiles:
    """One file per frame of the video."""

    weights: list[Path]
    """16-bit PNG, 65535 = static."""
    masks: list[Path]
    """8-bit PNG, 255 = static."""


def static_weight(
    dynamic_probability: Float[np.ndarray, "H W"], dilation: int, size: tuple[int, int]
) -> Float[np.ndarray, "h w"]:
    """Static weight W = 1 - dynamic probability, with what moves grown by a few pixels.

    Pixels on the outline of a mover mix its colour with the background (blur, antialiasing, chroma subsampling), so
    they take the highest probability found within ``dilation`` pixels: losing a thin band of background costs nothing,
    for other frames see it, while a mixed pixel bleeds the mover into the scene.

    Args:
        dynamic_probability: 1 = moves, at the working resolution.
        dilation: Radius in pixels of the working resolution; 0 leaves the outline alone.
        size: Width and height of the result.

    Returns:
        Weights in [0, 1], float32.
    """
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * dilation + 1, 2 * dilation + 1))
    moves = cv2.dilate(dynamic_probability.astype(np.float32), kernel)
    if (moves.shape[1], moves.shape[0]) != size:
        moves = cv2.resize(moves, size, interpolation=cv2.INTER_LINEAR)
    return np.clip(1.0 - moves, 0.0, 1.0)


def estimate_fingerprint(estimate: SceneEstimate) -> str:
    """Hash of everything in the estimate that derived files depend on."""
    digest = hashlib.blake2b(digest_size=8)
    for item in fields(estimate):
        value = getattr(estimate, item.name)
        if isinstance(value, np.ndarray):
            digest.update(value.tobytes())
    digest.update(f"{estimate.camera_kind} {_FORMAT}".encode())
    return digest.hexdigest()


def static_files(
    estimate: SceneEstimate, fingerprint: str, cache_dir: Path, dilation: int, size: tuple[int, int]
) -> StaticFiles:
    """Static weight and mask of every frame, written at the first call.

    Args:
        estimate: Whose dynamic probability.
        fingerprint: :func:`estimate_fingerprint` of it.
        cache_dir: Folder to keep them in.
        dilation: See :func:`static_weight`.
        size: Width and height of the training images.

    Raises:
        Das3rError: The folder cannot be written.
    """
    folder = cache_dir / f"static-{_key(fingerprint, dilation, size)}"
    if not folder.is_dir():
        with cache.writing(folder, 3 * size[0] * size[1] * estimate.num_frames) as temporary:
            (temporary / "weights").mkdir()
            (temporary / "masks").mkdir()
            for index, probability in enumerate(estimate.dynamic_probability):
                weight = static_weight(probability, dilation, size)
                mask = np.where(weight >= MASK_THRESHOLD, 255, 0).astype(np.uint8)
                _write_png(temporary / "weights" / f"{index:05d}.png", np.rint(weight * 65535).astype(np.uint16))
                _write_png(temporary / "masks" / f"{index:05d}.png", mask)
            replace_directory(temporary, folder)
    names = [f"{index:05d}.png" for index in range(estimate.num_frames)]
    return StaticFiles(weights=[folder / "weights" / n for n in names], masks=[folder / "masks" / n for n in names])


def seed_points(
    estimate: SceneEstimate,
    fingerprint: str,
    cache_dir: Path,
    image_filenames: Sequence[Path],
    frames: Sequence[int],
    settings: SeedSettings,
) -> SeedPoints:
    """Seed points, computed at the first call and read back afterwards.

    Args:
        estimate: Cameras, depth and dynamic probability.
        fingerprint: :func:`estimate_fingerprint` of it.
        cache_dir: Folder to keep them in.
        image_filenames: Frames at the working resolution, one for each frame of the estimate.
        frames: The frames that train.
        settings: How to make them.

    Raises:
        Das3rError: The folder cannot be written, or (almost) nothing in the video is static.
    """
    path = cache_dir / f"points-{_key(fingerprint, list(frames), vars(settings))}.npz"
    stored = _read_points(path)
    if stored is not None:
        return stored
    images = _read_images(image_filenames)
    if settings.seeds == "paper":
        points = per_pixel_points(estimate, images, frames, settings.max_points)
    else:
        points = fused_points(estimate, images, frames, settings.max_points, settings.keep_dynamic)
    if len(points.xyz) < 100:
        raise Das3rError(
            f"Almost every pixel of the {len(frames)} training frames was taken for something that moves, so there is "
            "no static scene to build. Look at the masks with `das3r masks`, and use a video in which the surroundings "
            "show."
        )
    arrays = {name: value for name, value in vars(points).items() if value is not None}
    with cache.writing(path, sum(value.nbytes for value in arrays.values()) + (1 << 16)) as temporary:
        with (temporary / path.name).open("wb") as file:
            np.savez(file, **arrays)
        (temporary / path.name).replace(path)
    return points


def _read_points(path: Path) -> SeedPoints | None:
    try:
        # The file is opened here: numpy leaves it open where the archive is damaged.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return SeedPoints(**{name: stored[name] for name in stored.files})
    except (OSError, ValueError, TypeError, zipfile.BadZipFile):
        return None  # not there yet, or damaged: made again


def _key(*parts: object) -> str:
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=6).hexdigest()


def _read_images(filenames: Sequence[Path]) -> UInt8[np.ndarray, "N H W 3"]:
    images = []
    for filename in filenames:
        image = cv2.imread(str(filename), cv2.IMREAD_COLOR)
        if image is None:
            raise Das3rError(f"The cached frame {filename} cannot be read. Delete its folder and start again.")
        images.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    return np.stack(images)


def _write_png(path: Path, image: np.ndarray) -> None:
    # imwrite would report a full disk by its return value only, without the reason.
    path.write_bytes(cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes())
