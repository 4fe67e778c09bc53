"""Settings of the front end. Only light imports: every ns-* command loads this module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FrontEndName = Literal["auto", "geometric"]


@dataclass
class FrontEndConfig:
    """How cameras, depth and what moves are found in a video."""

    front_end: FrontEndName = "auto"
    """'geometric' needs no trained weights: optical flow, bundle adjustment, motion evidence. 'auto' takes the best one
    at hand and says which."""
    max_frames: int = 150
    """Most frames to use; a longer video is thinned evenly."""
    long_side: int = 512
    """Longer side, in pixels, at which the front end works (and trains, unless told otherwise); never enlarged."""
