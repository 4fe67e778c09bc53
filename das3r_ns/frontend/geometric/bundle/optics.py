"""How the pictures of a video depart from the one pinhole camera of the bundle adjustment: zoom, a lens that bends, and
a shutter that reads row after row (what that does to a picture is in ``rolling``, for it takes the cameras' motion).

The solver knows one pinhole, K. What a frame shows at u it takes to where K would show it, first straightened, then
zoomed:

    w(u) = c + exp(-z_i) v,        u - c = v (1 + b1 s^2 + b2 s^4),        s = |v| / R

with R half the longer side of the picture. b are OpenCV's radial k1, k2 with lengths in R instead of the focal, so that
they do not change with it: k1 = b1 (f / R)^2, k2 = b2 (f / R)^4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from das3r_ns.frontend.geometric.bundle import optics_kernels as kernels

ZOOM_STEP = 0.2
"""Width of the prior on the change of log focal from one frame to the next: a fast zoom has a fifth of it."""

ZOOM_SIGMA = 0.5
"""Width of the prior on the mean log focal over the shared one, which is 0 but for that."""

FOCUS_SIGMA = 0.005
"""Width of the prior on the log focal of every frame over the shared one where the lens does not zoom but focuses. A
telephone's, of 4 mm, makes its picture 0.4 % larger between far and a metre away, 0.8 % at half a metre."""

BEND_SIGMA = (0.3, 0.1)
"""Widths of the priors on b1 and b2. An action camera has about -0.2 and 0.03."""

READOUT_SIGMA = 0.5
"""Width of the prior on the read-out, a share of the frame time: telephones take 0.3 to 1 of it, a global shutter 0."""

SHARED = 3
"""Unknowns that all frames share, the last ones: b1, b2 and the read-out."""


@dataclass(frozen=True)
class Optics:
    """Zoom of every frame, the bend of the lens, and the read-out of the shutter."""

    zoom: Float[np.ndarray, " N"]
    """Log of the focal over the shared one."""
    bend: Float[np.ndarray, " 2"]
    """b1 and b2."""
    readout: float = 0.0
    """Share of the frame time from the first row to the last one; below 0 where the last one comes first."""
    swing: Float[np.ndarray, "N 3"] | None = None
    """By how much each camera turns faster than the path through all poses says, a rotation vector per frame time (see
    ``swing``); None = by nothing."""

    @classmethod
    def none(cls, count: int) -> Optics:
        """Of frames that are as the pinhole has them."""
        return cls(np.zeros(count), np.zeros(2))

    @classmethod
    def of_lens(
        cls, zoom: Float[np.ndarray, " N"], k: tuple[float, float], focal: float, centre: Float[np.ndarray, " 2"]
    ) -> Optics:
        """Of a lens by OpenCV's k1 and k2 for a focal in pixels; undoes :meth:`coefficients`."""
        square = (focal / centre.max()) ** 2
        return cls(zoom, np.array([k[0] / square, k[1] / square**2]))

    @property
    def unknowns(self) -> Float[np.ndarray, " O"]:
        """Zoom of every frame, the bend, the read-out."""
        return np.concatenate([self.zoom, self.bend, [self.readout]])

    def moved(self, step: Float[np.ndarray, " O"]) -> Optics:
        """After a step of the unknowns."""
        zoom, shared = np.split(self.unknowns + step, [-SHARED])
        return replace(self, zoom=zoom, bend=shared[:2], readout=float(np.clip(shared[2], -1.0, 1.0)))

    def coefficients(self, focal: float, centre: Float[np.ndarray, " 2"]) -> tuple[float, float]:
        """OpenCV's k1 and k2 for a focal in pixels."""
        square = (focal / centre.max()) ** 2
        return float(self.bend[0] * square), float(self.bend[1] * square**2)

    def of(self, frames: np.ndarray) -> Optics:
        """Of some frames."""
        return replace(self, zoom=self.zoom[frames], swing=None if self.swing is None else self.swing[frames])

    def straightened(
        self, points: Float[np.ndarray, "M K 2"], frames: np.ndarray, centre: Float[np.ndarray, " 2"]
    ) -> Float[np.ndarray, "M K 2"]:
        """Where the pinhole shows what these frames show at ``points``, float32.

        Args:
            points: Image coordinates, a row for each of M frames.
            frames: Number of each.
            centre: Principal point.
        """
        return kernels.straightened(points, np.exp(-self.zoom[frames]), self.bend, centre, centre.max())

    def bent(
        self, points: Float[np.ndarray, "M K 2"], frames: np.ndarray, centre: Float[np.ndarray, " 2"]
    ) -> Float[np.ndarray, "M K 2"]:
        """Where these frames show what the pinhole shows at ``points``; undoes :meth:`straightened`."""
        offset = np.exp(self.zoom[frames])[:, None, None] * (points - centre)
        return centre + offset * self._growth(np.linalg.norm(offset, axis=-1) / centre.max())[..., None]

    def magnification(self, frames: np.ndarray) -> Float[np.ndarray, "M 1"]:
        """Size of what these frames show against how the pinhole shows it, float32."""
        return np.exp(self.zoom[frames]).astype(np.float32)[:, None]

    def slopes(
        self,
        straight: Float[np.ndarray, "M K 2"],
        frames: np.ndarray,
        centre: Float[np.ndarray, " 2"],
        columns: int = 3,
    ) -> Float[np.ndarray, "M K 2 P"]:
        """Derivatives of :meth:`straightened` for the zoom of the frame, b1 and b2.

        Args:
            straight: What it gave.
            frames: Number of each row's frame.
            centre: Principal point.
            columns: P; what is beyond the three is 0.
        """
        return kernels.slopes(straight, np.exp(self.zoom[frames]), self.bend, centre, centre.max(), columns)

    def _growth(self, radius: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
        square = radius**2
        return 1.0 + self.bend[0] * square + self.bend[1] * square**2


def prior(count: int, focuses: bool = False) -> Float[np.ndarray, "O O"]:
    """Information of the priors on the unknowns of :class:`Optics`: a zoom is smooth, focusing changes little, a bend
    is not large, nor is a read-out."""
    out = np.diag(np.concatenate([np.zeros(count), np.array([*BEND_SIGMA, READOUT_SIGMA]) ** -2.0]))
    if focuses:
        out[:count, :count] = np.eye(count) * FOCUS_SIGMA**-2.0
        return out
    change = np.diff(np.eye(count), axis=0) / ZOOM_STEP
    out[:count, :count] = change.T @ change + (count * ZOOM_SIGMA) ** -2.0
    return out
