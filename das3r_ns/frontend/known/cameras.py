"""Cameras of the user's own: a nerfstudio ``transforms.json`` or a COLMAP model, matched to frames by file name.

All conventions meet here. COLMAP gives world-to-camera with OpenCV axes; transforms.json camera-to-world with OpenGL
axes (y up, z backwards). Both count pixels as das3r does: the first one's centre lies at (0.5, 0.5).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.known.lenses import (
    COLMAP_PARAMETERS,
    FISHEYES,
    PARAMETERS,
    camera_matrix,
    check_model,
    common_lens,
)
from das3r_ns.scene import geometry as geo
from das3r_ns.scene.lens import Lens

TRANSFORMS = "transforms.json"
COLMAP_FOLDERS = ("", "sparse/0", "colmap/sparse/0", "sparse")

RIGID = 1e-3
"""Largest entry of R R^T - 1 that rounding explains."""

GL_TO_CV = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Camera:
    """A camera of the file."""

    c2w_cv: Float[np.ndarray, "4 4"]
    parameters: dict[str, float]
    """nerfstudio's keys: w, h, fl_x, fl_y, cx, cy, k1, ..., as far as the file has them; is_fisheye where it is one."""


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
        """Camera matrices of frames that all have one, in pixels of a video of this size, whatever their distortion.

        Args:
            names: Names of the frames.
            size: Width and height of the video.
            known_focal: Focal in pixels of the video, for files without one.

        Raises:
            Das3rError: No focal or two, or pictures of another shape.
        """
        return np.stack(
            [camera_matrix(self.source, name, self._of(name).parameters, size, known_focal) for name in names]
        )

    def lens(self, names: Iterable[str], size: tuple[int, int], known_focal: float | None) -> Lens | None:
        """The lens of frames that all have a camera; None where they are pinhole pictures.

        Raises:
            Das3rError: As :meth:`intrinsics`; or their lenses differ, or are none that das3r knows.
        """
        names = list(names)
        matrices = self.intrinsics(names, size, known_focal)
        pictures = ((name, self._of(name).parameters, k) for name, k in zip(names, matrices, strict=True))
        return common_lens(self.source, pictures, size)

    def _of(self, name: str) -> Camera:
        camera = self.find(name)
        assert camera is not None
        return camera


@dataclass(frozen=True)
class LensFile:
    """The lens of a file, which has it from other pictures of the same camera or from a calibration."""

    source: Path
    files: tuple[Path, ...]
    """What was read."""
    lens: Lens | None
    """For pictures of the size of the video; None where they are pinhole pictures as they are."""
    focal: float
    """In pixels of the video as it is."""


def read_cameras(path: Path) -> CameraFile:
    """Read a transforms.json, a folder that holds one, or the folder of a COLMAP model (binary or text).

    Raises:
        Das3rError: There is none, or it cannot be read.
    """
    source, files = _find(path, ("cameras", "images"), "--known-poses")
    read = _read_transforms if source.is_file() else _read_colmap
    with _reading(path):
        return CameraFile(source, files, _by_name(source, list(read(*files))))


def read_lens(path: Path, size: tuple[int, int], known_focal: float | None) -> LensFile:
    """Read the lens of a transforms.json or a COLMAP model, which need hold no frames.

    Args:
        path: The file, or the folder of one or the other.
        size: Width and height of the video.
        known_focal: Focal in pixels of the video, for files without one.

    Raises:
        Das3rError: There is none, it cannot be read, it is for pictures of another shape, or das3r does not know it.
    """
    source, files = _find(path, ("cameras",), "--known-lens")
    read = _transforms_lenses if source.is_file() else _colmap_lenses
    with _reading(path):
        pictures = list(read(*files))
    if not pictures:
        raise Das3rError(f"{source} holds no cameras.")
    described = [(name, one, camera_matrix(source, name, one, size, known_focal)) for name, one in pictures]
    lens = common_lens(source, described, size, alone=True)
    return LensFile(source, files, lens, float(described[0][2][0, 0]))


