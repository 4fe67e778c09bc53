"""Reads the ground truth that lies beside a video: the layout that ``das3r demo`` writes.

::

    frames/00000.*      the video
    masks/00000.png     255 = moves
    clean/00000.*       the same cameras without what moves
    observed/00000.png  how many frames see that static point unmasked; 0 = none
    poses.txt           a line a frame, 12 numbers, row-major 3x4 camera-to-world, OpenCV axes
    intrinsics.json     pinhole, pixels; "pixel_center" is where the first pixel's centre lies (0 where not said)

Everything but the frames may be missing; asking for a missing part raises :class:`Das3rError`.
"""

from __future__ import annotations

import copy
import json
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from das3r_ns.errors import Das3rError
from das3r_ns.pictures import read_picture


class GroundTruth:
    """Ground truth of one video, frame by frame; the readers of other layouts are subclasses (see readers.py).

    Args:
        directory: Folder in the layout above.
        frame_paths: The frames in time order, where they lie elsewhere.

    Raises:
        Das3rError: There is no ``frames`` folder with pictures in it, or ``frame_paths`` is empty.
    """

    def __init__(self, directory: Path, frame_paths: list[Path] | None = None) -> None:
        self.directory = directory
        self.elsewhere: dict[str, Path] = {}
        if frame_paths is None:
            frame_paths = sorted(path for path in (directory / "frames").glob("*") if path.is_file())
        self.frame_paths = frame_paths
        if not self.frame_paths:
            raise Das3rError(f"{directory / 'frames'} holds no frames, so there is no ground truth to compare with.")

    @property
    def num_frames(self) -> int:
        """Number of frames of the video."""
        return len(self.frame_paths)

    def has(self, part: str) -> bool:
        """Whether ``part`` (a folder or file name of the layout) is there."""
        return self._place(part).exists()

    def completed(self, part: str, place: Path) -> GroundTruth:
        """The same with a missing part that lies elsewhere."""
        whole = copy.copy(self)
        whole.elsewhere = {**self.elsewhere, part: place}
        return whole

    def indices(self, frame_names: list[str]) -> list[int]:
        """Numbers of frames in the video, from names with or without a suffix.

        Raises:
            Das3rError: A name is not a frame of this video.
        """
        number = {path.stem: i for i, path in enumerate(self.frame_paths)}
        try:
            return [number[Path(name).stem] for name in frame_names]
        except KeyError as error:
            raise Das3rError(f"{error.args[0]} is not a frame of {self.directory / 'frames'}.") from None

    def mask(self, index: int) -> Bool[np.ndarray, "H W"]:
        """What moves in a frame."""
        return self._picture("masks", index, cv2.IMREAD_GRAYSCALE) > 127

    def clean(self, index: int) -> Float[np.ndarray, "H W 3"]:
        """The clean plate of a frame, RGB, 0 to 1, float32."""
        return self._picture("clean", index, cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32) / 255

    def observed(self, index: int) -> UInt8[np.ndarray, "H W"]:
        """How many frames see each pixel's static point unmasked."""
        return self._picture("observed", index, cv2.IMREAD_GRAYSCALE)

    @cached_property
    def c2w_cv(self) -> Float[np.ndarray, "N 4 4"]:
        """Camera-to-world of every frame, OpenCV axes, float64."""
        try:
            rows = np.loadtxt(self._part("poses.txt"), ndmin=2)
        except (ValueError, UnicodeDecodeError) as error:
            raise Das3rError(f"{self.directory / 'poses.txt'} cannot be read ({error}).") from None
        if rows.shape != (self.num_frames, 12):
            raise Das3rError(
                f"{self.directory / 'poses.txt'} holds {rows.shape[0]} lines of {rows.shape[1]} numbers; one line of "
                f"12 for each of the {self.num_frames} frames is needed."
            )
        poses = np.tile(np.eye(4), (len(rows), 1, 1))
        poses[:, :3] = rows.reshape(-1, 3, 4)
        return poses

    @cached_property
    def intrinsics(self) -> Float[np.ndarray, "3 3"]:
        """Pinhole matrix in pixels of the frames, first pixel's centre at (0.5, 0.5)."""
        path = self._part("intrinsics.json")
        try:
            values = json.loads(path.read_text())
            shift = 0.5 - values.get("pixel_center", 0.0)
            return np.array(
                [[values["fx"], 0.0, values["cx"] + shift], [0.0, values["fy"], values["cy"] + shift], [0.0, 0.0, 1.0]]
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Das3rError(f"{path} is not a pinhole camera ({type(error).__name__}: {error}).") from None

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height of the frames."""
        height, width = self._read(self.frame_paths[0], cv2.IMREAD_COLOR).shape[:2]
        return width, height

    def path(self, folder: str, index: int) -> Path:
        """The file of a frame in one of the folders."""
        stem = self.frame_paths[index].stem
        path = next(self._part(folder).glob(f"{stem}.*"), None)
        if path is None:
            raise Das3rError(f"{self._place(folder)} has no picture for frame {stem}.")
        return path

    def _place(self, part: str) -> Path:
        return self.elsewhere.get(part, self.directory / part)

    def _part(self, name: str) -> Path:
        path = self._place(name)
        if not path.exists():
            raise Das3rError(f"{self.directory} has no {name}, so nothing can be compared with it.")
        return path

    def _picture(self, folder: str, index: int, flag: int) -> np.ndarray:
        return self._read(self.path(folder, index), flag)

    @staticmethod
    def _read(path: Path, flag: int) -> np.ndarray:
        picture = read_picture(path, flag)
        if picture is None:
            raise Das3rError(f"{path} is not a picture that can be read.")
        return picture
