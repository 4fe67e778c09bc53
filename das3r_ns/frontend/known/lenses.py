"""Lenses of the user's own: what a nerfstudio ``transforms.json`` or a COLMAP model says of focal and distortion."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from das3r_ns.errors import Das3rError
from das3r_ns.scene import geometry as geo
from das3r_ns.scene.fisheye import Fisheye
from das3r_ns.scene.lens import Lens, Size

COLMAP_PARAMETERS = {
    "SIMPLE_PINHOLE": ("f", "cx", "cy"),
    "PINHOLE": ("fl_x", "fl_y", "cx", "cy"),
    "SIMPLE_RADIAL": ("f", "cx", "cy", "k1"),
    "RADIAL": ("f", "cx", "cy", "k1", "k2"),
    "OPENCV": ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "p1", "p2"),
    "SIMPLE_RADIAL_FISHEYE": ("f", "cx", "cy", "k1"),
    "RADIAL_FISHEYE": ("f", "cx", "cy", "k1", "k2"),
    "OPENCV_FISHEYE": ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "k3", "k4"),
}
"""Camera models that are read, and the order of their parameters (COLMAP, models.h)."""

FISHEYES = tuple(model for model in COLMAP_PARAMETERS if model.endswith("_FISHEYE"))
"""Those whose k1 to k4 count angles."""

PARAMETERS = (
    *("w", "h", "fl_x", "fl_y", "camera_angle_x", "camera_angle_y", "cx", "cy"),
    *("k1", "k2", "k3", "k4", "p1", "p2"),
)
"""nerfstudio's keys of a camera."""

VISIBLE = 0.0005
"""Share of the longer side by which distortion must move a pixel to be taken account of: a quarter of one of 512."""

LEAST_SHOWN = 0.2
"""Share of the picture that a pinhole must show of it. Half is what action cameras at their widest leave."""

SAME_SHAPE = 0.01
"""Relative difference in the shape of the picture up to which cameras are those of the video, resized."""


def check_model(source: Path, name: str, model: str) -> None:
    """Raise a :class:`Das3rError` where a camera model is none of those that are read."""
    if model not in COLMAP_PARAMETERS:
        raise _unknown(source, name, f"its camera model is {model}")


def camera_matrix(
    source: Path, name: str, parameters: dict[str, float], size: Size, known_focal: float | None
) -> Float[np.ndarray, "3 3"]:
    """Camera matrix of one picture in pixels of the video, whatever its distortion.

    Args:
        source: The file.
        name: The picture.
        parameters: What the file has of :data:`PARAMETERS`.
        size: Width and height of the video.
        known_focal: Focal in pixels of the video, for files without one.

    Raises:
        Das3rError: No focal or two, or pictures of another shape.
    """
    width, height = parameters.get("w", size[0]), parameters.get("h", size[1])
    if not (min(width, height) > 0 and abs(width * size[1] / (height * size[0]) - 1) <= SAME_SHAPE):
        raise Das3rError(
            f"{source} has the camera of {name} for a picture of {width:.0f} x {height:.0f} pixels, but the frames are "
            f"{size[0]} x {size[1]}: of another shape, so cut or turned. Make the cameras from these frames."
        )
    # Angles stand for focals as instant-ngp has it, and are all there is in NeRF-synthetic, without a size.
    fx, fy = (
        parameters.get(
            focal, side / 2 / math.tan(parameters[angle] / 2) if 0 < parameters.get(angle, 0.0) < math.pi else None
        )
        for focal, angle, side in (("fl_x", "camera_angle_x", width), ("fl_y", "camera_angle_y", height))
    )
    fx, fy = fx or fy, fy or fx
    if (fx is None) == (known_focal is None):
        says = "no focal" if fx is None else "a focal of its own"
        do = (
            "Name it with --known-focal" if fx is None else "Leave out --known-focal, or take the focal out of the file"
        )
        raise Das3rError(f"{source} has {says} for {name}. {do}.")
    if fx is None or known_focal is not None:
        fx = fy = known_focal * width / size[0]  # pyright: ignore[reportOptionalOperand]
    assert fy is not None
    if not (math.isfinite(fx) and math.isfinite(fy) and min(fx, fy) > 0):
        raise Das3rError(f"{source} has a focal of {fx} x {fy} pixels for {name}, which no camera has.")
    cx, cy = parameters.get("cx", width / 2), parameters.get("cy", height / 2)
    matrix = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    return geo.resize_intrinsics(matrix, (int(width), int(height)), size)


