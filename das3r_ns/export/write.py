"""Writes a trained run for other programs.

Everything lies in one world, so that cameras, points and Gaussians fit each other: nerfstudio's, in which the Gaussians
were trained, or the front end's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from das3r_ns.errors import Das3rError
from das3r_ns.export.blender import write_blender_script
from das3r_ns.export.cameras import ExportedCameras, write_colmap, write_trajectory, write_transforms
from das3r_ns.export.gaussians import gaussian_columns, write_gaussian_ply, write_splat
from das3r_ns.export.nuke import write_chan, write_nuke_script
from das3r_ns.export.spz import check_degree, check_gsply, write_spz
from das3r_ns.export.up_axis import turn
from das3r_ns.export.usd import check_usd, write_usd
from das3r_ns.files import check_output_directory, replace_directory
from das3r_ns.frontend.report.write import write_png, write_point_cloud
from das3r_ns.progress import Progress
from das3r_ns.scene.cache import writing
from das3r_ns.scene.static_weight import MASK_THRESHOLD
from das3r_ns.trained.scene import TrainedScene

Format = Literal["colmap", "transforms", "points", "trajectory", "gaussians", "splat", "spz", "blender", "nuke", "usd"]
World = Literal["gaussians", "estimate"]
Poses = Literal["refined", "front-end"]

USUAL: tuple[Format, ...] = ("colmap", "transforms", "points", "trajectory", "gaussians", "splat")
ALL: tuple[Format, ...] = (*USUAL, "spz", "blender", "nuke", "usd")
"""spz and usd need packages that das3r does not bring."""
WITH_PICTURES: tuple[Format, ...] = ("colmap", "transforms", "blender", "nuke")
IN_ITS_OWN_WORLD: tuple[Format, ...] = ("gaussians", "splat", "spz")
"""Written in the Gaussians' world only: elsewhere their view-dependent colours would have to be turned."""
MARKER = "export.json"
"""Says what was written; tells our folders from others."""
IMAGES, MASKS, POINTS = "images", "masks", "points3D.ply"
UNDISTORTED = "undistorted"
"""Pinhole pictures beside those of the video, for programs whose cameras have no lens."""


def write_export(
    scene: TrainedScene,
    directory: Path,
    formats: Sequence[Format] = USUAL,
    world: World = "gaussians",
    poses: Poses = "refined",
    progress: Progress | None = None,
    undistort: bool = False,
) -> None:
    """Write a trained run in the formats asked for; the folder appears when it is complete.

    ``colmap/sparse/0`` (binary) and ``colmap/text``, ``transforms.json``, both with ``images/`` and ``masks/`` (255 =
    static) at the size of the video and ``points3D.ply``; ``trajectory.txt``; ``splat.ply``, ``scene.splat`` and
    ``scene.spz``; ``blender/scene.py``, ``nuke/scene.nk`` and ``nuke/camera.chan``, with the pictures; ``usd/``.

    Args:
        scene: A trained run.
        directory: Folder to write; an earlier export in it is replaced.
        formats: What to write.
        world: "gaussians": nerfstudio's world. "estimate": the front end's, whose origin is the first camera.
        poses: As training refined them, or the front end's own.
        progress: Where to report; to stderr if None.
        undistort: Where the lens distorts, write pinhole pictures and their cameras instead of those of the video.

    Raises:
        Das3rError: Nothing would be written, the folder holds something else or cannot be written, a frame cannot be
            read, or spz or usd is asked for and cannot be had.
    """
    progress = progress or Progress()
    directory = directory.resolve()
    check_output_directory(directory, MARKER)
    chosen = [name for name in ALL if name in formats and (world == "gaussians" or name not in IN_ITS_OWN_WORLD)]
    if not formats:
        raise Das3rError(f"No format is named (--format). There are: {', '.join(ALL)}.")
    if not chosen:
        raise Das3rError(
            "Nothing is left to export: Gaussians are written in their own world only (--world gaussians). Name other "
            f"formats: {', '.join(ALL)}."
        )
    if len(chosen) < len(set(formats)):
        progress.say("Gaussians are left out: they are written in their own world only (--world gaussians).")
    if "spz" in chosen:
        check_gsply()
        check_degree(scene.model.config.sh_degree)
    if "usd" in chosen:
        check_usd()
    width, height = scene.video.original_size
    cameras = exported_cameras(scene, world, poses, undistort)
    straight = cameras if cameras.distortion is None else exported_cameras(scene, world, poses, True)
    pictures = not set(chosen).isdisjoint(WITH_PICTURES)
    # Cameras of these have no lens: they get pinhole pictures, beside those of the video if others get them.
    apart = straight is not cameras and not set(chosen).isdisjoint(("blender", "nuke"))
    needed = 150 * len(cameras.xyz) + 250 * scene.model.num_points
    with writing(directory, needed + (pictures + apart) * 4 * scene.num_frames * width * height) as temporary:
        if pictures:
            _write_pictures(scene, temporary, cameras.image_names, progress, undistort)
        if apart:
            (temporary / UNDISTORTED).mkdir()
            _write_pictures(scene, temporary / UNDISTORTED, cameras.image_names, progress, True)
        with progress.stage("Writing cameras and points"):
            if "colmap" in chosen:
                write_colmap(cameras, temporary / "colmap" / "sparse" / "0", ".bin")
                write_colmap(cameras, temporary / "colmap" / "text", ".txt")
            if "transforms" in chosen:
                write_transforms(cameras, temporary / "transforms.json", IMAGES, MASKS, POINTS)
            if "points" in chosen or "transforms" in chosen:
                write_point_cloud(temporary / POINTS, cameras.xyz.astype(np.float32), cameras.rgb)
            if "trajectory" in chosen:
                write_trajectory(cameras.c2w_cv, scene.video.seconds, temporary / "trajectory.txt")
            images = f"{UNDISTORTED}/{IMAGES}" if apart else IMAGES
            _write_for_programs(scene, straight, temporary, chosen, world, images)
        if not set(chosen).isdisjoint(IN_ITS_OWN_WORLD):
            with progress.stage("Writing Gaussians"):
                columns = gaussian_columns(scene.model)
                if "gaussians" in chosen:
                    write_gaussian_ply(temporary / "splat.ply", columns)
                if "splat" in chosen:
                    write_splat(temporary / "scene.splat", columns)
                if "spz" in chosen:
                    write_spz(temporary / "scene.spz", columns)
        transform, scale = scene.placement
        summary = {
            "data": str(scene.video.data),
            "frame_names": scene.video.estimate.frame_names,
            "formats": chosen,
            "world": world,
            "poses": poses,
            "world_from_estimate": {"transform": transform.tolist(), "scale": scale},
        }
        (temporary / MARKER).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        replace_directory(temporary, directory)


