"""Settings of the front end. Only light imports: every ns-* command loads this module."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
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
    masks: Literal["predicted", "given", "joined"] = "predicted"
    """What moves: 'predicted' finds it; 'given' takes your masks instead (white = moves); 'joined' takes both together.
    """
    masks_dir: Path | None = None
    """Folder of your masks, named like the frames; if None, the folder masks in or beside that of the frames."""
    known_focal: float | None = None
    """Focal in pixels of the video, where you know it; it is kept."""
    known_poses: Path | None = None
    """Cameras where you have them: a transforms.json or the folder of a COLMAP model. They are kept, and only depth and
    what moves are found."""
    refine_masks: Literal["none", "sam2"] = "none"
    """'sam2' sharpens what was found to move with SAM 2 (das3r-ns[sam2]); left out where it is not to be had."""
    sam2_model: str | None = None
    """Folder or hub name of its weights, downloaded if need be; if None, facebook/sam2.1-hiera-small where it is in the
    hub cache."""
