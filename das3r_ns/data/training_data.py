"""What training needs besides images and cameras, derived from a SceneEstimate and kept in its cache folder.

Static weights as 16-bit PNG and static masks as 8-bit PNG here, the seed points in :mod:`das3r_ns.data.seed_points`.
Each is stored under a hash of the estimate and of the settings it depends on, so opening a checkpoint only reads files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from das3r_ns.files import replace_directory
from das3r_ns.pictures import write_png
from das3r_ns.scene import cache
from das3r_ns.scene.estimate import SceneEstimate
from das3r_ns.scene.static_weight import MASK_THRESHOLD, static_weight
from das3r_ns.workers import workers

_FORMAT = 2
"""Raised whenever the derived files change for the same input, so that old ones are not read."""


@dataclass(frozen=True)
class StaticFiles:
    """One file per frame of the video."""

    weights: list[Path]
    """16-bit PNG, 65535 = static."""
    masks: list[Path]
    """8-bit PNG, 255 = static."""


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
    estimate: SceneEstimate,
    fingerprint: str,
    cache_dir: Path,
    dilation: int,
    size: tuple[int, int],
    image_filenames: Sequence[Path],
) -> StaticFiles:
    """Static weight and mask of every frame, written at the first call.

    Args:
        estimate: Whose dynamic probability, and what is fixed to the camera.
        fingerprint: :func:`estimate_fingerprint` of it.
        cache_dir: Folder to keep them in.
        dilation: See :func:`static_weight`.
        size: Width and height of the training images.
        image_filenames: These images, one for each frame of the estimate; their edges are followed where they are
            larger than the estimate.

    Raises:
        Das3rError: The folder cannot be written.
    """
    enlarged = size[0] > estimate.width
    folder = cache_dir / f"static-{settings_key(fingerprint, dilation, size, *(['along edges'] if enlarged else []))}"
    if not folder.is_dir():
        with cache.writing(folder, 3 * size[0] * size[1] * estimate.num_frames) as temporary:
            (temporary / "weights").mkdir()
            (temporary / "masks").mkdir()

            def write(index: int) -> None:
                picture = cache.read_frame(image_filenames[index]) if enlarged else None
                weight = static_weight(estimate.not_static[index], dilation, size, picture)
                mask = np.where(weight >= MASK_THRESHOLD, 255, 0).astype(np.uint8)
                write_png(temporary / "weights" / f"{index:05d}.png", np.rint(weight * 65535).astype(np.uint16))
                write_png(temporary / "masks" / f"{index:05d}.png", mask)

            with ThreadPoolExecutor(workers(64 * size[0] * size[1])) as pool:
                list(pool.map(write, range(estimate.num_frames)))
            replace_directory(temporary, folder)
    names = [f"{index:05d}.png" for index in range(estimate.num_frames)]
    return StaticFiles(weights=[folder / "weights" / n for n in names], masks=[folder / "masks" / n for n in names])


def settings_key(*parts: object) -> str:
    """Short hash of what a derived file depends on, for its name."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=6).hexdigest()
