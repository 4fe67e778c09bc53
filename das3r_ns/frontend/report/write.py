"""A SceneEstimate as pictures, text and points that other programs read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import av.codec
import cv2
import numpy as np
from av.video.reformatter import Colorspace
from jaxtyping import Float, UInt8

from das3r_ns.errors import Das3rError
from das3r_ns.files import check_output_directory, replace_directory, temporary_directory
from das3r_ns.frontend.prepared import PreparedScene
from das3r_ns.frontend.report.drawing import Cell, contact_sheet, depth_picture, overlay
from das3r_ns.frontend.report.trajectory_plot import draw_trajectory
from das3r_ns.pictures import ImageFormat, check_image_format, write_exr, write_picture, write_png
from das3r_ns.progress import Progress
from das3r_ns.scene.binary_masks import MaskSettings
from das3r_ns.scene.cache import read_frame
from das3r_ns.scene.estimate import SceneEstimate
from das3r_ns.scene.geometry import resize_intrinsics
from das3r_ns.scene.points import fused_points
from das3r_ns.video.colour import BT601, BT709, HD_LINES, LIMITED_RANGE

MARKER = "das3r.json"
"""Holds where the folder's content comes from; tells our folders from others."""
MAX_POINTS = 1_000_000
TIME_BASE = Fraction(1, 90000)
"""Seconds: a whole number of them lasts a frame at any common rate, those of 1001 included."""


def export_masks(
    scene: PreparedScene,
    directory: Path,
    progress: Progress,
    settings: MaskSettings | None = None,
    image_format: ImageFormat = "png",
) -> None:
    """Write masks, depth, cameras and points of a video, and pictures to judge them by.

    ``masks/``, ``soft/`` and ``depth/`` hold a picture per frame at the size and in the geometry of the video;
    ``poses.txt`` and ``intrinsics.json`` use OpenCV axes and pixels of that size, the first pixel's centre at (0.5,
    0.5), with k1, k2, p1 and p2 (a fisheye: k1 to k4) where there is a lens; ``fixed.png`` is
    there where something is fixed to the camera (255). For the eye: ``contact_sheet.png``, ``trajectory.png`` and
    ``overlay.mp4``, of pinhole pictures.

    Args:
        scene: The video and its estimate.
        directory: Folder to write; an earlier output in it is replaced.
        progress: Where to report.
        settings: Which pixels are in ``masks/`` and in the pictures of them.
        image_format: Of ``masks/``, ``soft/`` and ``depth/``. EXR has the depth itself, in units of the points.

    Raises:
        Das3rError: The folder holds something else, or cannot be written, or EXR cannot be had.
    """
    settings = settings or MaskSettings()
    directory = directory.resolve()
    check_output_directory(directory, MARKER)
    check_image_format(image_format)
    try:
        with temporary_directory(directory) as temporary:
            share = _write_pictures(scene, temporary, settings, progress, image_format)
            with progress.stage("Drawing contact_sheet.png and trajectory.png"):
                sheet = _contact_sheet(scene, settings, share)
                write_png(temporary / "contact_sheet.png", sheet[..., ::-1])
                draw_trajectory(scene.estimate, temporary / "trajectory.png", _title(scene))
            _write_cameras(scene, temporary)
            with progress.stage("Fusing points"):
                write_points(scene, temporary / "points.ply")
            summary = {
                "data": str(scene.data),
                "frame_names": scene.estimate.frame_names,
                "camera_kind": scene.estimate.camera_kind,
                "verdict": None if scene.verdict is None else scene.verdict.record(),
                "threshold": settings.threshold,
                "dilation": settings.dilation,
                "provenance": scene.estimate.provenance,
            }
            (temporary / MARKER).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
            replace_directory(temporary, directory)
    except OSError as error:
        raise Das3rError(f"The masks cannot be written to {directory}: {error}.") from error


