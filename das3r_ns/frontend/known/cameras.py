"""Cameras of the user's own: a nerfstudio ``transforms.json`` or a COLMAP model, matched to frames by file name.

All conventions meet here. COLMAP gives world-to-camera with OpenCV axes; transforms.json camera-to-world with OpenGL
axes (y up, z backwards). Both count pixels as das3r does: the first one's centre lies at (0.5, 0.5).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from das3r_ns.errors import Das3rError
from das3r_ns.scene import geometry as geo

TRANSFORMS = "transforms.json"
COLMAP_FOLDERS = ("", "sparse/0", "colmap/sparse/0", "sparse")
COLMAP_PARAMETERS = {
    "SIMPLE_PINHOLE": ("f", "cx", "cy"),
    "PINHOLE": ("fl_x", "fl_y", "cx", "cy"),
    "SIMPLE_RADIAL": ("f", "cx", "cy", "k1"),
    "RADIAL": ("f", "cx", "cy", "k1", "k2"),
    "OPENCV": ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "p1", "p2"),
}
"""Camera models that can be without distortion, and the order of their parameters (COLMAP, models.h)."""

MAX_DISTORTION = 0.002
"""Share of the longer side by which distortion may move a pixel: one pixel of 512."""

SAME_SHAPE = 0.01
"""Relative difference in the shape of the picture up to which cameras are those of the video, resized."""

RIGID = 1e-3
"""Largest entry of R R^T - 1 that rounding explains."""

GL_TO_CV = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Camera:
    """A camera of the file."""

    c2w_cv: Float[np.ndarray, "4 4"]
    lens: dict[str, float]
    """nerfstudio's keys: w, h, fl_x, fl_y, cx, cy, k1, ..., as far as the file has them."""


@dataclass(frozen=True)
class CameraFile:
    """Cameras by the name of their picture."""

    source: Path
    files: tuple[Path, ...]
    """What was read."""
    cameras: dict[str, Camera]

    def find(self, name: str) -> Camera | None:
        """The camera of a frame, by file name, with its suffix or without."""
        return self.cameras.get(name) or self.cameras.get(Path(name).stem)

    def c2w_cv(self, names: Iterable[str]) -> Float[np.ndarray, "N 4 4"]:
        """Poses of frames that all have one, in the world frame of the file."""
        return np.stack([self._of(name).c2w_cv for name in names])

    def intrinsics(
        self, names: Iterable[str], size: tuple[int, int], known_focal: float | None
    ) -> Float[np.ndarray, "N 3 3"]:
        """Camera matrices of frames that all have one, in pixels of a video of this size.

        Args:
            names: Names of the frames.
            size: Width and height of the video.
            known_focal: Focal in pixels of the video, for files without one.

        Raises:
            Das3rError: No focal or two, distortion, or pictures of another shape.
        """
        return np.stack([_matrix(self.source, name, self._of(name).lens, size, known_focal) for name in names])

    def _of(self, name: str) -> Camera:
        camera = self.find(name)
        assert camera is not None
        return camera


def read_cameras(path: Path) -> CameraFile:
    """Read a transforms.json, a folder that holds one, or the folder of a COLMAP model (binary or text).

    Raises:
        Das3rError: There is none, or it cannot be read.
    """
    if not path.exists():
        raise Das3rError(
            f"{path} does not exist. Name a {TRANSFORMS} or the folder of a COLMAP model (cameras and images, .bin or "
            ".txt) with --known-poses."
        )
    file = path / TRANSFORMS if (path / TRANSFORMS).is_file() else path
    try:
        if file.is_file():
            found = list(_read_transforms(file))
            return CameraFile(file, (file,), _by_name(file, found))
        for folder in (path / name for name in COLMAP_FOLDERS):
            for suffix in (".bin", ".txt"):
                files = folder / f"cameras{suffix}", folder / f"images{suffix}"
                if all(one.is_file() for one in files):
                    return CameraFile(folder, files, _by_name(folder, list(_read_colmap(*files))))
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error) as error:
        reason = f"{type(error).__name__}: {error}"
        raise Das3rError(
            f"The cameras in {path} cannot be read ({reason}). The file is damaged or of another kind."
        ) from error
    raise Das3rError(
        f"{path} holds neither a {TRANSFORMS} nor a COLMAP model (cameras.bin and images.bin, or .txt; also in "
        "sparse/0)."
    )


def _read_transforms(file: Path) -> Iterable[tuple[str, Camera]]:
    content = json.loads(file.read_text(encoding="utf-8"))
    for frame in content["frames"]:
        both = {**content, **frame}
        model = both.get("camera_model", "OPENCV")
        if model not in COLMAP_PARAMETERS:
            raise _distorted(file, frame["file_path"], f"its camera model is {model}")
        lens = {key: float(both[key]) for key in _LENS_KEYS if both.get(key) is not None}
        pose = np.eye(4)
        rows = np.array(frame["transform_matrix"], dtype=np.float64)
        pose[:3] = rows[:3].reshape(3, 4)
        yield frame["file_path"], Camera(pose @ GL_TO_CV, lens)


_LENS_KEYS = (
    *("w", "h", "fl_x", "fl_y", "camera_angle_x", "camera_angle_y", "cx", "cy"),
    *("k1", "k2", "k3", "k4", "p1", "p2"),
)


