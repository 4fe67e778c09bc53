"""A video as named frames, upright and in time order, whether it is a folder of images or a film."""

from __future__ import annotations

import sys
from pathlib import Path

from das3r_ns.errors import Das3rError
from das3r_ns.video.clip import MIN_SIDE, Clip
from das3r_ns.video.image_folder import ImageFolder
from das3r_ns.video.selection import MIN_FRAMES
from das3r_ns.video.video_file import VideoFile

__all__ = ["open_clip"]

EVERY_FRAME = sys.maxsize
"""A budget that no video exceeds."""


def open_clip(data: Path, max_frames: int = 150) -> Clip:
    """Find the frames of a video.

    Args:
        data: Folder of images (or a folder whose ``frames`` or ``images`` holds them), or a video file.
        max_frames: Frame budget; 0 = all frames.

    Raises:
        Das3rError: There is no video with at least two frames there.
    """
    max_frames = max_frames or EVERY_FRAME
    if max_frames < MIN_FRAMES:
        raise Das3rError(
            f"A budget of {max_frames} frames is too small: at least {MIN_FRAMES} are needed (--max-frames; "
            "0 takes all)."
        )
    if not data.exists():
        raise Das3rError(
            f"{data} does not exist. Name a folder of frames (jpg, png or webp) or a video file. Relative paths start "
            f"at {Path.cwd()}."
        )
    if not data.is_dir() and not data.is_file():
        raise Das3rError(
            f"{data} is neither a file nor a folder but a pipe or a device, which cannot be read twice. Store the "
            "video in a file first."
        )
    clip = ImageFolder(data, max_frames) if data.is_dir() else VideoFile(data, max_frames)
    if clip.num_source_frames < MIN_FRAMES:
        raise Das3rError(
            f"{clip.path} holds a single frame. Depth and motion show only between frames: at least {MIN_FRAMES} are "
            "needed, and some twenty for a good scene."
        )
    if min(clip.size) < MIN_SIDE:
        width, height = clip.size
        raise Das3rError(
            f"The frames of {clip.path} are {width} x {height} pixels, too small to see anything move: at least "
            f"{MIN_SIDE} pixels a side are needed."
        )
    return clip
