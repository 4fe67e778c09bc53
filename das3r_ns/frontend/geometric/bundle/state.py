"""The unknowns of a bundle adjustment, and the terms under which they are sought."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from das3r_ns.frontend.geometric.bundle.optics import Optics

FINE_SMOOTHNESS = 1e-4
"""Smoothness of the inverse depths (see ``Terms``) once cameras lie near their places: enough for points that nothing
else determines; more flattens the depth and raises the focal."""


@dataclass
class State:
    """The unknowns of a bundle adjustment."""

    w2c: Float[np.ndarray, "N 4 4"]
    """World-to-camera, OpenCV axes."""
    inverse_depth: Float[np.ndarray, "N K"]
    """One over camera z of every frame's points."""
    focal: float
    """The shared one, in pixels of the samples."""
    lens: Float[np.ndarray, "N 4 4"] | None = None
    """Where every frame has a known camera matrix K_i of its own: K^-1 K_i, with K the pinhole that the kernels know.
    K^-1 K_j [R | t] (K^-1 K_i)^-1 stands for the relative pose [R | t] then. It is no rigid motion, so the derivatives
    for poses and focal mean nothing and all frames must be held; those for inverse depths hold for any matrix."""
    optics: Optics | None = None
    """How the frames depart from the pinhole; None = not at all."""

    @property
    def focals(self) -> Float[np.ndarray, " N"]:
        """Focal of every frame."""
        focals = np.full(len(self.w2c), self.focal)
        return focals if self.optics is None else focals * np.exp(self.optics.zoom)


@dataclass(frozen=True)
class Robust:
    """Scale of the Geman-McClure weights of every edge, in pixels: w = 1 / (1 + (r / s)^2)^2."""

    scale: Float[np.ndarray, " E"]

    def weights(self, residual: Float[np.ndarray, "M K"], edges: slice) -> Float[np.ndarray, "M K"]:
        """Weights in 1 / px^2; zero where a point has no projection (residual < 0)."""
        square = self.scale[edges, None] ** 2
        return np.where(residual >= 0, 1.0 / (square * (1.0 + residual**2 / square) ** 2), 0.0)

    def cost(self, residual: Float[np.ndarray, "M K"], edges: slice) -> Float[np.ndarray, "M K"]:
        """Loss of each residual, 0 to 1; 1 where a point has no projection."""
        square = self.scale[edges, None] ** 2
        return np.where(residual >= 0, residual**2 / (square + residual**2), 1.0)


@dataclass(frozen=True)
class Terms:
    """What is solved for and held besides the flow."""

    focal: bool = True
    """Whether the shared focal moves, unless it is known, and with it what all frames share of the optics."""
    translation: bool = True
    """False: the camera only turns; the inverse depths must be zero."""
    held: Bool[np.ndarray, " N"] | None = None
    """Frames whose poses stay; None = frame 0 alone, which fixes the gauge."""
    focal_prior: bool = True
    """Whether the focal is drawn to what videos usually have."""
    near: bool = False
    """Whether some points may be far nearer than most. What is beyond the bounds of the inverse depth is not drawn back
    then, and what pushes against them is no unknown: otherwise a few near points hold up all the others. But the way
    from a wild guess leads into wrong places more often."""
    smoothness: float = 1e-3
    """Weight of the prior that an inverse depth is the mean of its neighbours, as a share of the median information."""


def normalise_scale(state: State) -> State:
    """The same solution in units where the median inverse depth is 1."""
    scale = float(np.median(state.inverse_depth))
    if scale <= 0:
        return state
    w2c = state.w2c.copy()
    w2c[:, :3, 3] *= scale
    return replace(state, w2c=w2c, inverse_depth=state.inverse_depth / scale)