def _write_for_programs(
    scene: TrainedScene, cameras: ExportedCameras, directory: Path, chosen: Sequence[str], world: World, images: str
) -> None:
    """Each in a folder of its own, with the axis up that the program has up."""
    up, fps = "z" if world == "gaussians" else "-y", scene.video.fps
    for name in chosen:
        if name in ("blender", "nuke", "usd"):
            (directory / name).mkdir()
    z_up = cameras.turned(turn(up, "z"))
    if "blender" in chosen:
        folder = directory / "blender"
        write_point_cloud(folder / "points.ply", z_up.xyz.astype(np.float32), z_up.rgb)
        first = f"../{images}/{cameras.image_names[0]}"
        write_blender_script(z_up, folder / "scene.py", scene.video.title, fps, first, "points.ply")
    if "nuke" in chosen:
        y_up = cameras.turned(turn(up, "y"))
        write_chan(y_up, directory / "nuke" / "camera.chan")
        write_nuke_script(y_up, directory / "nuke" / "scene.nk", fps, f"../{images}/%05d.png")
    if "usd" in chosen:
        gaussians = gaussian_columns(scene.model) if world == "gaussians" else None
        write_usd(z_up, directory / "usd", fps, gaussians)


def exported_cameras(scene: TrainedScene, world: World, poses: Poses, undistort: bool = False) -> ExportedCameras:
    """Cameras, for pictures of the size of the video or for undistorted ones, and seed points of a run."""
    c2w_cv = scene.c2w_cv(refined=poses == "refined")
    xyz, rgb = scene.seed_points()
    if world == "estimate":
        c2w_cv, xyz = scene.to_estimate(c2w_cv, xyz)
    names = [f"{number:05d}.png" for number in range(scene.num_frames)]
    lenses = scene.video.lenses()
    if lenses is None or undistort:
        size = scene.video.pinhole_size
        return ExportedCameras(c2w_cv, scene.intrinsics(size), size, names, xyz, rgb)
    matrices = np.stack([lens.matrix for lens in lenses])
    distortion = np.stack([lens.coefficients for lens in lenses])
    return ExportedCameras(c2w_cv, matrices, scene.video.original_size, names, xyz, rgb, distortion)


def _write_pictures(
    scene: TrainedScene, directory: Path, names: list[str], progress: Progress, undistort: bool
) -> None:
    lens = scene.video.lens if undistort else None
    (directory / IMAGES).mkdir()
    (directory / MASKS).mkdir()
    with progress.stage("Writing images and masks", len(names)) as advance:
        for number, (name, frame) in enumerate(zip(names, scene.frames(), strict=True)):
            image = frame if lens is None else lens.undistorted_picture(frame, cv2.INTER_CUBIC)
            write_png(directory / IMAGES / name, image[..., ::-1])
            weight = (
                scene.static_weight_as_filmed(number)
                if lens is None
                else scene.static_weight(number, lens.pinhole_size)
            )
            static = weight >= MASK_THRESHOLD
            write_png(directory / MASKS / name, np.where(static, 255, 0).astype(np.uint8))
            advance()
