"""Writes a trained run for other programs.

Everything lies in one world, so that cameras, points and Gaussians fit each other: one that stands upright, or
nerfstudio's, in which the Gaussians were trained, or the front end's. In the upright one each file has the axis up that
its readers have up (:data:`UP`), and is otherwise the same.
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
from das3r_ns.export.nuke import write_chan, write_nuke_script, write_st_maps
from das3r_ns.export.placement import Placement, upright
from das3r_ns.export.spz import check_degree, check_gsply, write_spz
from das3r_ns.export.up_axis import UpAxis, turn
from das3r_ns.export.usd import check_usd, write_usd
from das3r_ns.files import check_output_directory, replace_directory
from das3r_ns.frontend.report.write import write_point_cloud
from das3r_ns.pictures import ImageFormat, check_image_format, write_picture
from das3r_ns.progress import Progress
from das3r_ns.scene.cache import writing
from das3r_ns.scene.static_weight import MASK_THRESHOLD
from das3r_ns.trained.scene import TrainedScene

Format = Literal["colmap", "transforms", "points", "trajectory", "gaussians", "splat", "spz", "blender", "nuke", "usd"]
World = Literal["upright", "gaussians", "estimate"]
Poses = Literal["refined", "front-end"]

USUAL: tuple[Format, ...] = ("colmap", "transforms", "points", "trajectory", "gaussians", "splat")
ALL: tuple[Format, ...] = (*USUAL, "spz", "blender", "nuke", "usd")
"""spz and usd need packages that das3r does not bring."""
WITH_PICTURES: tuple[Format, ...] = ("colmap", "transforms", "blender", "nuke")
GAUSSIANS: tuple[Format, ...] = ("gaussians", "splat", "spz")
"""Left out in the front end's world."""
UP: dict[str, UpAxis] = {"gaussians": "-y", "splat": "-y", "spz": "y", "nuke": "y"}
"""Axis that is up for those who read a format, where it is not z. SuperSplat and its like turn PLY and .splat by half a
turn about z, for most of them come from COLMAP's world; the specification of .spz has y up."""
FILES = {"gaussians": "splat.ply", "splat": "scene.splat", "spz": "scene.spz", "nuke": "nuke/"}
MARKER = "export.json"
"""Says what was written; tells our folders from others."""
IMAGES, MASKS, POINTS = "images", "masks", "points3D.ply"
UNDISTORTED = "undistorted"
"""Pinhole pictures beside those of the video, for programs whose cameras have no lens."""


