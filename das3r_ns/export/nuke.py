"""Nuke's camera: a ``.chan`` file for any node that has "import chan file", and a script with camera and plates.

Nuke's camera looks along -z with y up, and its rotation order ZXY turns about z first. The focal in pixels is focal /
haperture * width; ``win_translate`` is in halves of the width, down as well as across, and ``win_scale`` divides what
the other two give (Nuke's own nukescripts.snap3d.cameraProjectionMatrix). Pixels are counted from the lower left corner
of the picture. Frame n shows the picture of number n.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from das3r_ns.export.cameras import ExportedCameras
from das3r_ns.pictures import write_exr
from das3r_ns.scene.lens import Lens

APERTURE = 36.0
"""Width of the film, millimetres."""
STMAPS = {"undistort": "undistort.exr", "distort": "distort.exr"}
"""Names of the ST-maps: plates to pinhole pictures, and back."""


def rotations_zxy(rotations: Float[np.ndarray, "N 3 3"]) -> Float[np.ndarray, "N 3"]:
    """Angles about x, y and z in degrees, such that R = Ry Rx Rz; without jumps by whole turns."""
    y, x, z = Rotation.from_matrix(rotations).as_euler("YXZ", degrees=True).T
    return np.unwrap(np.stack([x, y, z], axis=1), period=360, axis=0)


def write_chan(cameras: ExportedCameras, path: Path) -> None:
    """Write ``frame tx ty tz rx ry rz vertical-angle-of-view`` a line, angles in degrees, rotation order ZXY.

    The angle is that of square pixels with the horizontal focal, and the format knows no principal point: the script
    has both exactly.

    Args:
        cameras: In a world whose y axis is up.
        path: The file.
    """
    angle = 2 * np.degrees(np.arctan(cameras.size[1] / (2 * cameras.intrinsics[:, 0, 0])))
    columns = [cameras.c2w_gl[:, :3, 3], rotations_zxy(cameras.c2w_gl[:, :3, :3]), angle[:, None]]
    lines = (
        f"{frame} " + " ".join(f"{value:.9f}" for value in row)
        for frame, row in enumerate(np.concatenate(columns, axis=1))
    )
    path.write_text("\n".join(lines) + "\n")


def write_nuke_script(cameras: ExportedCameras, path: Path, fps: float, images: str, lens: bool = False) -> None:
    """Write a script with the camera, the pictures of the clip and, where there is a lens, the ST-maps.

    Args:
        cameras: In a world whose y axis is up.
        path: The file; the script finds what lies beside it.
        fps: Frames per second.
        images: Pictures with their number as a printf pattern, relative to it.
        lens: Whether STMAPS lie beside the script.
    """
    last = len(cameras.c2w_cv) - 1
    width, height = cameras.size
    nodes = [
        f'Root {{\n first_frame 0\n last_frame {last}\n fps {fps:.6g}\n format "{width} {height} 0 0 {width} {height} '
        '1 das3r"\n}',
        f'Read {{\n inputs 0\n file "{_beside(images)}"\n first 0\n last {last}\n origfirst 0\n origlast {last}\n '
        "name Pictures\n xpos 0\n ypos 0\n}",
        _camera(cameras),
    ]
    if lens:
        nodes += [_st_map(name, file, 200 * number) for number, (name, file) in enumerate(STMAPS.items())]
    path.write_text("\n".join(nodes) + "\n", encoding="utf-8")


def write_st_maps(lens: Lens, directory: Path) -> None:
    """Write STMAPS: 32-bit EXR whose red and green say where in the other picture a pixel is found, from 0 to 1.

    Nuke's STMap counts from the lower left corner, and samples at the middles of pixels as we do.

    Args:
        lens: At the size of the video.
        directory: Folder for them.
    """
    for name, (x, y), (width, height) in (
        ("undistort", lens.pinhole_map, lens.size),
        ("distort", lens.distorted_map(lens.pinhole), lens.pinhole_size),
    ):
        red, green = (x + 0.5) / width, 1 - (y + 0.5) / height
        write_exr(directory / STMAPS[name], {"R": red, "G": green, "B": np.zeros_like(red)}, half=False)


def _camera(cameras: ExportedCameras) -> str:
    (width, height), k = cameras.size, cameras.intrinsics
    scale = k[:, 0, 0] / k[:, 1, 1]
    knobs = {
        "translate": cameras.c2w_gl[:, :3, 3],
        "rotate": rotations_zxy(cameras.c2w_gl[:, :3, :3]),
        "focal": k[:, :1, 0] * APERTURE / width,
        "win_translate": np.stack([1 - 2 * k[:, 0, 2] / width, (2 * k[:, 1, 2] - height) / width * scale], axis=1),
        "win_scale": np.stack([np.ones_like(scale), scale], axis=1),
    }
    lines = [f" {name} {_curves(values)}" for name, values in knobs.items()]
    fixed = [" inputs 0", " rot_order ZXY", f" haperture {APERTURE:g}", f" vaperture {APERTURE * height / width:.9g}"]
    return "\n".join(["Camera2 {", *fixed, *lines, " name das3r_camera", " xpos 300", " ypos 0", "}"])


def _curves(values: Float[np.ndarray, "N C"]) -> str:
    """Values of a knob: a number each where they never change, else a linear curve with a key in every frame."""
    texts = []
    for channel in values.T:
        if np.ptp(channel) <= 1e-9 * max(1.0, float(np.abs(channel).max())):
            texts.append(f"{channel[0]:.12g}")
        else:
            texts.append("{curve L " + " ".join(f"x{n} {value:.12g}" for n, value in enumerate(channel)) + "}")
    return texts[0] if len(texts) == 1 and not texts[0].startswith("{") else "{" + " ".join(texts) + "}"


def _beside(file: str) -> str:
    """A file beside the script, in the words of Nuke; brackets and dollars mean something in a script."""
    return r"\[file dirname \[value root.name]]/" + file


def _st_map(name: str, file: str, x: int) -> str:
    """An ST-map and the node that bends pictures by it, whose first input waits for them."""
    return (
        f'Read {{\n inputs 0\n file "{_beside(file)}"\n raw true\n name map_{name}\n xpos {x}\n ypos 120\n}}\n'
        f"set N_{name} [stack 0]\npush $N_{name}\npush 0\n"
        f"STMap {{\n inputs 2\n uv rgb\n name {name}\n xpos {x}\n ypos 240\n}}"
    )
