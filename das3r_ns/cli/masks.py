"""``das3r masks``: the front end alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from das3r_ns.frontend.config import FrontEndConfig


@dataclass
class MasksCommand:
    """Find what moves in a video, its cameras and its depth, and write them as pictures and text.

    Writes masks/ (255 = moves), soft/ (16-bit probability), depth/ (pictures), overlay.mp4, poses.txt (camera-to-world,
    OpenCV axes), intrinsics.json and points.ply. What was computed before is read from the cache.
    """

    data: Path
    """Folder of frames (jpg, png, webp) or video file."""
    output_dir: Path
    """Folder to write; earlier masks in it are replaced."""
    front_end: Annotated[FrontEndConfig, tyro.conf.arg(name="")] = field(default_factory=FrontEndConfig)
    """How cameras, depth and what moves are found."""

    def run(self) -> None:
        """Run the front end or read its cache, then write everything."""
        from das3r_ns.files import check_output_directory
        from das3r_ns.frontend.export import MARKER, export_masks
        from das3r_ns.frontend.run import load_or_estimate
        from das3r_ns.progress import Progress

        check_output_directory(self.output_dir, MARKER)
        progress = Progress()
        scene = load_or_estimate(self.data, self.front_end, progress)
        export_masks(scene, self.output_dir, progress)
        progress.say(f"{self.output_dir} holds the masks (masks/, soft/, overlay.mp4), depth, cameras and points.")