def write_export(
    scene: TrainedScene,
    directory: Path,
    formats: Sequence[Format] = USUAL,
    world: World = "upright",
    poses: Poses = "refined",
    progress: Progress | None = None,
    undistort: bool = False,
    image_format: ImageFormat = "png",
    scale_by: str = "",
    camera_height: float = 0.0,
) -> None:
    """Write a trained run in the formats asked for; the folder appears when it is complete.

    ``colmap/sparse/0`` (binary) and ``colmap/text``, ``transforms.json``, both with ``images/`` and ``masks/`` (255 =
    static) at the size of the video and ``points3D.ply``; ``trajectory.txt``; ``splat.ply``, ``scene.splat`` and
    ``scene.spz``; ``blender/scene.py``, ``nuke/scene.nk`` and ``nuke/camera.chan``, with the pictures; ``usd/``.

    Args:
        scene: A trained run.
        directory: Folder to write; an earlier export in it is replaced.
        formats: What to write.
        world: "upright": up is up, the cameras' middle is the origin. "gaussians": nerfstudio's world. "estimate": the
            front end's, whose origin is the first camera.
        poses: As training refined them, or the front end's own.
        progress: Where to report; to stderr if None.
        undistort: Where the lens distorts, write pinhole pictures and their cameras instead of those of the video;
            so it is in any case where the shutter rolls, and the pictures are level then.
        image_format: Of ``images/`` and ``masks/``; COLMAP and nerfstudio read PNG only.
        scale_by: See :func:`~das3r_ns.export.placement.upright`, in whose world it gives metres.
        camera_height: Likewise.

    Raises:
        Das3rError: Nothing would be written, the folder holds something else or cannot be written, a frame cannot be
            read, or spz, usd or EXR is asked for and cannot be had.
    """
    progress = progress or Progress()
    directory = directory.resolve()
    check_output_directory(directory, MARKER)
    chosen = [name for name in ALL if name in formats and (world != "estimate" or name not in GAUSSIANS)]
    if not formats:
        raise Das3rError(f"No format is named (--format). There are: {', '.join(ALL)}.")
    if not chosen:
        raise Das3rError(
            "Nothing is left to export: Gaussians are not written in the front end's world (--world estimate). Name "
            f"other formats: {', '.join(ALL)}."
        )
    if len(chosen) < len(set(formats)):
        progress.say("Gaussians are left out: they are not written in the front end's world (--world estimate).")
    if "spz" in chosen:
        check_gsply()
        check_degree(scene.model.config.sh_degree)
    if "usd" in chosen:
        check_usd()
    # Nuke's maps of a lens are EXR in any case.
    check_image_format("exr" if "nuke" in chosen and scene.video.lens is not None else image_format)
    if image_format == "exr" and not {"colmap", "transforms"}.isdisjoint(chosen):
        raise Das3rError(
            "COLMAP and nerfstudio do not read EXR pictures. Name the formats that are to have them, such as `--format "
            "nuke blender --image-format exr`, and write the others into a folder of their own."
        )
    if (scale_by or camera_height) and world != "upright":
        raise Das3rError("A length (--scale-by, --camera-height) sets the scale of the upright world only.")
    width, height = scene.video.original_size
    placement = upright(scene, scale_by, camera_height) if world == "upright" else Placement(np.eye(3))
    cameras = placement.cameras(exported_cameras(scene, world, poses, undistort, image_format))
    straight = cameras
    if cameras.distortion is not None:
        straight = placement.cameras(exported_cameras(scene, world, poses, True, image_format))
    pictures = not set(chosen).isdisjoint(WITH_PICTURES)
    # Cameras of these have no lens: they get pinhole pictures, beside those of the video if others get them.
    apart = straight is not cameras and not set(chosen).isdisjoint(("blender", "nuke"))
    needed = 150 * len(cameras.xyz) + 250 * scene.model.num_points
    pixel = (pictures + apart) * (8 if image_format == "exr" else 4)
    with writing(directory, needed + pixel * scene.num_frames * width * height) as temporary:
        if pictures:
            _write_pictures(scene, temporary, progress, undistort, image_format)
        if apart:
            (temporary / UNDISTORTED).mkdir()
            _write_pictures(scene, temporary / UNDISTORTED, progress, True, image_format)
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
            _write_for_programs(scene, straight, placement, temporary, chosen, world, images)
        if not set(chosen).isdisjoint(GAUSSIANS):
            with progress.stage("Writing Gaussians"):
                _write_gaussians(scene, placement, temporary, chosen, world)
        transform, scale = scene.placement
        ups = {FILES[name]: UP[name] for name in chosen if name in UP and world == "upright"}
        summary = {
            "data": str(scene.video.data),
            "frame_names": scene.video.estimate.frame_names,
            "formats": chosen,
            "world": world,
            "poses": poses,
            "unit": "metre" if placement.metric else "unknown",
            "up": {"else": _up(world), **ups},
            # x -> scale (R x + t); of the Gaussians' world where the front end's is written.
            "world_from_estimate": {
                "transform": (placement.rotation @ transform.numpy()).tolist(),
                "scale": scale * placement.scale,
            },
        }
        (temporary / MARKER).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        replace_directory(temporary, directory)


def _up(world: World) -> UpAxis:
    """Which axis is up in a world; the first camera's picture is, in the front end's."""
    return "-y" if world == "estimate" else "z"