def _find(path: Path, parts: tuple[str, ...], option: str) -> tuple[Path, tuple[Path, ...]]:
    """A transforms.json, or the folder of a COLMAP model; and the files to read: of the model, these parts."""
    names = " and ".join(parts)
    if not path.exists():
        raise Das3rError(
            f"{path} does not exist. Name a {TRANSFORMS} or the folder of a COLMAP model ({names}, .bin or .txt) with "
            f"{option}."
        )
    file = path / TRANSFORMS if (path / TRANSFORMS).is_file() else path
    if file.is_file():
        return file, (file,)
    for folder in (path / name for name in COLMAP_FOLDERS):
        for suffix in (".bin", ".txt"):
            files = tuple(folder / f"{part}{suffix}" for part in parts)
            if all(one.is_file() for one in files):
                return folder, files
    raise Das3rError(
        f"{path} holds neither a {TRANSFORMS} nor a COLMAP model "
        f"({' and '.join(f'{part}.bin' for part in parts)}, or .txt; also in sparse/0)."
    )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What goes wrong with a damaged file becomes a :class:`Das3rError`."""
    try:
        yield
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error) as error:
        reason = f"{type(error).__name__}: {error}"
        raise Das3rError(
            f"The cameras in {path} cannot be read ({reason}). The file is damaged or of another kind."
        ) from error


def _read_transforms(file: Path) -> Iterable[tuple[str, Camera]]:
    content = json.loads(file.read_text(encoding="utf-8"))
    for frame in content["frames"]:
        both = {**content, **frame}
        parameters = _transforms_parameters(file, frame["file_path"], both)
        pose = np.eye(4)
        rows = np.array(frame["transform_matrix"], dtype=np.float64)
        pose[:3] = rows[:3].reshape(3, 4)
        yield frame["file_path"], Camera(pose @ GL_TO_CV, parameters)


def _transforms_parameters(file: Path, name: str, content: dict[str, Any]) -> dict[str, float]:
    """The camera that a part of a transforms.json describes.

    Raises:
        Das3rError: Its model is none that das3r knows.
    """
    fisheye = content.get("is_fisheye")  # instant-ngp's key
    model = "OPENCV_FISHEYE" if fisheye else content.get("camera_model", "OPENCV")
    check_model(file, name, model)
    parameters = {key: float(content[key]) for key in PARAMETERS if content.get(key) is not None}
    return parameters | ({"is_fisheye": 1.0} if model in FISHEYES else {})


def _read_colmap(cameras_file: Path, images_file: Path) -> Iterable[tuple[str, Camera]]:
    from nerfstudio.data.utils import colmap_parsing_utils as colmap

    binary = images_file.suffix == ".bin"
    cameras = (colmap.read_cameras_binary if binary else colmap.read_cameras_text)(str(cameras_file))
    images = (colmap.read_images_binary if binary else colmap.read_images_text)(str(images_file))
    for image in images.values():
        camera = cameras[image.camera_id]
        parameters = _colmap_parameters(images_file.parent, image.name, camera)
        w2c = np.eye(4)
        w2c[:3, :3] = colmap.qvec2rotmat(image.qvec / np.linalg.norm(image.qvec))
        w2c[:3, 3] = image.tvec
        yield image.name, Camera(geo.invert_rigid(w2c), parameters)


def _colmap_parameters(source: Path, name: str, camera: Any) -> dict[str, float]:
    """A camera of COLMAP (nerfstudio's record of one) under nerfstudio's keys.

    Raises:
        Das3rError: Its model is none that das3r knows.
    """
    check_model(source, name, camera.model)
    parameters = dict(zip(COLMAP_PARAMETERS[camera.model], map(float, camera.params), strict=True))
    if "f" in parameters:
        parameters["fl_x"] = parameters["fl_y"] = parameters.pop("f")
    if camera.model in FISHEYES:
        parameters["is_fisheye"] = 1.0
    return {"w": float(camera.width), "h": float(camera.height), **parameters}


def _transforms_lenses(file: Path) -> Iterable[tuple[str, dict[str, float]]]:
    content = json.loads(file.read_text(encoding="utf-8"))
    for frame in content.get("frames") or [{"file_path": "all pictures"}]:
        yield frame["file_path"], _transforms_parameters(file, frame["file_path"], {**content, **frame})


def _colmap_lenses(cameras_file: Path) -> Iterable[tuple[str, dict[str, float]]]:
    from nerfstudio.data.utils import colmap_parsing_utils as colmap

    binary = cameras_file.suffix == ".bin"
    cameras = (colmap.read_cameras_binary if binary else colmap.read_cameras_text)(str(cameras_file))
    for number, camera in cameras.items():
        yield f"camera {number}", _colmap_parameters(cameras_file.parent, f"camera {number}", camera)


def _by_name(source: Path, found: list[tuple[str, Camera]]) -> dict[str, Camera]:
    """Cameras by file name, with the suffix and without; every pose rigid, freed from rounding."""
    if not found:
        raise Das3rError(f"{source} holds no cameras.")
    cameras: dict[str, Camera] = {}
    for path, camera in found:
        name = path.replace("\\", "/").rsplit("/", 1)[-1]
        camera = Camera(_rigid(source, name, camera.c2w_cv), camera.parameters)
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
