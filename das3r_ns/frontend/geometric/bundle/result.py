"""What the bundle adjustment found."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from das3r_ns.frontend.geometric.bundle.known_poses import lenses
from das3r_ns.frontend.geometric.bundle.optics import Optics
from das3r_ns.scene import geometry as geo
from das3r_ns.scene.estimate import CameraKind


@dataclass
class BundleResult:
    """What the bundle adjustment found, in pixels of the flow resolution.

    The world frame is the camera frame of frame 0; the median inverse depth is 1.
    """

    width: int
    """Width of the flow, in pixels."""
    height: int
    """Height of the flow, in pixels."""
    c2w_cv: Float[np.ndarray, "N 4 4"]
    """Camera-to-world, OpenCV axes, float64."""
    focal: float
    """Shared focal in pixels of the flow; the principal point is the centre of the picture."""
    focal_std: float
    """Standard error of log focal as the flow alone determines it; large where it does not."""
    points: Float[np.ndarray, "N gh gw 2"]
    """Image coordinates of the depth samples: the best-textured pixel of each cell of the grid."""
    inverse_depth: Float[np.ndarray, "N gh gw"]
    """One over camera z at those points, positive."""
    information: Float[np.ndarray, "N gh gw"]
    """Information (one over the variance) that the flow holds on each inverse depth, 0 = the depth is a guess."""
    residual: float
    """Weighted median residual of the flow against the static world, in pixels."""
    camera_kind: CameraKind = "general"
    """Whether the depth could be measured at all."""
    messages: list[str] = field(default_factory=list)
    """What the user should know, a sentence or two each."""
    known_intrinsics: Float[np.ndarray, "N 3 3"] | None = None
    """Camera matrix of every frame where the cameras were known; the focal is their median then."""
    zoom: Float[np.ndarray, " N"] | None = None
    """Focal of every frame over the shared one where the clip zooms; their geometric mean is 1."""
    bend: tuple[float, float] | None = None
    """OpenCV's k1 and k2 of a lens that bends. ``points`` are those of the pictures as filmed; all else fits them once
    they are straightened."""
    readout: float | None = None
    """Share of the frame time from the first row to the last one, where the rows are read one after the other. All
    else fits pictures of which every row is as the middle one sees it."""
    swing: Float[np.ndarray, "N 3"] | None = None
    """By how much each camera turns faster while it is read than the path through all poses says; see ``swing``."""
    unit: float = 1.0
    """Length of 1 of this result in units of the known cameras."""

    @property
    def intrinsics(self) -> Float[np.ndarray, "3 3"]:
        """Pinhole matrix in pixels of the flow resolution."""
        return geo.pinhole(self.focal, self.width, self.height)

    @property
    def frame_intrinsics(self) -> Float[np.ndarray, "N 3 3"]:
        """Camera matrix of every frame in pixels of the flow resolution."""
        if self.known_intrinsics is not None:
            return self.known_intrinsics
        out = np.repeat(self.intrinsics[None], len(self.c2w_cv), axis=0)
        if self.zoom is not None:
            out[:, [0, 1], [0, 1]] *= self.zoom[:, None]
        return out

    def relative(self, i: int, others: list[int]) -> Float[np.ndarray, "M 4 4"]:
        """Motion from frame i to others, for kernels that see every frame through ``intrinsics``.

        Cameras of their own, known or zoomed, are folded in, which leaves no rigid motion (see ``State.lens``).
        """
        w2c = geo.invert_rigid(self.c2w_cv)
        if self.known_intrinsics is None and self.zoom is None:
            return w2c[others] @ geo.invert_rigid(w2c[i])
        folded = lenses(self.frame_intrinsics, self.intrinsics) @ w2c
        return folded[others] @ np.linalg.inv(folded[i])

    @property
    def optics(self) -> Optics | None:
        """Zoom, bend and read-out as the solver has them; None = none of them."""
        if self.zoom is None and self.bend is None and self.readout is None:
            return None
        zoom = np.zeros(len(self.c2w_cv)) if self.zoom is None else np.log(self.zoom)
        bend = (0.0, 0.0) if self.bend is None else self.bend
        optics = Optics.of_lens(zoom, bend, self.focal, np.array([self.width, self.height]) / 2)
        return replace(optics, readout=self.readout or 0.0, swing=self.swing)
