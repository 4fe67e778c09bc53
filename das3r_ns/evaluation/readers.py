"""Ground truth of the benchmark sets, in the folders as their owners distribute them.

Each reader is a :class:`GroundTruth` of one sequence: frames, masks of what moves (all objects merged), true cameras.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from das3r_ns.errors import Das3rError
from das3r_ns.evaluation.ground_truth import GroundTruth
from das3r_ns.evaluation.protocols import Layout
from das3r_ns.pictures import read_picture
from das3r_ns.scene.geometry import invert_rigid
from das3r_ns.video.image_folder import IMAGE_SUFFIXES, natural_key

CAM_TAG = 202021.25
"""First number of a Sintel camera file, by which it is known."""
MAX_TIME_APART = 0.02
"""Seconds by which a TUM picture and a pose may differ and still belong together, as in the benchmark's own tools."""


class DavisTruth(GroundTruth):
    """A DAVIS sequence: ``JPEGImages/480p/NAME/*.jpg`` and ``Annotations/480p/NAME/*.png``, every object above 0."""

    def __init__(self, root: Path, name: str) -> None:
        self.annotations = root / "Annotations/480p" / name
        super().__init__(root, _pictures(root / "JPEGImages/480p" / name))

    def has(self, part: str) -> bool:
        return part == "masks" and self.annotations.is_dir()

    def mask(self, index: int) -> Bool[np.ndarray, "H W"]:
        return _labels(self.annotations / f"{self.frame_paths[index].stem}.png") > 0


class SintelTruth(GroundTruth):
    """An MPI-Sintel sequence: ``training/final``, ``camdata_left`` and ``dynamic_label_perfect``, each ``/NAME/``.

    ``root`` is the folder that holds ``training``, or ``training`` itself.
    """

    def __init__(self, root: Path, name: str) -> None:
        training = root / "training" if (root / "training").is_dir() else root
        self.cameras = training / "camdata_left" / name
        self.labels = training / "dynamic_label_perfect" / name
        super().__init__(root, _pictures(training / "final" / name))

    def has(self, part: str) -> bool:
        folders = {"masks": self.labels, "poses.txt": self.cameras, "intrinsics.json": self.cameras}
        return part in folders and folders[part].is_dir()

    def mask(self, index: int) -> Bool[np.ndarray, "H W"]:
        return _labels(self.labels / f"{self.frame_paths[index].stem}.png") > 127

    @cached_property
    def c2w_cv(self) -> Float[np.ndarray, "N 4 4"]:
        return invert_rigid(np.stack([extrinsics for _, extrinsics in self._cams]))

    @cached_property
    def intrinsics(self) -> Float[np.ndarray, "3 3"]:
        return self._cams[0][0]

    @cached_property
    def _cams(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [read_sintel_cam(self.cameras / f"{path.stem}.cam") for path in self.frame_paths]


class TumTruth(GroundTruth):
    """A TUM RGB-D sequence: pictures listed in ``rgb.txt``, poses in ``groundtruth.txt``, brought together by time.

    What moves is not labelled. A frame without a pose within MAX_TIME_APART has NaN for one.
    """

    def __init__(self, root: Path, name: str) -> None:
        self.folder = root / name
        rows = _rows(self.folder / "rgb.txt", 2)
        try:
            self._listed = [(float(time), self.folder / file) for time, file in rows]
        except ValueError as error:
            raise Das3rError(f"{self.folder / 'rgb.txt'} holds a time that is not a number ({error}).") from None
        if missing := [path for _, path in self._listed if not path.is_file()]:
            raise Das3rError(
                f"{self.folder / 'rgb.txt'} lists {len(self._listed)} pictures, but {len(missing)} of them are not "
                f"there, {missing[0].name} for one. Unpack the sequence again."
            )
        super().__init__(root, [path for _, path in self._listed])

    def has(self, part: str) -> bool:
        return part == "poses.txt" and (self.folder / "groundtruth.txt").is_file()

    @cached_property
    def c2w_cv(self) -> Float[np.ndarray, "N 4 4"]:
        path = self.folder / "groundtruth.txt"
        try:
            rows = np.array([[float(value) for value in row] for row in _rows(path, 8)])
        except ValueError as error:
            raise Das3rError(f"{path} holds something that is not a number ({error}).") from None
        times = np.array([time for time, _ in self._listed])
        nearest = np.abs(times[:, None] - rows[None, :, 0]).argmin(axis=1)
        poses = np.tile(np.eye(4), (len(times), 1, 1))
        # The file has the order tx ty tz qx qy qz qw; scipy's is that of the quaternion too.
        poses[:, :3, :3] = Rotation.from_quat(rows[nearest, 4:]).as_matrix()
        poses[:, :3, 3] = rows[nearest, 1:4]
        poses[np.abs(rows[nearest, 0] - times) > MAX_TIME_APART] = np.nan
        return poses


def open_sequence(layout: Layout, root: Path, name: str) -> GroundTruth:
    """Ground truth of one sequence of a set.

    Raises:
        Das3rError: The sequence is not there, or has no frames.
    """
    if layout == "folder":
        return GroundTruth(root / name if (root / name).is_dir() else root)
    return {"davis": DavisTruth, "sintel": SintelTruth, "tum": TumTruth}[layout](root, name)


def find_sequences(root: Path) -> list[str]:
    """Sequences of a ``folder`` set: its folders that hold ``frames``, or itself if it is one.

    Raises:
        Das3rError: There is none.
    """
    names = sorted(path.parent.name for path in root.glob("*/frames") if path.is_dir())
    if names:
        return names
    if (root / "frames").is_dir():
        return [root.resolve().name]
    raise Das3rError(f"{root} holds no set: neither it nor a folder in it has a folder frames/.")


def read_sintel_cam(path: Path) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "4 4"]]:
    """Intrinsics and world-to-camera (OpenCV axes) of an MPI-Sintel camera file.

    A file holds a float32 tag, then the 3x3 intrinsics and the 3x4 extrinsics in float64, little-endian, row by row.

    Raises:
        Das3rError: It is missing, cut off, or no such file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Das3rError(f"{path} cannot be read ({error.strerror}).") from None
    if len(content) != 4 + 21 * 8 or np.frombuffer(content, "<f4", 1)[0] != CAM_TAG:
        raise Das3rError(f"{path} is not a Sintel camera file, or is cut off.")
    values = np.frombuffer(content, "<f8", 21, offset=4)
    extrinsics = np.eye(4)
    extrinsics[:3] = values[9:].reshape(3, 4)
    return values[:9].reshape(3, 3).copy(), extrinsics


def _labels(path: Path) -> np.ndarray:
    """A label picture: the largest channel, so that every colour of a palette counts."""
    if not path.is_file():
        raise Das3rError(f"{path} does not exist.")
    picture = read_picture(path)
    if picture is None:
        raise Das3rError(f"{path} is not a picture that can be read.")
    return picture.max(axis=-1)


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise Das3rError(f"{folder} does not exist: the sequence is not in this set.")
    found = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    if not found:
        raise Das3rError(f"{folder} holds no pictures (jpg, png or webp).")
    return sorted(found, key=lambda path: natural_key(path.name))


def _rows(path: Path, columns: int) -> list[list[str]]:
    """Lines of a TUM list, without its comments."""
    try:
        lines = [line.split() for line in path.read_text(encoding="utf8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise Das3rError(f"{path} cannot be read ({error}).") from None
    rows = [line for line in lines if line and not line[0].startswith("#")]
    if not rows or any(len(row) != columns for row in rows):
        raise Das3rError(f"{path} must hold lines of {columns} columns, and at least one.")
    return rows
