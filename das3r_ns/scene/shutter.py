"""A rolling shutter: how pictures as a global shutter would have taken them come from those of the video, and back.

The rows of a frame are read one after the other while the camera goes on. In a level picture every row is as the camera
of the middle row sees it, whose pose is the frame's: what a row shows in the direction (x, y, 1) it takes to

    R(s) (x, y, 1) + t(s),        s = r y / (2 v)

with r the read-out as a share of the frame time, v half the height of the picture at distance 1, and R and t what the
camera does in s frame times. Where the picture is the pinhole picture of a lens, s goes by the row that the lens bends
the direction to. What t does to a point depends on its depth; here all are as far as the middle of what the
frame shows, so the picture is exact there, and everywhere where the camera only turns, which it is mostly a shake that
bends pictures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float

from das3r_ns.scene import geometry as geo
from das3r_ns.scene.fisheye import lens_from_json
from das3r_ns.scene.lens import Lens

ROUNDS = 5
"""How often the row is looked up that shows a direction; each round is ten times as exact."""


@dataclass(frozen=True)
class Shutter:
    """The rolling shutter of a clip. All pictures are those of a pinhole: of its lens, where it has one."""

    readout: float
    """Share of the frame time from the first row to the last one; below 0 where the last one comes first."""
    view: tuple[float, float]
    """Half the width and height of the pictures at distance 1."""
    motion: Float[np.ndarray, "N 2 6"]
    """Of each frame: the motion after s frame times, from the camera of that row to that of the middle one, is
    exp(s a + s^2 b) with a and b tangents (translation over the depth of the middle, then rotation vector)."""
    lens: Lens | None = None
    """Of the video, whose rows are read; None = they are those of the pictures."""

    @property
    def largest_turn(self) -> float:
        """Degrees by which the camera turns while a frame is read, at most."""
        return float(np.degrees(np.linalg.norm(self.motion[:, 0, 3:], axis=-1).max() * abs(self.readout)))

    def of(self, frames: Any) -> Shutter:
        """The same for some of the frames."""
        return replace(self, motion=self.motion[frames])

    def matrix(self, size: tuple[int, int]) -> Float[np.ndarray, "3 3"]:
        """Camera matrix of pictures of a size (width, height)."""
        (width, height), (x, y) = size, self.view
        return np.array([[width / (2 * x), 0.0, width / 2], [0.0, height / (2 * y), height / 2], [0.0, 0.0, 1.0]])

    def directions(self, size: tuple[int, int]) -> Float[np.ndarray, "H W 2"]:
        """Direction (x, y, 1) of each pixel of a picture of a size (width, height)."""
        return _directions(size, self.matrix(size))

    def to_level(self, directions: Float[np.ndarray, "*n 2"], frame: int) -> Float[np.ndarray, "*n 2"]:
        """Direction in the level picture of what a frame of the video shows in ``directions`` (x, y, 1)."""
        from das3r_ns.scene.shutter_kernels import moved  # here, for what only reads a cache needs no numba

        flat = np.ascontiguousarray(directions, dtype=np.float64).reshape(-1, 2)
        moments = self._moments(directions).reshape(-1)
        return moved(flat, moments, self.motion[frame]).reshape(directions.shape)

    def to_filmed(self, directions: Float[np.ndarray, "*n 2"], frame: int) -> Float[np.ndarray, "*n 2"]:
        """Undoes :meth:`to_level`."""
        filmed = directions
        for _ in range(ROUNDS):
            filmed = filmed + directions - self.to_level(filmed, frame)
        return filmed

    def level_picture(self, image: np.ndarray, frame: int, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
        """A frame of the video, of any size, as a global shutter would have taken it."""
        size = (image.shape[1], image.shape[0])
        return _remapped(image, self._map(self.to_filmed, size, self.matrix(size), frame), interpolation)

    def level_pictures(self, images: Iterable[np.ndarray], interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
        """All frames of the video, in order, as a global shutter would have taken them."""
        return np.stack([self.level_picture(image, i, interpolation) for i, image in enumerate(images)])

    def filmed_picture(
        self,
        picture: np.ndarray,
        frame: int,
        interpolation: int = cv2.INTER_LINEAR,
        matrix: Float[np.ndarray, "3 3"] | None = None,
    ) -> np.ndarray:
        """A level picture, of any size, as the rolling shutter shows it.

        Args:
            picture: Of any channels.
            frame: Number of the frame.
            interpolation: OpenCV's.
            matrix: Its camera matrix; that of a picture of the video where it is not given.
        """
        size = (picture.shape[1], picture.shape[0])
        matrix = self.matrix(size) if matrix is None else matrix
        return _remapped(picture, self._map(self.to_level, size, matrix, frame), interpolation)

    def to_json(self) -> dict[str, Any]:
        """JSON values that :meth:`from_json` makes the same shutter of."""
        lens = {} if self.lens is None else {"lens": self.lens.to_json()}
        return {"readout": self.readout, "view": list(self.view), "motion": self.motion.tolist(), **lens}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Shutter:
        """The shutter of :meth:`to_json`.

        Raises:
            KeyError, TypeError, ValueError: It is something else.
        """
        x, y = values["view"]
        motion = np.array(values["motion"], dtype=np.float64).reshape(-1, 2, 6)
        lens = lens_from_json(values["lens"]) if "lens" in values else None
        return cls(float(values["readout"]), (float(x), float(y)), motion, lens)

    def _moments(self, directions: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n"]:
        """Frame times from the middle row to the rows that show ``directions``."""
        if self.lens is None:
            rows = directions[..., 1] / (2 * self.view[1])
        else:  # far outside of the picture the polynomial of a lens turns back
            rows = np.clip(self.lens.distort(directions)[..., 1] / self.lens.size[1] - 0.5, -0.6, 0.6)
        return self.readout * rows

    def _map(self, way: Any, size: tuple[int, int], matrix: np.ndarray, frame: int) -> np.ndarray:
        """For ``cv2.remap``: where each pixel of one picture lies in the other."""
        scale, centre = matrix[[0, 1], [0, 1]], matrix[:2, 2]
        return (way(_directions(size, matrix), frame) * scale + centre - 0.5).astype(np.float32)


def _directions(size: tuple[int, int], matrix: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "H W 2"]:
    return (geo.pixel_centres(size[1], size[0]) - matrix[:2, 2]) / matrix[[0, 1], [0, 1]]


def _remapped(picture: np.ndarray, where: np.ndarray, interpolation: int) -> np.ndarray:
    return cv2.remap(picture, where[..., 0], where[..., 1], interpolation, borderMode=cv2.BORDER_REPLICATE)


def rolling_message(shutter: Shutter, found: bool = True) -> str:
    """What is done about a rolling shutter."""
    way = "" if shutter.readout > 0 else ", from the last row to the first"
    head = (
        "The shutter rolls: reading a frame takes about" if found else "The shutter rolls, as it is said (--readout):"
    )
    return (
        f"{head} {abs(shutter.readout):.2f} of the frame time{way}, while the camera turns by up to "
        f"{shutter.largest_turn:.1f} degrees. Level pictures, as a global shutter would have taken them, are made of "
        "the frames."
    )
