"""``das3r masks``: the front end alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from das3r_ns.frontend.config import FrontEndConfig


@dataclass
class MasksCommand:
    """Find what moves in a video, its cameras and its depth, and write them as pictures and text.

    Writes masks/ (255 = moves), soft/ (16-bit probability), depth/ (pictures), poses.txt (camera-to-world, OpenCV
    axes), intrinsics.json and points.ply, and fixed.png where something is fixed to the camera (255); and to judge them
    by: contact_sheet.png, trajectory.png and overlay.mp4. What was computed before is read from the cache, also with
    another threshold or dilation.
    """

    data: Path
    """Folder of frames (jpg, png, webp) or video file."""
    output_dir: Path
    """Folder to write; earlier masks in it are replaced."""
    threshold: float = 0.5
    """Dynamic probability from which a pixel is in masks/, above 0 and up to 1; less takes in more."""
    dilation: int = 0
    """Pixels of the video by which masks/ is grown in every direction."""
    image_format: Literal["png", "exr"] = "png"
    """Of masks/, soft/ and depth/. exr: 16-bit half floats, with the depth itself in the channel Z; needs `pip install
    'das3r-ns[exr]'`."""
    front_end: Annotated[FrontEndConfig, tyro.conf.arg(name="")] = field(default_factory=FrontEndConfig)
    """How cameras, depth and what moves are found."""

    def run(self) -> None:
        """Run the front end or read its cache, then write everything."""
        from das3r_ns.files import check_output_directory
        from das3r_ns.frontend.report.write import MARKER, export_masks
        from das3r_ns.frontend.run import load_or_estimate
        from das3r_ns.pictures import check_image_format
        from das3r_ns.progress import Progress
        from das3r_ns.scene.binary_masks import MaskSettings

        settings = MaskSettings(self.threshold, self.dilation)
        check_output_directory(self.output_dir, MARKER)
        check_image_format(self.image_format)
        progress = Progress()
        scene = load_or_estimate(self.data, self.front_end, progress)
        export_masks(scene, self.output_dir, progress, settings, self.image_format)
        progress.say(f"{self.output_dir} holds the masks (masks/, soft/, overlay.mp4), depth, cameras and points.")
        progress.say(f"At a glance: {self.output_dir / 'contact_sheet.png'} and {self.output_dir / 'trajectory.png'}.")
