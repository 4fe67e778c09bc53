"""``das3r export``: a trained run for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass
class ExportCommand:
    """Write cameras, images, masks, points and Gaussians of a run for other programs, all in one world.

    colmap: a COLMAP model, colmap/sparse/0 (binary) and colmap/text. transforms: transforms.json for nerfstudio. Both
    come with images/ and masks/ (255 = static). points: points3D.ply. trajectory: trajectory.txt in the format of TUM
    (timestamp tx ty tz qx qy qz qw). gaussians: splat.ply (with --world gaussians that of `ns-export gaussian-splat`).
    splat: scene.splat. spz: scene.spz, with `pip install 'das3r-ns[spz]'` only. blender, nuke: a folder with a script
    that sets up camera and clip (blender: points too; nuke: camera.chan too). usd: a folder with camera, points and
    Gaussians, with `pip install 'das3r-ns[usd]'` only.
    """

    load_config: Path
    """The config.yml of a run of das3r."""
    output_dir: Path
    """Folder to write; an earlier export in it is replaced."""
    format: tuple[
        Literal["colmap", "transforms", "points", "trajectory", "gaussians", "splat", "spz", "blender", "nuke", "usd"],
        ...,
    ] = (
        "colmap",
        "transforms",
        "points",
        "trajectory",
        "gaussians",
        "splat",
    )
    """What to write."""
    world: Literal["upright", "gaussians", "estimate"] = "upright"
    """upright: up is up, and the middle of the cameras is the origin. gaussians: nerfstudio's, in which the Gaussians
    were trained. estimate: that of the front end, whose origin is the first camera; Gaussians are left out there."""
    scale_by: str = ""
    """Gives metres: two pixels of frames and their distance, "frame:x,y-frame:x,y=METRES", such as
    "0:120,340-0:480,352=1.8". Frames are counted from 0."""
    camera_height: float = 0.0
    """Gives metres: the height of the cameras above the ground; 0 = not known."""
    poses: Literal["refined", "front-end"] = "refined"
    """Camera poses as training refined them, or those of the front end."""
    undistort: bool = False
    """Where the lens of the video distorts: write pinhole pictures and cameras instead of the video's own pictures and
    cameras with k1, k2, p1 and p2 (of a fisheye k1 to k4)."""
    image_format: Literal["png", "exr"] = "png"
    """Of images/ and masks/. exr: 16-bit half floats, linear light, for blender and nuke only; needs `pip install
    'das3r-ns[exr]'`."""

    def run(self) -> None:
        """Open the run and write."""
        from das3r_ns.export.spz import check_gsply
        from das3r_ns.export.usd import check_usd
        from das3r_ns.export.write import MARKER, write_export
        from das3r_ns.files import check_output_directory
        from das3r_ns.pictures import check_image_format
        from das3r_ns.progress import Progress
        from das3r_ns.trained.scene import TrainedScene

        check_output_directory(self.output_dir, MARKER)
        if "spz" in self.format:
            check_gsply()
        if "usd" in self.format:
            check_usd()
        check_image_format(self.image_format)
        progress = Progress()
        scene = TrainedScene.open(self.load_config)
        write_export(
            scene,
            self.output_dir,
            self.format,
            self.world,
            self.poses,
            progress,
            self.undistort,
            self.image_format,
            self.scale_by,
            self.camera_height,
        )
        progress.say(f"{self.output_dir} holds: {', '.join(sorted(path.name for path in self.output_dir.iterdir()))}.")
