"""The lens of a clip: how pinhole pictures, which the program works with, come from those of the video, and back.

OpenCV's model of a lens (Brown, "Close-range camera calibration", 1971; two radial and two tangential terms): a
direction (x, y, 1) is seen at

    x' = x (1 + k1 r^2 + k2 r^4) + 2 p1 x y + p2 (r^2 + 2 x^2)
    y' = y (1 + k1 r^2 + k2 r^4) + p1 (r^2 + 2 y^2) + 2 p2 x y

and the matrix of the distorted picture takes (x', y', 1) to its pixels. As everywhere here, the first pixel's centre
lies at (0.5, 0.5). Fisheye lenses have a model of their own (``fisheye.py``).

The pinhole picture looks along the same axis, which is its centre, and has square pixels and as many of them as the
video's picture. It is the largest upright rectangle that shows nothing but what the video shows: the whole of its
middle row and column, less than the whole of its corners where the lens is a barrel. Where a pinhole would magnify what
is at the edge of the view more than MAX_STRETCH times as much as the centre, the rectangle ends before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import cv2
import numpy as np
from jaxtyping import Bool, Float

from das3r_ns.scene import geometry as geo

MAX_STRETCH = 3.0
"""Most by which the pinhole picture magnifies, along the radius, against its centre."""

Size = tuple[int, int]
"""Width and height."""


@dataclass(frozen=True)
class Lens:
    """A lens, one for all frames of a clip."""

    size: Size
    """Of the distorted picture that the next four count the pixels of."""
    fx: float
    fy: float
    cx: float
    cy: float
    k1: float = 0.0
    k2: float = 0.0
    p1: float = 0.0
    p2: float = 0.0
    view: tuple[float, float] = (0.0, 0.0)
    """Half the width and height of the pinhole picture at distance 1; by the rule above where it is not given."""

    model: ClassVar[str] = "OPENCV"
    """COLMAP's name of the model."""
    terms: ClassVar[tuple[str, ...]] = ("k1", "k2", "p1", "p2")
    """Names of its coefficients, in the order that OpenCV and COLMAP have them in."""
    rectify_map: ClassVar[Callable[..., Any]] = cv2.initUndistortRectifyMap
    """OpenCV's function of :attr:`pinhole_map`."""

    def __post_init__(self) -> None:
        if self.view == (0.0, 0.0):
            object.__setattr__(self, "view", self._largest_view())

    @classmethod
    def central(cls, size: Size, focal: float, k1: float = 0.0, k2: float = 0.0) -> Lens:
        """A lens with square pixels whose axis goes through the centre of the picture; the focal in pixels of it."""
        return cls(size, focal, focal, size[0] / 2, size[1] / 2, k1, k2)

    @property
    def matrix(self) -> Float[np.ndarray, "3 3"]:
        """Camera matrix of the distorted picture."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    @property
    def coefficients(self) -> Float[np.ndarray, " 4"]:
        """Those of ``terms``, as OpenCV's functions take them."""
        return np.array([getattr(self, name) for name in self.terms], dtype=np.float64)

    @property
    def described(self) -> str:
        """Its coefficients, in words; without p1 and p2 where they are 0."""
        named = zip(self.terms, self.coefficients.tolist(), strict=True)
        return ", ".join(f"{name} {value:.3g}" for name, value in named if value or name in ("k1", "k2"))

    @property
    def pinhole_size(self) -> Size:
        """Width and height of the pinhole picture, both even: about as many pixels as the distorted one has.

        Of the sizes near by, that whose pixels are nearest to squares.
        """
        shape, halves = self.view[1] / self.view[0], math.sqrt(self.size[0] * self.size[1]) / 2
        nearest = round(halves / math.sqrt(shape))
        tried = [(abs(step), nearest + step) for step in range(-5, 6) if nearest + step > 0]
        sizes = [(away, width, max(1, round(width * shape))) for away, width in tried]
        _, width, height = min(sizes, key=lambda one: (round(abs(one[2] / (one[1] * shape) - 1), 9), one[0]))
        return 2 * width, 2 * height

    @property
    def pinhole(self) -> Float[np.ndarray, "3 3"]:
        """Camera matrix of the pinhole picture; its pixels are square but for the rounding of its size."""
        (width, height), (x, y) = self.pinhole_size, self.view
        return np.array([[width / (2 * x), 0.0, width / 2], [0.0, height / (2 * y), height / 2], [0.0, 0.0, 1.0]])

    def at(self, size: Size) -> Lens:
        """The same lens for pictures of another size."""
        fx, fy, cx, cy = geo.resize_intrinsics(self.matrix, self.size, size)[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()
        return replace(self, size=size, fx=fx, fy=fy, cx=cx, cy=cy)

    @cached_property
    def max_radius(self) -> float:
        """Distance from the axis, in directions (x, y, 1), within which no stretch exceeds MAX_STRETCH."""
        # d/dr (r + k1 r^3 + k2 r^5) = 1 / MAX_STRETCH, a quadratic equation in r^2.
        roots = np.roots([5 * self.k2, 3 * self.k1, 1 - 1 / MAX_STRETCH])
        real = roots.real[(np.abs(roots.imag) < 1e-12) & (roots.real > 0)]
        return math.sqrt(real.min()) if len(real) else math.inf

    def distort(self, directions: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """Pixels of the distorted picture that show directions (x, y, 1)."""
        points = np.concatenate([directions, np.ones_like(directions[..., :1])], axis=-1).reshape(-1, 1, 3)
        none = np.zeros(3)
        pixels, _ = cv2.projectPoints(points.astype(np.float64), none, none, self.matrix, self.coefficients)
        return pixels.reshape(directions.shape)

    def undistort(self, pixels: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """Directions (x, y, 1) that pixels of the distorted picture show.

        Those beyond ``max_radius`` come to lie on it: what is farther out may be seen twice, or not at all.
        """
        bent = (pixels.reshape(-1, 2) - [self.cx, self.cy]) / [self.fx, self.fy]
        if math.isfinite(self.max_radius):
            r2 = self.max_radius**2
            most = self.max_radius * (1 + r2 * (self.k1 + r2 * self.k2))
            bent = bent * np.minimum(1.0, most / np.maximum(np.hypot(*bent.T), 1e-12))[:, None]
        criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-10)
        straight = cv2.undistortPointsIter(
            np.ascontiguousarray(bent[:, None]), np.eye(3), self.coefficients, np.eye(3), np.eye(3), criteria
        )
        return straight.reshape(pixels.shape)

    def to_pinhole(self, pixels: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """Where pixels of the distorted picture lie in the pinhole one."""
        return self.undistort(pixels) * self.pinhole[[0, 1], [0, 1]] + self.pinhole[:2, 2]

    def from_pinhole(self, pixels: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """Where pixels of the pinhole picture lie in the distorted one."""
        return self.distort((pixels - self.pinhole[:2, 2]) / self.pinhole[[0, 1], [0, 1]])

    @cached_property
    def pinhole_map(self) -> tuple[np.ndarray, np.ndarray]:
        """For ``cv2.remap``: what each pixel of the pinhole picture shows of the distorted one."""
        # OpenCV counts pixels from the centre of the first one.
        half = np.array([[0.0, 0.0, 0.5], [0.0, 0.0, 0.5], [0.0, 0.0, 0.0]])
        return self.rectify_map(
            self.matrix - half, self.coefficients, np.eye(3), self.pinhole - half, self.pinhole_size, cv2.CV_32FC1
        )

    def distorted_map(self, pinhole: Float[np.ndarray, "3 3"]) -> tuple[np.ndarray, np.ndarray]:
        """For ``cv2.remap``: what each pixel of the distorted picture shows of a pinhole picture of this matrix."""
        pixels = self.directions * pinhole[[0, 1], [0, 1]] + pinhole[:2, 2] - 0.5
        x, y = np.moveaxis(pixels.astype(np.float32), -1, 0)
        return np.ascontiguousarray(x), np.ascontiguousarray(y)

    @cached_property
    def directions(self) -> Float[np.ndarray, "H W 2"]:
        """Direction (x, y, 1) that each pixel of the distorted picture shows."""
        return self.undistort(geo.pixel_centres(self.size[1], self.size[0]).astype(np.float64))

    @cached_property
    def beyond(self) -> Bool[np.ndarray, "H W"]:
        """Which pixels of the distorted picture the pinhole one does not show."""
        return (np.abs(self.directions) > self.view).any(axis=-1)

    @cached_property
    def covering(self) -> tuple[Size, Float[np.ndarray, "3 3"]]:
        """A wider pinhole picture that shows all of the distorted one, at the scale of its centre: its size, and the
        matrix that takes pixels of ``pinhole`` to its own. It has no more than MAX_STRETCH times as many pixels.
        """
        extent = np.abs(self.directions).max(axis=(0, 1))
        focal = math.sqrt(self.fx * self.fy)
        pixels = 4 * focal**2 * extent.prod() / (MAX_STRETCH * self.size[0] * self.size[1])
        width, height = (math.ceil(2 * focal * side / math.sqrt(max(pixels, 1.0))) for side in extent)
        matrix = np.diag([width / (2 * extent[0]), height / (2 * extent[1]), 1.0])
        matrix[:2, 2] = width / 2, height / 2
        return (width, height), matrix @ np.linalg.inv(self.pinhole)

    def undistorted(self, images: Iterable[np.ndarray], interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
        """Pinhole pictures, ``pinhole_size``, of pictures of the video at ``size``, with channels or without."""
        return np.stack([self.undistorted_picture(image, interpolation) for image in images])

    def undistorted_picture(self, image: np.ndarray, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
        """The pinhole picture of one of the video."""
        return cv2.remap(image, *self.pinhole_map, interpolation, borderMode=cv2.BORDER_REPLICATE)

    def distorted_picture(self, image: np.ndarray, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
        """A pinhole picture, of any size, in the geometry of the video at ``size``.

        Pixels of the video that the pinhole picture does not show get the value at its edge that is next to them.
        """
        matrix = geo.resize_intrinsics(self.pinhole, self.pinhole_size, (image.shape[1], image.shape[0]))
        return cv2.remap(image, *self.distorted_map(matrix), interpolation, borderMode=cv2.BORDER_REPLICATE)

    def seen_with(self, pinhole: Float[np.ndarray, "3 3"]) -> Lens:
        """The lens as OpenCV's model has it for a camera whose pinhole pictures have another matrix than ours.

        The pictures bend as they did; with the focal s times as long, a direction is s times as far from the centre,
        so that focal, k1, k2 and p are those of this lens times s, s^2, s^4 and s.

        Args:
            pinhole: Camera matrix in pixels of ``pinhole_size``, its principal point at the centre.
        """
        s = float(np.sqrt(pinhole[0, 0] * pinhole[1, 1] / (self.pinhole[0, 0] * self.pinhole[1, 1])))
        return replace(
            self,
            fx=self.fx * s,
            fy=self.fy * s,
            k1=self.k1 * s**2,
            k2=self.k2 * s**4,
            p1=self.p1 * s,
            p2=self.p2 * s,
            view=(self.view[0] / s, self.view[1] / s),
        )

    def displacement(self) -> float:
        """Farthest that the lens moves a pixel of the picture, relative to its longer side: 0 = none."""
        (width, height), (fx, fy) = self.size, (self.fx, self.fy)
        pixels = np.stack(np.meshgrid(np.linspace(0, width, 17), np.linspace(0, height, 17)), axis=-1)
        directions = (pixels - [self.cx, self.cy]) / [fx, fy]
        return float(np.linalg.norm(self.distort(directions) - pixels, axis=-1).max() / max(width, height))

    def to_json(self) -> dict[str, Any]:
        """JSON values that ``fisheye.lens_from_json`` makes the same lens of."""
        return asdict(self) | {"model": self.model, "size": list(self.size), "view": list(self.view)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Lens:
        """The lens of :meth:`to_json`, of this model.

        Raises:
            KeyError, TypeError, ValueError: It is something else.
        """
        width, height = values["size"]
        x, y = values["view"]
        numbers = {name: float(values[name]) for name in ("fx", "fy", "cx", "cy", *cls.terms)}
        return cls(size=(int(width), int(height)), view=(float(x), float(y)), **numbers)

    def _largest_view(self) -> tuple[float, float]:
        """See the top of the file. No point of the picture's border lies within the rectangle, so it is all seen."""
        width, height = self.size
        along = np.linspace(0.0, 1.0, 65)
        x, y = along * width, along * height
        left_right = np.concatenate([np.stack([np.full(65, side), y], axis=1) for side in (0.0, float(width))])
        top_bottom = np.concatenate([np.stack([x, np.full(65, side)], axis=1) for side in (0.0, float(height))])
        half_width = np.abs(self.undistort(left_right)[:, 0]).min()
        half_height = np.abs(self.undistort(top_bottom)[:, 1]).min()
        return float(half_width), float(half_height)
