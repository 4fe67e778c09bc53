"""From the cameras of a rolling shutter to level pictures, as a global shutter would have taken them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from das3r_ns.frontend.geometric.bundle.result import BundleResult
from das3r_ns.frontend.geometric.bundle.rolling import row_motion
from das3r_ns.frontend.known.knowledge import Known
from das3r_ns.scene.estimate import SceneEstimate
from das3r_ns.scene.shutter import Shutter

BLURRED = 1.0
"""Pixels of bend left in what is near from which that is said."""

CLOSE = 2.0
"""Frame times between frames that are used from which no rolling shutter is looked for: those far apart do not show how
the camera moved while one was read."""


def close_in_time(known: Known) -> bool:
    """Whether the frames follow each other closely enough to look for a rolling shutter."""
    return known.times is None or float(np.median(np.diff(known.times))) < CLOSE


def shutter_of(rolled: BundleResult, times: Float[np.ndarray, " N"] | None) -> Shutter:
    """The shutter by the cameras that were found with it.

    Args:
        rolled: Its read-out is known.
        times: When each frame was taken, in frame times of the video; None = one after the other.
    """
    assert rolled.readout is not None
    motion = row_motion(rolled.c2w_cv, np.arange(float(len(rolled.c2w_cv))) if times is None else times)
    if rolled.swing is not None:
        motion[:, 0, 3:] += rolled.swing
    # In depths of the middle of what each frame shows: see scene/shutter.py.
    motion[..., :3] *= np.median(rolled.inverse_depth, axis=(1, 2))[:, None, None]
    matrix = rolled.frame_intrinsics[0]
    view = (rolled.width / (2 * matrix[0, 0]), rolled.height / (2 * matrix[1, 1]))
    return Shutter(rolled.readout, view, motion)


def near_bend(shutter: Shutter, scene: SceneEstimate) -> float:
    """Pixels of the bend that near things keep in level pictures, which are made for the middle of what a frame shows.

    Of the nearest twentieth of the picture at its upper or lower edge, in the frames where it is largest.

    Args:
        shutter: What the pictures were made level by.
        scene: What was found in them.
    """
    near, middle = np.quantile(scene.depth.reshape(scene.num_frames, -1), [0.05, 0.5], axis=1)
    moved = np.linalg.norm(shutter.motion[:, 0, :3], axis=1) * abs(shutter.readout) / 2
    return float(np.quantile(moved * (middle / near - 1.0) * scene.intrinsics[:, 0, 0], 0.9))


def near_message(pixels: float) -> str:
    """What is said of it."""
    return (
        "The camera moves while a frame is read, and level pictures are exact at one depth: the nearest things keep up "
        f"to {pixels:.1f} pixels of the bend at the upper and lower edge."
    )


def known_of_level(known: Known, shutter: Shutter) -> Known:
    """What is known of the level pictures; what is fixed to the camera is no more at one place, and grows a little."""
    fixed, masks = known.fixed, known.masks
    if fixed is not None:
        every = np.repeat(fixed[None].astype(np.float32), len(shutter.motion), axis=0)
        fixed = (shutter.level_pictures(every) >= 0.5).any(axis=0)
    masks = None if masks is None else shutter.level_pictures(masks)
    return replace(known, masks=masks, fixed=fixed, readout=0.0)