def _write_pictures(
    scene: PreparedScene, directory: Path, settings: MaskSettings, progress: Progress, image_format: ImageFormat
) -> float:
    """Masks, soft masks, depth and the film; returns the share of the video that is in the masks."""
    estimate = scene.estimate
    for folder in ("masks", "soft", "depth"):
        (directory / folder).mkdir()
    fixed = scene.fixed_as_filmed()
    if fixed is not None:
        write_png(directory / "fixed.png", np.where(fixed, 255, 0).astype(np.uint8))
    near, far = _disparity_range(estimate)
    shares = []
    with progress.stage("Writing masks", estimate.num_frames) as advance:
        for number, (probability, depth) in enumerate(zip(estimate.dynamic_probability, estimate.depth, strict=True)):
            soft = scene.as_filmed(probability, number)
            mask = settings.mask(soft)
            if fixed is not None:
                mask &= ~fixed
            shares.append(mask.mean())
            name = f"{number:05d}"
            write_picture(directory / "masks" / name, np.where(mask, 255, 0).astype(np.uint8), image_format)
            levels = np.rint(soft.clip(0, 1) * 65535).astype(np.uint16)
            write_picture(directory / "soft" / name, levels, image_format)
            if image_format == "exr":
                # Nothing lies between what is near and what is far.
                write_exr(directory / "depth" / f"{name}.exr", {"Z": scene.as_filmed(depth, number, cv2.INTER_NEAREST)})
            else:
                write_picture(
                    directory / "depth" / name, scene.as_filmed(depth_picture(depth, near, far), number), "png"
                )
            advance()
    with progress.stage("Writing overlay.mp4", estimate.num_frames) as advance:
        write_video(directory / "overlay.mp4", _overlays(scene, settings, advance), scene.fps, times=scene.seconds)
    return float(np.mean(shares))


def _at_video_size(probability: Float[np.ndarray, "H W"], scene: PreparedScene) -> Float[np.ndarray, "h w"]:
    """For what is drawn over pinhole pictures."""
    return cv2.resize(probability, scene.pinhole_size, interpolation=cv2.INTER_LINEAR)


def _disparity_range(estimate: SceneEstimate) -> tuple[float, float]:
    """One scale for the whole video, so that colours mean the same in every frame."""
    disparity = 1.0 / estimate.depth[:, ::4, ::4]
    far, near = np.percentile(disparity, [1, 99])
    return float(near), float(far)


def _overlays(
    scene: PreparedScene, settings: MaskSettings, advance: Callable[[], None]
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    for path, probability in zip(scene.image_paths, scene.estimate.dynamic_probability, strict=True):
        mask = settings.mask(_at_video_size(probability, scene))
        yield overlay(read_frame(path), probability, mask, fixed=scene.estimate.fixed)
        advance()


def _title(scene: PreparedScene) -> str:
    width, height = scene.original_size
    return f"{scene.title}: {scene.estimate.num_frames} frames of {width} x {height}"


def _contact_sheet(scene: PreparedScene, settings: MaskSettings, share: float) -> UInt8[np.ndarray, "H W 3"]:
    def cell(number: int) -> Cell:
        probability = scene.estimate.dynamic_probability[number]
        mask = settings.mask(_at_video_size(probability, scene))
        return Cell(read_frame(scene.image_paths[number]), probability, mask, scene.estimate.fixed)

    moves = f"{100 * share:.1f} % of it moves" if share > 0 else "nothing moves"
    grown = f", grown by {settings.dilation} pixels of the video" if settings.dilation else ""
    note = (
        f"White outline: the mask (dynamic probability {settings.threshold:g} or more{grown}). Red: that probability."
    )
    if scene.estimate.fixed is not None:
        note += f" Blue: fixed to the camera, {100 * scene.estimate.fixed.mean():.1f} % of the picture."
    verdict = "" if scene.verdict is None else scene.verdict.message
    return contact_sheet(scene.estimate.num_frames, cell, f"{_title(scene)}, {moves}", note, verdict)


def write_video(
    path: Path,
    images: Iterator[UInt8[np.ndarray, "H W 3"]],
    fps: float,
    bits: int = 8,
    times: Sequence[float] | None = None,
) -> None:
    """Encode RGB frames as MP4: H.264 where FFmpeg has an encoder for it, else MPEG-4 part 2.

    Colours are stored at half the resolution, as every player expects, where the size is even. An odd size keeps them
    whole in H.264; in MPEG-4 part 2 it loses its last row or column.

    Args:
        path: File to write.
        images: The frames.
        fps: Frames per second.
        bits: Bits to spend on a pixel in a second: 8 to look at, 40 to work with.
        times: Seconds at which each is shown, where their rate varies; ``fps`` is then the mean.
    """
    codec = "libx264" if "libx264" in av.codec.codecs_available else "mpeg4"
    with av.open(str(path), "w") as container:
        stream, matrix = None, Colorspace.ITU601
        for number, image in enumerate(images):
            odd = any(side % 2 for side in image.shape[:2])
            if odd and codec == "mpeg4":
                image = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
            if stream is None:
                stream = container.add_stream(codec, rate=Fraction(max(fps, 1.0)).limit_denominator(1000))
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = "yuv444p" if odd and codec != "mpeg4" else "yuv420p"
                stream.bit_rate = bits * image.shape[0] * image.shape[1]
                # Players take films of so many lines for BT.709, whose colours swscale does not make unasked.
                large = image.shape[0] >= HD_LINES
                matrix = Colorspace.ITU709 if large else Colorspace.ITU601
                stream.codec_context.colorspace = BT709 if large else BT601
                stream.codec_context.color_range = LIMITED_RANGE
                if times is not None:
                    stream.codec_context.time_base = stream.time_base = TIME_BASE
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(
                format=stream.pix_fmt, dst_colorspace=matrix, dst_color_range=LIMITED_RANGE
            )
            if times is not None:
                frame.time_base, frame.pts = TIME_BASE, round(times[number] / TIME_BASE)
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode())