def _read_colmap(cameras_file: Path, images_file: Path) -> Iterable[tuple[str, Camera]]:
    from nerfstudio.data.utils import colmap_parsing_utils as colmap

    binary = images_file.suffix == ".bin"
    cameras = (colmap.read_cameras_binary if binary else colmap.read_cameras_text)(str(cameras_file))
    images = (colmap.read_images_binary if binary else colmap.read_images_text)(str(images_file))
    for image in images.values():
        camera = cameras[image.camera_id]
        if camera.model not in COLMAP_PARAMETERS:
            raise _distorted(images_file.parent, image.name, f"its camera model is {camera.model}")
        lens = dict(zip(COLMAP_PARAMETERS[camera.model], map(float, camera.params), strict=True))
        if "f" in lens:
            lens["fl_x"] = lens["fl_y"] = lens.pop("f")
        w2c = np.eye(4)
        w2c[:3, :3] = colmap.qvec2rotmat(image.qvec / np.linalg.norm(image.qvec))
        w2c[:3, 3] = image.tvec
        yield image.name, Camera(geo.invert_rigid(w2c), {"w": camera.width, "h": camera.height, **lens})


def _by_name(source: Path, found: list[tuple[str, Camera]]) -> dict[str, Camera]:
    """Cameras by file name, with the suffix and without; every pose rigid, freed from rounding."""
    if not found:
        raise Das3rError(f"{source} holds no cameras.")
    cameras: dict[str, Camera] = {}
    for path, camera in found:
        name = path.replace("\\", "/").rsplit("/", 1)[-1]
        camera = Camera(_rigid(source, name, camera.c2w_cv), camera.lens)
        for key in {name, Path(name).stem}:
            if not np.array_equal(cameras.setdefault(key, camera).c2w_cv, camera.c2w_cv):
                raise Das3rError(f"{source} holds two different cameras for a picture named {key}. Keep the right one.")
    return cameras


def _rigid(source: Path, name: str, pose: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "4 4"]:
    rotation = pose[:3, :3]
    good = bool(np.isfinite(pose).all()) and np.abs(rotation @ rotation.T - np.eye(3)).max() < RIGID
    if not good or np.linalg.det(rotation) < 0:
        raise Das3rError(
            f"The pose of {name} in {source} is no rigid motion (it scales, shears, mirrors or is not finite), so it "
            "is no camera. Convert the file again."
        )
    u, _, vt = np.linalg.svd(rotation)
    pose = pose.copy()
    pose[:3, :3] = u @ vt
    return pose


def _matrix(
    source: Path, name: str, lens: dict[str, float], size: tuple[int, int], known_focal: float | None
) -> Float[np.ndarray, "3 3"]:
    """Camera matrix of one frame in pixels of the video."""
    width, height = lens.get("w", size[0]), lens.get("h", size[1])
    if abs(width * size[1] / (height * size[0]) - 1) > SAME_SHAPE:
        raise Das3rError(
            f"{source} has the camera of {name} for a picture of {width:.0f} x {height:.0f} pixels, but the frames are "
            f"{size[0]} x {size[1]}: of another shape, so cut or turned. Make the cameras from these frames."
        )
    # Angles stand for focals as instant-ngp has it, and are all there is in NeRF-synthetic, without a size.
    fx, fy = (
        lens.get(focal, side / 2 / math.tan(lens[angle] / 2) if 0 < lens.get(angle, 0.0) < math.pi else None)
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
    matrix = np.array([[fx, 0.0, lens.get("cx", width / 2)], [0.0, fy, lens.get("cy", height / 2)], [0.0, 0.0, 1.0]])
    moved = _distortion(matrix, lens, width, height) / max(width, height)
    if moved > MAX_DISTORTION:
        raise _distorted(source, name, f"distortion moves pixels by up to {100 * moved:.1f} % of the longer side")
    return geo.resize_intrinsics(matrix, (int(width), int(height)), size)


def _distortion(matrix: Float[np.ndarray, "3 3"], lens: dict[str, float], width: float, height: float) -> float:
    """Most pixels by which lens distortion (COLMAP's OPENCV model, with k3 and k4) moves one inside the picture."""
    pixels = np.stack(np.meshgrid(np.linspace(0, width, 9), np.linspace(0, height, 9)), axis=-1)
    x, y, _ = np.moveaxis(geo.unproject(pixels, np.ones((9, 9)), matrix), -1, 0)
    k1, k2, k3, k4, p1, p2 = (lens.get(key, 0.0) for key in ("k1", "k2", "k3", "k4", "p1", "p2"))
    r2 = x**2 + y**2
    radial = r2 * (k1 + r2 * (k2 + r2 * (k3 + r2 * k4)))
    dx = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2)
    dy = y * radial + 2 * p2 * x * y + p1 * (r2 + 2 * y**2)
    return float(np.hypot(matrix[0, 0] * dx, matrix[1, 1] * dy).max())


def _distorted(source: Path, name: str, how: str) -> Das3rError:
    return Das3rError(
        f"{source} has a lens for {name} that das3r does not know: {how}. Undistort the pictures first (`colmap "
        "image_undistorter` does, and writes the cameras that go with them)."
    )
