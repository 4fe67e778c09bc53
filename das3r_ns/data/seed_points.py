"""The points that Gaussians start from, computed once and kept beside the SceneEstimate they come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from das3r_ns.data.training_data import settings_key
from das3r_ns.errors import Das3rError
from das3r_ns.files import DAMAGED_ARRAYS
from das3r_ns.scene import cache
from das3r_ns.scene.estimate import SceneEstimate
from das3r_ns.scene.points import SeedPoints, fused_points, per_pixel_points

if TYPE_CHECKING:
    import torch

LEAST_POINTS = 100
"""Fewer are no scene."""


@dataclass(frozen=True)
class SeedSettings:
    """How the seed points are made."""

    seeds: Literal["fused", "paper"]
    """One cloud fused from all frames, or one point per confident pixel of every frame."""
    max_points: int
    """Most points to make."""
    keep_dynamic: bool
    """Whether pixels that move seed points too (``paper`` always does)."""


def seed_points(
    estimate: SceneEstimate,
    fingerprint: str,
    cache_dir: Path,
    image_filenames: Sequence[Path],
    frames: Sequence[int],
    settings: SeedSettings,
    device: Callable[[], torch.device | None] = lambda: None,
) -> SeedPoints:
    """Seed points, computed at the first call and read back afterwards.

    Args:
        estimate: Cameras, depth and dynamic probability.
        fingerprint: :func:`estimate_fingerprint` of it.
        cache_dir: Folder to keep them in.
        image_filenames: Frames at the working resolution, one for each frame of the estimate.
        frames: The frames that train.
        settings: How to make them.
        device: Where to fuse them in torch; None = compiled by numba, on the CPU. Asked only if they are not there yet:
            a run is opened on other machines, too.

    Raises:
        Das3rError: The folder cannot be written, or (almost) nothing in the video is static.
    """
    path = cache_dir / f"points-{settings_key(fingerprint, list(frames), vars(settings))}.npz"
    stored = _read_points(path)
    if stored is not None:
        return stored
    images = np.stack([cache.read_frame(filename) for filename in image_filenames])
    if settings.seeds == "paper":
        points = per_pixel_points(estimate, images, frames, settings.max_points)
    else:
        points = fused_points(estimate, images, frames, settings.max_points, settings.keep_dynamic, device())
    if len(points.xyz) < LEAST_POINTS:
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
    except DAMAGED_ARRAYS:
        return None  # not there yet, or damaged: made again
