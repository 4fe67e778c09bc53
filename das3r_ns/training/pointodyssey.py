"""Masks for a scene of PointOdyssey (Zheng et al., ICCV 2023), which has depth and trajectories of points instead.

As DAS3R made its training data (arXiv 2412.19584; its author in issue 12 of that repository): a point moves if its
place in the world changes over the clip, and a pixel moves if the point nearest to what it shows does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import KDTree

from das3r_ns.errors import Das3rError
from das3r_ns.files import DAMAGED_ARRAYS
from das3r_ns.pictures import read_picture, write_png
from das3r_ns.scene.geometry import invert_rigid, pixel_centres, transform_points, unproject
from das3r_ns.video.image_folder import images_in
from das3r_ns.workers import workers

PICTURES, DEPTHS, POINTS = "rgbs", "depths", "anno.npz"
METRES = 1000.0 / 65535.0
"""Of one step of a depth picture; the highest is without end."""
MOVES = 0.01
"""Metres between two places of a point from which on it moves."""
EVERY = 2
"""Pixels between those that are looked up; the rest go with their neighbour."""
BLOCK = 4096
"""Points that are looked at together."""


def is_scene(folder: Path) -> bool:
    """Whether a folder looks like a scene of PointOdyssey."""
    return (folder / PICTURES).is_dir() and (folder / POINTS).is_file()


def check_scene(folder: Path, least: int) -> None:
    """Make sure that a scene is complete, without reading much of it.

    Args:
        folder: The scene.
        least: Frames that it must have.

    Raises:
        Das3rError: Frames, depth or points are missing.
    """
    pictures, depths = (len(images_in(folder / part)) if (folder / part).is_dir() else 0 for part in (PICTURES, DEPTHS))
    if not pictures or pictures != depths:
        raise Das3rError(
            f"{folder} looks like a scene of PointOdyssey, but has {pictures} pictures ({PICTURES}/) and {depths} of "
            f"their depth ({DEPTHS}/), from which its masks are made. Unpack it anew, or take it out."
        )
    if pictures < least:
        raise Das3rError(f"{folder} has {pictures} frames, and groups have {least} (--group-size). Take it out.")
    with _opened(folder) as points:
        missing = [name for name in ("trajs_3d", "intrinsics", "extrinsics") if name not in points]
    if missing:
        raise Das3rError(
            f"{folder / POINTS} has no {', '.join(missing)}: the masks are made of how points move in space. Get the "
            "scene anew, or take it out."
        )


def write_masks(
    folder: Path, target: Path, numbers: Sequence[int], on_frame: Callable[[], None] = lambda: None
) -> list[Path]:
    """Write the masks of some frames; those that are there already stay.

    Args:
        folder: The scene.
        target: Folder for the masks.
        numbers: Of the frames, in the order of their names.
        on_frame: Called after each.

    Returns:
        Their files.

    Raises:
        Das3rError: The scene cannot be read.
    """
    pictures, depths = images_in(folder / PICTURES), images_in(folder / DEPTHS)
    files = [target / f"{pictures[number].stem}.png" for number in numbers]
    if all(file.is_file() for file in files):
        return files
    with _opened(folder) as points:
        places, valid = points["trajs_3d"], points.get("valids")
        intrinsics, extrinsics = points["intrinsics"], points["extrinsics"]
    if not len(places) == len(intrinsics) == len(extrinsics) == len(pictures):
        raise Das3rError(
            f"{folder} has {len(pictures)} pictures, but {POINTS} speaks of {len(places)} frames. Get the scene anew, "
            "or take it out."
        )
    finite = np.isfinite(places).all(axis=-1)
    valid = finite if valid is None else finite & (valid > 0)
    moves = moving_points(places, valid)
    target.mkdir(parents=True, exist_ok=True)

    def make(item: tuple[int, Path]) -> None:
        number, file = item
        depth = read_picture(depths[number], cv2.IMREAD_UNCHANGED)
        if depth is None or depth.dtype != np.uint16 or depth.ndim != 2:
            raise Das3rError(f"{depths[number]} is no depth of PointOdyssey (grey, 16 bits). Get it anew.")
        there = valid[number]
        mask = pixel_masks(depth, intrinsics[number], extrinsics[number], places[number][there], moves[there])
        temporary = file.with_suffix(".tmp")
        write_png(temporary, mask.astype(np.uint8) * 255)
        temporary.replace(file)
        on_frame()

    with ThreadPoolExecutor(workers()) as pool:
        list(pool.map(make, zip(numbers, files, strict=True)))
    return files


def moving_points(places: Float[np.ndarray, "T P 3"], valid: Bool[np.ndarray, "T P"]) -> Bool[np.ndarray, " P"]:
    """Which points are further than :data:`MOVES` from where they were, at some time.

    Args:
        places: Of each point at each time, metres.
        valid: Where that is known.
    """
    out = np.zeros(places.shape[1], bool)
    for start in range(0, len(out), BLOCK):
        part = slice(start, start + BLOCK)
        known = valid[:, part, None]
        low = np.where(known, places[:, part], np.inf).min(axis=0)
        high = np.where(known, places[:, part], -np.inf).max(axis=0)
        out[part] = (high - low).max(axis=-1) > MOVES
    return out


def pixel_masks(
    depth: np.ndarray,
    intrinsics: Float[np.ndarray, "3 3"],
    w2c_cv: Float[np.ndarray, "4 4"],
    places: Float[np.ndarray, "P 3"],
    moves: Bool[np.ndarray, " P"],
) -> Bool[np.ndarray, "H W"]:
    """Which pixels of a frame show what moves: those whose nearest point does.

    Args:
        depth: Picture of the depth, [H, W] uint16.
        intrinsics: Pinhole, pixels.
        w2c_cv: World to camera, OpenCV axes.
        places: Where the points are in the world, metres.
        moves: Which of them move.
    """
    height, width = depth.shape
    if not len(places) or not moves.any():
        return np.zeros((height, width), bool)
    sampled = depth[::EVERY, ::EVERY]
    seen = (sampled > 0) & (sampled < np.iinfo(np.uint16).max)
    pixels = pixel_centres(height, width)[::EVERY, ::EVERY][seen]
    local = unproject(pixels, sampled[seen].astype(np.float64) * METRES, intrinsics)
    world = transform_points(invert_rigid(w2c_cv.astype(np.float64)), local)
    out = np.zeros(sampled.shape, np.uint8)
    out[seen] = moves[KDTree(places).query(world)[1]]
    return cv2.resize(out, (width, height), interpolation=cv2.INTER_NEAREST) > 0


class _opened:
    """The arrays of a scene's points; what cannot be read becomes a :class:`Das3rError`."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / POINTS

    def __enter__(self) -> Any:
        try:
            self.archive = np.load(self.file)
        except DAMAGED_ARRAYS as error:
            raise self._unreadable(error) from error
        return self.archive

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.archive.close()
        if isinstance(error, DAMAGED_ARRAYS):
            raise self._unreadable(error) from error

    def _unreadable(self, error: BaseException) -> Das3rError:
        return Das3rError(f"{self.file} cannot be read ({error}). Get the scene anew, or take it out.")