def _write_gaussians(
    scene: TrainedScene, placement: Placement, directory: Path, chosen: Sequence[str], world: World
) -> None:
    columns = gaussian_columns(scene.model)
    writers = {"gaussians": write_gaussian_ply, "splat": write_splat, "spz": write_spz}
    for name, write in writers.items():
        if name in chosen:
            # Nerfstudio's own world is left as it is, to the byte.
            up = UP[name] if world == "upright" else "z"
            write(directory / FILES[name], placement.then(turn("z", up)).gaussians(columns))


def _write_for_programs(
    scene: TrainedScene,
    cameras: ExportedCameras,
    placement: Placement,
    directory: Path,
    chosen: Sequence[str],
    world: World,
    images: str,
) -> None:
    """Each in a folder of its own, with the axis up that the program has up."""
    fps, z_up = scene.video.fps, cameras.turned(turn(_up(world), "z"))
    for name in chosen:
        if name in ("blender", "nuke", "usd"):
            (directory / name).mkdir()
    if "blender" in chosen:
        folder = directory / "blender"
        write_point_cloud(folder / "points.ply", z_up.xyz.astype(np.float32), z_up.rgb)
        first = f"../{images}/{cameras.image_names[0]}"
        write_blender_script(z_up, folder / "scene.py", scene.video.title, fps, first, "points.ply")
    if "nuke" in chosen:
        y_up = z_up.turned(turn("z", "y"))
        write_chan(y_up, directory / "nuke" / "camera.chan")
        pattern = f"../{images}/%05d{Path(cameras.image_names[0]).suffix}"
        lens = scene.video.lens
        if lens is not None:
            write_st_maps(lens, directory / "nuke")
        write_nuke_script(y_up, directory / "nuke" / "scene.nk", fps, pattern, lens is not None)
    if "usd" in chosen:
        gaussians = placement.gaussians(gaussian_columns(scene.model)) if world != "estimate" else None
        write_usd(z_up, directory / "usd", fps, gaussians, metric=placement.metric)


def exported_cameras(
    scene: TrainedScene, world: World, poses: Poses, undistort: bool = False, image_format: ImageFormat = "png"
) -> ExportedCameras:
    """Cameras, for pictures of the size of the video or for undistorted ones, and seed points of a run."""
    c2w_cv = scene.c2w_cv(refined=poses == "refined")
    xyz, rgb = scene.seed_points()
    if world == "estimate":
        c2w_cv, xyz = scene.to_estimate(c2w_cv, xyz)
    names = [f"{number:05d}.{image_format}" for number in range(scene.num_frames)]
    lenses = scene.video.lenses()
    # No camera of a program has rows of its own: where the shutter rolls, pictures are level and of a pinhole.
    if lenses is None or undistort or scene.video.estimate.shutter is not None:
        size = scene.video.pinhole_size
        return ExportedCameras(c2w_cv, scene.intrinsics(size), size, names, xyz, rgb)
    matrices = np.stack([lens.matrix for lens in lenses])
    distortion = np.stack([lens.coefficients for lens in lenses])
    return ExportedCameras(c2w_cv, matrices, scene.video.original_size, names, xyz, rgb, distortion, lenses[0].model)


def _write_pictures(
    scene: TrainedScene, directory: Path, progress: Progress, undistort: bool, image_format: ImageFormat
) -> None:
    level = undistort or scene.video.estimate.shutter is not None
    (directory / IMAGES).mkdir()
    (directory / MASKS).mkdir()
    with progress.stage("Writing images and masks", scene.num_frames) as advance:
        for number, frame in enumerate(scene.frames()):
            stem = f"{number:05d}"
            image = scene.video.levelled(frame, number, cv2.INTER_CUBIC) if level else frame
            write_picture(directory / IMAGES / stem, image, image_format)
            weight = (
                scene.static_weight(number, scene.video.pinhole_size)
                if level
                else scene.static_weight_as_filmed(number)
            )
            static = weight >= MASK_THRESHOLD
            write_picture(directory / MASKS / stem, np.where(static, 255, 0).astype(np.uint8), image_format)
            advance()
