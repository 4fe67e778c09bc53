"""``das3r masks``: the front end alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from das3r_ns.frontend.config import FrontEndConfig


@dataclass
class MasksCommand:
    """Find what moves in a video, its cameras and its depth, and write them as pictures and text; or what moves as a
    trained scene has it (--load-config).

    Writes masks/ (255 = moves), soft/ (16-bit probability), depth/ (pictures), poses.txt (camera-to-world, OpenCV
    axes), intrinsics.json and points.ply, and fixed.png where something is fixed to the camera (255); and to judge them
    by: contact_sheet.png, trajectory.png and overlay.mp4. What was computed before is read from the cache, also with
    another threshold or dilation.
    """

    output_dir: Path
    """Folder to write; earlier masks in it are replaced."""
    data: Path | None = None
    """Folder of frames (jpg, png, webp) or video file."""
    load_config: Path | None = None
    """Instead of --data: the config.yml of a run of das3r. Its scene is rendered for every frame, and what frames and
    scene say of each other mends the masks that it was trained with; train again with these (--masks given)."""
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
        """Run the front end or read its cache, or render the scene; then write everything."""
        from das3r_ns.files import check_output_directory
        from das3r_ns.frontend.report.write import MARKER, export_masks
        from das3r_ns.frontend.run import load_or_estimate
        from das3r_ns.pictures import check_image_format
        from das3r_ns.progress import Progress
        from das3r_ns.scene.binary_masks import MaskSettings

        self._check()
        settings = MaskSettings(self.threshold, self.dilation)
        check_output_directory(self.output_dir, MARKER)
        check_image_format(self.image_format)
        progress = Progress()
        if self.load_config is not None:
            from das3r_ns.trained.scene import TrainedScene
            from das3r_ns.trained.third_look import look_by_scene

            scene = look_by_scene(TrainedScene.open(self.load_config), progress)
        else:
            assert self.data is not None
            scene = load_or_estimate(self.data, self.front_end, progress)
        export_masks(scene, self.output_dir, progress, settings, self.image_format)
        progress.say(f"{self.output_dir} holds the masks (masks/, soft/, overlay.mp4), depth, cameras and points.")
        progress.say(f"At a glance: {self.output_dir / 'contact_sheet.png'} and {self.output_dir / 'trajectory.png'}.")

    def _check(self) -> None:
        from das3r_ns.errors import Das3rError

        if (self.data is None) == (self.load_config is None):
            raise Das3rError(
                "Name either a video (--data), whose masks the front end finds, or the config.yml of a run "
                "(--load-config), whose scene mends them."
            )
        if self.load_config is not None and self.front_end != FrontEndConfig():
            raise Das3rError(
                "The options of the front end are those that the run was trained with; leave them out where "
                "--load-config names one."
            )
