"""The page beside the clean plates: some frames before and after, to be compared by moving a border."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from das3r_ns.slider import page, slider
from das3r_ns.video.clip import spread

PAGE = "before-after.html"
SHOWN = 6
"""Frames in the page."""


def frames_shown(count: int) -> list[int]:
    """Which frames of a video the page has: evenly spread."""
    return spread(count, SHOWN)


def write_page(
    path: Path, title: str, shown: Iterable[tuple[str, UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W 3"]]]
) -> None:
    """Write the page; it needs no other file and no network.

    Args:
        path: The file.
        title: Of the video.
        shown: Name, frame and clean plate of each frame in it, RGB.
    """
    figures = [slider(frame, plate, name, "frame and clean plate") for name, frame, plate in shown]
    note = "Left of the border the frame, right of it the clean plate. Move it by mouse, finger or arrow keys."
    # Names of frames need not be UTF-8.
    path.write_text(page(f"{title}: before and after", note, figures), encoding="utf-8", errors="replace")
