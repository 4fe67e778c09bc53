"""``das3r demo``: a small video with exact ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from das3r_ns.errors import Das3rError

LEAST_SIDE = 32
"""Pixels; a smaller room shows nothing."""


@dataclass
class DemoCommand:
    """Write a small demo video with exact ground truth: frames, masks, clean plates, depth and cameras."""

    directory: tyro.conf.Positional[Path]
    """Folder to write; an earlier demo in it is replaced."""
    num_frames: int = 36
    """Length of the video."""
    width: int = 320
    """Width of the picture in pixels."""
    height: int = 180
    """Height of the picture in pixels."""
    moving: bool = True
    """Whether anything moves; --no-moving gives a fully static video."""

    def run(self) -> None:
        """Draw and write the video."""
        if self.num_frames < 2 or min(self.width, self.height) < LEAST_SIDE:
            raise Das3rError(
                f"A demo of {self.num_frames} frames of {self.width} x {self.height} cannot be drawn (--num-frames, "
                f"--width, --height): take at least 2 frames of {LEAST_SIDE} x {LEAST_SIDE} pixels."
            )
        from das3r_ns.demo import write_demo
        from das3r_ns.progress import Progress

        progress = Progress()
        with progress.stage("Drawing the demo video", self.num_frames) as advance:
            write_demo(self.directory, self.num_frames, self.width, self.height, self.moving, advance)
        progress.say(f"{self.directory} holds the video (frames/) and its ground truth; README.md there explains it.")
        progress.say(f"Next: das3r masks --data {self.directory} --output-dir masks")
        progress.say(f"or:   ns-train das3r --data {self.directory}")
