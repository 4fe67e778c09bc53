"""``das3r clean-plate``: every frame without what moves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass
class CleanPlateCommand:
    """Write every frame of the video without what moves, at the size of the video.

    Pixels of the frame where it shows the static scene, the rendered scene elsewhere, at matched exposure and without a
    seam. Writes frames/ (the clean plates), render/ (the scene alone), holes/ (255 = no frame ever saw it), sources/ (0
    = the frame's own pixel, 85 = rendered, 170 = rendered but confirmed by no frame, 255 = hole), clean.mp4 and
    before-after.html, a page that shows some frames before and after.
    """

    load_config: Path
    """The config.yml of a run of das3r."""
    output_dir: Path
    """Folder to write; earlier clean plates in it are replaced."""
    fill_holes: bool = False
    """Paint holes with their surroundings (OpenCV's inpainting) instead of flat grey; holes/ still marks them."""
    strict_holes: bool = False
    """Also count as a hole what the splats draw but no frame confirms."""
    foreground: bool = False
    """Also write foreground/: what moves as RGBA pictures, with a soft matte and the background taken out of its
    colours. Over the clean plate it gives the frame back."""
    fixed: Literal["keep", "remove"] = "keep"
    """What is fixed to the camera (a bonnet, a logo, a clock) stays in the plates, or is replaced by the scene."""
    image_format: Literal["png", "exr"] = "png"
    """Of all pictures. exr: 16-bit half floats, linear light; needs `pip install 'das3r-ns[exr]'`."""

    def run(self) -> None:
        """Render and write."""
        from das3r_ns.cleanplate.write import MARKER, PlateSettings, write_clean_plates
        from das3r_ns.files import check_output_directory
        from das3r_ns.pictures import check_image_format
        from das3r_ns.progress import Progress
        from das3r_ns.trained.scene import TrainedScene

        check_output_directory(self.output_dir, MARKER)
        check_image_format(self.image_format)
        progress = Progress()
        scene = TrainedScene.open(self.load_config)
        settings = PlateSettings(self.fill_holes, self.strict_holes, self.foreground, self.image_format, self.fixed)
        write_clean_plates(scene, self.output_dir, settings, progress)
        progress.say(f"{self.output_dir} holds the clean plates (frames/, clean.mp4), render/, holes/ and sources/.")
        progress.say(f"At a glance: {self.output_dir / 'before-after.html'}.")