def _write_cameras(scene: PreparedScene, directory: Path) -> None:
    estimate, (width, height) = scene.estimate, scene.original_size
    lines = (" ".join(f"{value:.9e}" for value in pose[:3].ravel()) for pose in estimate.c2w_cv)
    (directory / "poses.txt").write_text("\n".join(lines) + "\n")
    matrices = resize_intrinsics(estimate.intrinsics, (estimate.width, estimate.height), (width, height))
    lenses = scene.lenses()
    if lenses is not None:
        matrices = np.stack([lens.matrix for lens in lenses])
    matrix = np.median(matrices, axis=0)
    intrinsics = {
        "width": width,
        "height": height,
        "fx": float(matrix[0, 0]),
        "fy": float(matrix[1, 1]),
        "cx": float(matrix[0, 2]),
        "cy": float(matrix[1, 2]),
        "pixel_center": 0.5,
        "model": "PINHOLE" if lenses is None else lenses[0].model,
    }
    rows = matrices[:, [0, 1, 0, 1], [0, 1, 2, 2]]
    if lenses is not None:
        coefficients = np.stack([lens.coefficients for lens in lenses])
        intrinsics |= dict(zip(lenses[0].terms, np.median(coefficients, axis=0).tolist(), strict=True))
        rows = np.concatenate([rows, coefficients], axis=1)
    if np.ptp(matrices, axis=0).max() > 0:  # known cameras may differ
        intrinsics["frames"] = rows.tolist()
    (directory / "intrinsics.json").write_text(json.dumps(intrinsics, indent=1) + "\n")


def write_points(scene: PreparedScene, path: Path) -> None:
    """Write the static scene as coloured points, binary PLY, world frame of the estimate."""
    images = np.stack([read_frame(image) for image in scene.image_paths])
    points = fused_points(scene.estimate, images, range(scene.estimate.num_frames), MAX_POINTS)
    write_point_cloud(path, points.xyz, points.rgb)


def write_point_cloud(path: Path, xyz: Float[np.ndarray, "M 3"], rgb: UInt8[np.ndarray, "M 3"]) -> None:
    """Write coloured points as binary PLY."""
    vertices = np.empty(len(xyz), dtype=[(axis, "<f4") for axis in "xyz"] + [(c, "u1") for c in "rgb"])
    for column, axis in enumerate("xyz"):
        vertices[axis] = xyz[:, column]
    for column, channel in enumerate("rgb"):
        vertices[channel] = rgb[:, column]
    properties = [f"property float {axis}" for axis in "xyz"]
    properties += [f"property uchar {channel}" for channel in ("red", "green", "blue")]
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(vertices)}",
        *properties,
        "end_header",
        "",
    ]
    with path.open("wb") as file:
        file.write("\n".join(header).encode())
        file.write(vertices.tobytes())