def common_lens(
    source: Path,
    pictures: Iterable[tuple[str, dict[str, float], Float[np.ndarray, "3 3"]]],
    size: Size,
    alone: bool = False,
) -> Lens | None:
    """The one lens of all pictures; None where they are pinhole pictures.

    Args:
        source: The file.
        pictures: Name, parameters and camera matrix (in pixels of the video) of each.
        size: Width and height of the video.
        alone: The lens will go without poses, so that a focal must tell all of it: pinhole pictures must have one lens
            too, and those that have no square pixels, or the principal point off their centre, come under a lens.

    Raises:
        Das3rError: Distorted pictures have different lenses, or one that is not known.
    """
    lenses: dict[Lens, str] = {}
    for name, parameters, k in pictures:
        kind = Fisheye if parameters.get("is_fisheye") else Lens
        distortion = {key: parameters.get(key, 0.0) for key in kind.terms}
        values = [*distortion.values(), *k.ravel().tolist()]
        if not all(map(math.isfinite, values)):
            raise _unknown(source, name, "some of its numbers are not finite")
        matrix = {"fx": float(k[0, 0]), "fy": float(k[1, 1]), "cx": float(k[0, 2]), "cy": float(k[1, 2])}
        # The view is found below, for most files have one lens and thousands of pictures.
        lens = kind(size, **matrix, **distortion, view=(1.0, 1.0))
        if lens not in lenses:
            lenses[lens] = name
            _check_other_terms(source, name, parameters, lens)
    bent = [lens for lens in lenses if lens.displacement() > VISIBLE or (alone and not _is_centred(lens))]
    if not bent and not alone:
        return None
    first = (bent or list(lenses))[0]
    for lens, name in lenses.items():
        if _difference(first, lens) > VISIBLE:
            raise Das3rError(
                f"{source} has different lenses for {lenses[first]} and {name}, where das3r takes one lens for all "
                "frames of a clip. Calibrate one lens for all of them, or undistort the pictures first (`colmap "
                "image_undistorter` does, and writes the cameras that go with them)."
            )
    if not bent:
        return None
    lens = replace(first, view=(0.0, 0.0))
    if min(lens.view) <= 0 or not all(map(math.isfinite, lens.view)):
        raise _unknown(source, lenses[first], "no pinhole picture can be made of it")
    shown = 1.0 - float(lens.at((96, max(1, round(96 * size[1] / size[0])))).beyond.mean())
    if shown < LEAST_SHOWN and isinstance(lens, Fisheye):
        raise Das3rError(
            f"The lens in {source} ({lens.described}; focal {lens.fx:.0f} pixels) sees too wide: das3r works on "
            f"pinhole pictures, which could show but the middle {100 * shown:.0f} % of the picture, and must show "
            f"{100 * LEAST_SHOWN:.0f} %. Where only the middle is a picture, cut the video to it, and calibrate that."
        )
    if shown < LEAST_SHOWN:
        raise Das3rError(
            f"The lens in {source} (k1 {lens.k1:.3g}, k2 {lens.k2:.3g}) cannot be meant for a focal of {lens.fx:.0f} "
            f"pixels: all but the middle {100 * shown:.0f} % of the picture would be folded or stretched beyond use. "
            "k1 and k2 count lengths in focals, as OpenCV and COLMAP have them; those of fisheye models count angles, "
            "and go with the camera model OPENCV_FISHEYE."
        )
    return lens


def _is_centred(lens: Lens) -> bool:
    (width, height), side = lens.size, max(lens.size)
    off = max(abs(lens.cx - width / 2), abs(lens.cy - height / 2)) / side
    return off <= VISIBLE and abs(lens.fx / lens.fy - 1) <= 2 * VISIBLE


def _difference(first: Lens, second: Lens) -> float:
    """Farthest that two lenses put the same direction from each other, relative to the longer side."""
    corners = first.undistort(np.array([[x, y] for x in (0.0, 0.5, 1.0) for y in (0.0, 0.5, 1.0)]) * first.size)
    apart = np.linalg.norm(first.distort(corners) - second.distort(corners), axis=1)
    return float(apart.max() / max(first.size))


def _check_other_terms(source: Path, name: str, parameters: dict[str, float], lens: Lens) -> None:
    """nerfstudio's keys have what the model has not: r^6 and r^8 (k3, k4), which hardly a calibration has, and for a
    fisheye p1 and p2."""
    x = max(lens.cx, lens.size[0] - lens.cx) / lens.fx
    y = max(lens.cy, lens.size[1] - lens.cy) / lens.fy
    r2 = x**2 + y**2
    k3, k4, p1, p2 = (0.0 if key in lens.terms else parameters.get(key, 0.0) for key in ("k3", "k4", "p1", "p2"))
    moved = (abs(k3 * r2**3 + k4 * r2**4) * math.sqrt(r2) + 3 * math.hypot(p1, p2) * r2) * lens.fx
    if not moved / max(lens.size) <= VISIBLE:
        known = f"{', '.join(lens.terms[:-1])} and {lens.terms[-1]}"
        raise _unknown(source, name, f"it has distortion beyond {known}")


def _unknown(source: Path, name: str, how: str) -> Das3rError:
    return Das3rError(
        f"{source} has a lens for {name} that das3r does not know: {how}. Undistort the pictures first (`colmap "
        "image_undistorter` does, and writes the cameras that go with them)."
    )
