"""Optical flow of pairs of frames, computed once and shared by every step that needs motion."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from das3r_ns.frontend.geometric import pair_kernels as kernels
from das3r_ns.frontend.pairs import Pair

AGREEMENT = 1.0
"""Pixels by which a flow may miss its start on the way back and still count as right."""


@dataclass
class PairFlows:
    """Flow fields of directed pairs, all at one resolution (H x W)."""

    height: int
    width: int
    num_frames: int
    fields: dict[Pair, Float[np.ndarray, "H W 2"]]
    """Displacement (x, y) in pixels of this resolution, float16 to halve the memory; read through :meth:`flow`."""
    texture: Float[np.ndarray, "N H W"]
    """How well the picture pins the flow down in every direction: grey levels of :func:`picture_texture`, float16."""
    backgrounds: dict[Pair, Any] = field(default_factory=dict)
    """What ``motion.background_flow`` has fitted to some of them, kept for a second look."""

    @property
    def pairs(self) -> list[Pair]:
        """The directed pairs there are, sorted."""
        return sorted(self.fields)

    def section(self, frames: range) -> PairFlows:
        """The flows within a run of frames, which are counted from its first one; the fields are shared, not copied."""
        fields = {
            (i - frames.start, j - frames.start): flow
            for (i, j), flow in self.fields.items()
            if i in frames and j in frames
        }
        return PairFlows(self.height, self.width, len(frames), fields, self.texture[frames.start : frames.stop])

    def flow(self, i: int, j: int) -> Float[np.ndarray, "H W 2"]:
        """Displacement from frame i to frame j, float32 pixels."""
        return self.sampled(i, j, 1)

    def sampled(self, i: int, j: int, step: int) -> Float[np.ndarray, "h w 2"]:
        """:meth:`flow` at every so many rows and columns."""
        field = self.fields[i, j][::step, ::step]
        if field.dtype != np.float16:
            return np.array(field, dtype=np.float32)
        return kernels.widened(np.ascontiguousarray(field).view(np.uint16))

    def backward_error(self, i: int, j: int, step: int = 1) -> Float[np.ndarray, "h w"]:
        """Distance in pixels by which following i -> j -> i misses the start; inf where the flow leaves the frame.

        Needs the mirror pair (j, i).

        Args:
            i: Frame the flow starts from.
            j: Frame it leads to.
            step: Look at every so many rows and columns only.
        """
        there = self.sampled(i, j, step)
        x, y = kernels.places(there, step)
        back = cv2.remap(self.flow(j, i), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return kernels.missed(there, back, x, y, self.width, self.height)


def pixel_grid(height: int, width: int) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Integer column and row of every pixel, float32, as OpenCV's ``remap`` counts them (first pixel at 0)."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return x, y


def picture_texture(grey: UInt8[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Grey levels per pixel by which the picture changes along its least changing direction, within 7 x 7 pixels.

    The root of the smaller eigenvalue of the mean structure tensor (Shi and Tomasi, CVPR 1994): near zero on plain
    ground and along straight edges, where optical flow is a guess.
    """
    eigenvalue = cv2.cornerMinEigenVal(grey, blockSize=7, ksize=3)
    # A ramp of 1 grey level a pixel has the eigenvalue (2 / 255)^2 in OpenCV's scaling of 8-bit pictures.
    return (np.sqrt(np.maximum(eigenvalue, 0.0)) * (255 / 2)).astype(np.float16)
