"""Fisheye lenses, and the lens of JSON values, of whatever model.

OpenCV's and COLMAP's fisheye (Kannala and Brandt, "A generic camera model and calibration method for conventional,
wide-angle, and fish-eye lenses", 2006; without their asymmetric terms): a direction at the angle theta from the axis
is seen at the distance

    theta_d = theta (1 + k1 theta^2 + k2 theta^4 + k3 theta^6 + k4 theta^8)

from the centre, in focals, on the same side. All else is as with other lenses (``lens.py``). The rule there of what a
pinhole picture can show ends it at 55 degrees from the axis where theta_d = theta.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, cast

import cv2
import numpy as np
from jaxtyping import Float

from das3r_ns.errors import Das3rError
from das3r_ns.scene.lens import MAX_STRETCH, Lens

MAX_ANGLE = math.radians(80.0)
"""Largest angle from the axis that a pinhole picture reaches, whatever the lens: its tangent goes to infinity."""

SAMPLES = 1024
"""Angles at which the polynomial is tabulated."""

NEWTON_STEPS = 4
"""From the table to the last digit."""

SAME_FOCAL = 1e-9
"""Relative difference of focals that rounding explains."""

MOST_OFF = 0.1
"""Pixels by which a lens may miss what it is fitted to."""


@dataclass(frozen=True)
class Fisheye(Lens):
    """A fisheye lens, one for all frames of a clip; p1 and p2 are 0."""

    k3: float = 0.0
    k4: float = 0.0

    model: ClassVar[str] = "OPENCV_FISHEYE"
    terms: ClassVar[tuple[str, ...]] = ("k1", "k2", "k3", "k4")
    rectify_map: ClassVar[Callable[..., Any]] = cv2.fisheye.initUndistortRectifyMap

    @property
    def described(self) -> str:
        """Model and coefficients, in words."""
        return f"fisheye, {super().described}"

    @cached_property
    def max_radius(self) -> float:
        """Distance from the axis, in directions (x, y, 1), within which no stretch exceeds MAX_STRETCH."""
        return math.tan(self._max_angle)

    def distort(self, directions: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """Pixels of the distorted picture that show directions (x, y, 1)."""
        directions = np.asarray(directions, dtype=np.float64)
        radius = np.linalg.norm(directions, axis=-1, keepdims=True)
        scale = self._bent(np.arctan(radius)) / np.where(radius > 0, radius, 1.0)
        return directions * np.where(radius > 0, scale, 1.0) * [self.fx, self.fy] + [self.cx, self.cy]

    def undistort(self, pixels: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """Directions (x, y, 1) that pixels of the distorted picture show; those beyond ``max_radius`` lie on it."""
        bent = (np.asarray(pixels, dtype=np.float64) - [self.cx, self.cy]) / [self.fx, self.fy]
        distance = np.linalg.norm(bent, axis=-1, keepdims=True)
        # Up to the largest angle the polynomial rises, so the table has one answer, and Newton stays near it.
        angles = np.linspace(0.0, self._max_angle, SAMPLES)
        reached = np.minimum(distance, self._bent(angles[-1:]))
        angle = np.interp(reached, self._bent(angles), angles)
        for _ in range(NEWTON_STEPS):
            angle = np.clip(angle - (self._bent(angle) - reached) / self._slope(angle), 0.0, self._max_angle)
        scale = np.tan(angle) / np.where(distance > 0, distance, 1.0)
        return bent * np.where(distance > 0, scale, 1.0)

    def seen_with(self, pinhole: Float[np.ndarray, "3 3"]) -> Lens:
        """The lens as the fisheye model has it for a camera whose pinhole pictures have another matrix than ours.

        With the focal that is known it is this one. With one s times as long, what lay at the angle theta lies at
        atan(tan(theta) / s), for which no such lens is exact: focal and terms are fitted.

        Args:
            pinhole: Camera matrix in pixels of ``pinhole_size``, its principal point at the centre.

        Raises:
            Das3rError: None comes nearer than MOST_OFF pixels.
        """
        s = float(np.sqrt(pinhole[0, 0] * pinhole[1, 1] / (self.pinhole[0, 0] * self.pinhole[1, 1])))
        if abs(s - 1) <= SAME_FOCAL:
            return self
        (width, height), angles = self.size, np.linspace(0.0, MAX_ANGLE, SAMPLES)
        farthest = math.hypot(max(self.cx, width - self.cx) / self.fx, max(self.cy, height - self.cy) / self.fy)
        # Exports have the whole picture, not only what the pinhole one shows of it.
        angles = angles[np.maximum.accumulate(self._bent(angles)) <= farthest]
        powers = np.arctan(np.tan(angles) / s)[:, None] ** [1, 3, 5, 7, 9]
        (scale, *terms), *_ = np.linalg.lstsq(powers, self._bent(angles), rcond=None)
        off = float(np.abs(powers @ [scale, *terms] - self._bent(angles)).max() * max(self.fx, self.fy))
        if not off <= MOST_OFF:
            raise Das3rError(
                f"The fisheye lens of this clip cannot be written for a focal {s:.3g} times its own: no fisheye model "
                f"comes nearer than {off:.2g} pixels. Take pinhole pictures (--undistort)."
            )
        k1, k2, k3, k4 = (float(term / scale) for term in terms)
        view = (self.view[0] / s, self.view[1] / s)
        fx, fy = self.fx * float(scale), self.fy * float(scale)
        return replace(self, fx=fx, fy=fy, k1=k1, k2=k2, k3=k3, k4=k4, view=view)

    @cached_property
    def _max_angle(self) -> float:
        """Of ``max_radius``: where d tan(theta) / d theta_d is MAX_STRETCH, or MAX_ANGLE."""

        def spare(angle: Any) -> Any:
            return self._slope(angle) * np.cos(angle) ** 2 - 1 / MAX_STRETCH

        angles = np.linspace(0.0, MAX_ANGLE, SAMPLES)
        beyond = np.flatnonzero(spare(angles) < 0)
        if not len(beyond):
            return MAX_ANGLE
        from scipy.optimize import brentq  # here, for what only reads a cache needs no scipy

        before, after = angles[beyond[0] - 1 :][:2].tolist()
        return cast(float, brentq(spare, before, after))

    def _bent(self, angle: Any) -> Any:
        """theta_d of angles."""
        a2 = angle**2
        return angle * (1 + a2 * (self.k1 + a2 * (self.k2 + a2 * (self.k3 + a2 * self.k4))))

    def _slope(self, angle: Any) -> Any:
        """Its derivative."""
        a2 = angle**2
        return 1 + a2 * (3 * self.k1 + a2 * (5 * self.k2 + a2 * (7 * self.k3 + a2 * 9 * self.k4)))


MODELS: dict[str, type[Lens]] = {kind.model: kind for kind in (Lens, Fisheye)}
"""Kinds of lenses by COLMAP's name of their model."""


def lens_from_json(values: Mapping[str, Any]) -> Lens:
    """The lens of :meth:`Lens.to_json`, of whatever model.

    Raises:
        KeyError, TypeError, ValueError: It is something else.
    """
    return MODELS[values.get("model", Lens.model)].from_json(values)
