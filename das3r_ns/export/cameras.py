"""Cameras and points as other programs read them: COLMAP, nerfstudio's transforms.json, TUM trajectories.

Throughout the centre of the first pixel is at (0.5, 0.5), which is COLMAP's convention and nerfstudio's too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from nerfstudio.data.utils.colmap_parsing_utils import Camera, Image, write_model
from scipy.spatial.transform import Rotation

from das3r_ns.scene.fisheye import MODELS
from das3r_ns.scene.geometry import invert_rigid
from das3r_ns.scene.lens import Lens

COLMAP_POINT = np.dtype([("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("track_length", "<u8")])
"""A point of ``points3D.bin`` that names no observations."""


@dataclass(frozen=True)
class ExportedCameras:
    """Cameras and points in one world."""

    c2w_cv: Float[np.ndarray, "N 4 4"]
    """Camera-to-world, OpenCV axes."""
    intrinsics: Float[np.ndarray, "N 3 3"]
    """Camera matrices in pixels of ``size``."""
    size: tuple[int, int]
    """Width and height of the pictures."""
    image_names: list[str]
    xyz: Float[np.ndarray, "M 3"]
    """Seed points."""
    rgb: UInt8[np.ndarray, "M 3"]
    """Their colours."""
    distortion: Float[np.ndarray, "N 4"] | None = None
    """k1, k2, p1 and p2 in OpenCV's convention, or what else the lens' model has; None = pinhole pictures."""
    lens_model: str = Lens.model
    """Of the distortion, as COLMAP and nerfstudio call it."""

    @property
    def c2w_gl(self) -> Float[np.ndarray, "N 4 4"]:
        """Camera-to-world, OpenGL axes (x right, y up, z backward), which most programs have."""
        return self.c2w_cv @ np.diag([1.0, -1.0, -1.0, 1.0])

    def turned(self, rotation: Float[np.ndarray, "3 3"]) -> ExportedCameras:
        """The same in a world that is turned: its points are ``rotation`` times ours."""
        c2w_cv = self.c2w_cv.copy()
        c2w_cv[:, :3] = rotation @ c2w_cv[:, :3]
        return replace(self, c2w_cv=c2w_cv, xyz=self.xyz @ rotation.T)


def continuous_quaternions_wxyz(rotations: Float[np.ndarray, "N 3 3"]) -> Float[np.ndarray, "N 4"]:
    """Unit quaternions w x y z, each with the sign nearer to the one before it, for q and -q turn alike."""
    quaternions = np.roll(Rotation.from_matrix(rotations).as_quat(), 1, axis=1)
    flips = np.sign((quaternions[1:] * quaternions[:-1]).sum(axis=1))
    quaternions[1:] *= np.cumprod(np.where(flips < 0, -1.0, 1.0))[:, None]
    return quaternions


def quaternions_xyzw(rotations: Float[np.ndarray, "N 3 3"]) -> Float[np.ndarray, "N 4"]:
    """Unit quaternions x y z w, w not negative."""
    quaternions = Rotation.from_matrix(rotations).as_quat()
    return quaternions * np.where(quaternions[:, 3:] < 0, -1.0, 1.0)


def write_colmap(cameras: ExportedCameras, directory: Path, extension: str) -> None:
    """Write cameras, images and points3D in COLMAP's text (``.txt``) or binary (``.bin``) format.

    One camera, PINHOLE or with distortion of the lens' model, for each distinct matrix; points without observations.

    Args:
        cameras: What to write.
        directory: Folder, made if missing.
        extension: ".txt" or ".bin".
    """
    directory.mkdir(parents=True, exist_ok=True)
    w2c = invert_rigid(cameras.c2w_cv)
    qvec = np.roll(quaternions_xyzw(w2c[:, :3, :3]), 1, axis=1)
    parameters = cameras.intrinsics[:, [0, 1, 0, 1], [0, 1, 2, 2]]
    model = "PINHOLE"
    if cameras.distortion is not None:
        model, parameters = cameras.lens_model, np.concatenate([parameters, cameras.distortion], axis=1)
    distinct, camera_of = np.unique(parameters, axis=0, return_inverse=True)
    # Plain floats: numpy's own print differently from version to version.
    models = {
        i + 1: Camera(i + 1, model, *cameras.size, params=[float(v) for v in row]) for i, row in enumerate(distinct)
    }
    nothing = {"xys": np.zeros((0, 2)), "point3D_ids": np.zeros(0, np.int64)}
    images = {
        i + 1: Image(
            id=i + 1, qvec=qvec[i], tvec=w2c[i, :3, 3], camera_id=int(camera_of.ravel()[i]) + 1, name=name, **nothing
        )
        for i, name in enumerate(cameras.image_names)
    }
    # Points by ourselves: nerfstudio's writer makes a Python object for each of up to a million.
    write_model(models, images, {}, str(directory), extension)
    if extension == ".bin":
        records = np.zeros(len(cameras.xyz), COLMAP_POINT)
        records["id"] = np.arange(1, len(records) + 1)
        records["xyz"], records["rgb"] = cameras.xyz, cameras.rgb
        data = np.uint64(len(records)).astype("<u8").tobytes() + records.tobytes()
        (directory / "points3D.bin").write_bytes(data)
        return
    with (directory / "points3D.txt").open("w") as file:
        file.write("# 3D point list with one line of data per point:\n")
        file.write("#   POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)\n")
        file.write(f"# Number of points: {len(cameras.xyz)}, mean track length: 0\n")
        rows = zip(cameras.xyz.tolist(), cameras.rgb.tolist(), strict=True)
        file.writelines(
            f"{i} {x:.9g} {y:.9g} {z:.9g} {r} {g} {b} 0\n" for i, ((x, y, z), (r, g, b)) in enumerate(rows, 1)
        )


def write_transforms(cameras: ExportedCameras, path: Path, images: str, masks: str, points: str) -> None:
    """Write nerfstudio's ``transforms.json``.

    Args:
        cameras: What to write.
        path: The file.
        images: Folder of the pictures, relative to it.
        masks: Folder of the masks (255 = static), relative to it.
        points: PLY file of the points, relative to it.
    """
    frames = [
        {
            "file_path": f"{images}/{name}",
            "mask_path": f"{masks}/{name}",
            "transform_matrix": pose.tolist(),
            "fl_x": float(k[0, 0]),
            "fl_y": float(k[1, 1]),
            "cx": float(k[0, 2]),
            "cy": float(k[1, 2]),
            "w": cameras.size[0],
            "h": cameras.size[1],
        }
        for name, pose, k in zip(cameras.image_names, cameras.c2w_gl, cameras.intrinsics, strict=True)
    ]
    if cameras.distortion is not None:
        names = MODELS[cameras.lens_model].terms
        for frame, terms in zip(frames, cameras.distortion.tolist(), strict=True):
            frame |= dict(zip(names, terms, strict=True))
    meta = {
        "camera_model": Lens.model if cameras.distortion is None else cameras.lens_model,
        # Where it is missing, nerfstudio takes the file for one converted from COLMAP.
        "applied_transform": np.eye(4)[:3].tolist(),
        "ply_file_path": points,
        "frames": frames,
    }
    path.write_text(json.dumps(meta, indent=1) + "\n")


def write_trajectory(c2w_cv: Float[np.ndarray, "N 4 4"], seconds: Sequence[float], path: Path) -> None:
    """Write a trajectory in the format of the TUM RGB-D benchmark: ``timestamp tx ty tz qx qy qz qw``, w last.

    Sturm et al., "A Benchmark for the Evaluation of RGB-D SLAM Systems" (IROS 2012). Poses are camera-to-world with
    OpenCV axes, timestamps seconds from the first frame.

    Args:
        c2w_cv: Of every frame.
        seconds: At which each frame is shown.
        path: The file.
    """
    table = np.concatenate([np.array(seconds)[:, None], c2w_cv[:, :3, 3], quaternions_xyzw(c2w_cv[:, :3, :3])], axis=1)
    with path.open("w") as file:
        file.write("# timestamp tx ty tz qx qy qz qw\n")
        file.writelines(" ".join(f"{value:.9f}" for value in row) + "\n" for row in table.tolist())
