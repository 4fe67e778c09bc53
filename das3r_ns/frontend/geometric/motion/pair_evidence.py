"""What one pair of frames says about motion, pixel by pixel, seen from its first frame."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float

from das3r_ns.frontend.geometric import pair_kernels as kernels

COLOUR_CAP = 60.0
"""Grey levels, summed over L, a and b, beyond which a difference in colour counts no more."""


COLOUR_DOUBT = 25.0
"""Difference in colour, likewise, at which a flow is half believed: smooth flow leads there and back over anything."""


@dataclass(frozen=True)
class PairEvidence:
    """Motion between two frames beyond what a static world would show."""

    residual: Float[np.ndarray, "H W 2"]
    """Flow minus the flow of a static world, in pixels."""
    scale: float
    """Robust standard deviation of that for what is static, in pixels."""
    significance: Float[np.ndarray, "H W"]
    """Length of the residual against its scale, 0 to 1."""
    excess: Float[np.ndarray, "H W"]
    """Colour error of the static prediction minus that of the flow, in grey levels: positive where only motion explains
    the picture."""
    expected: Float[np.ndarray, "H W"]
    """The colour error the static prediction would make if the pixel moved as the flow says: where it is small, an
    excess of zero means nothing."""
    static_error: Float[np.ndarray, "H W"]
    """Colour error of the static prediction, in grey levels."""
    trust: Float[np.ndarray, "H W"]
    """Whether following the flow there and back leads home, over the same colours, 0 to 1."""
    static_inside: Bool[np.ndarray, "H W"]
    """Whether the static prediction stays inside the other frame."""
    inside: Bool[np.ndarray, "H W"]
    """Whether both the flow and the static prediction stay inside the other frame."""


def pair_evidence(
    flow: Float[np.ndarray, "H W 2"],
    backward_error: Float[np.ndarray, "H W"],
    static_flow: Float[np.ndarray, "H W 2"],
    scale: float,
    here: Float[np.ndarray, "H W 3"],
    there: Float[np.ndarray, "H W 3"],
) -> PairEvidence:
    """Compare what the pair shows with what a static world would show.

    Args:
        flow: Optical flow from here to there, in pixels.
        backward_error: Distance by which following the flow there and back misses the start, in pixels.
        static_flow: Flow that a static world would show.
        scale: Robust standard deviation of the difference between both, in pixels.
        here: First frame, Lab of 8-bit range, slightly blurred.
        there: Second frame, likewise.
    """
    residual = flow - static_flow
    static_error, static_inside = colour_error(here, there, static_flow)
    flow_error, flow_inside = colour_error(here, there, flow)
    # A mover's own picture, carried back by its motion relative to the static world, is what lies at the static place.
    expected, _ = colour_error(here, here, -residual)
    return PairEvidence(
        residual=residual,
        scale=scale,
        significance=kernels.significance(residual, scale),
        excess=static_error - flow_error,
        expected=expected,
        static_error=static_error,
        trust=flow_trust(flow, backward_error) / (1 + (flow_error / COLOUR_DOUBT) ** 2),
        static_inside=static_inside,
        inside=static_inside & flow_inside,
    )


def flow_trust(flow: Float[np.ndarray, "H W 2"], backward_error: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """1 where following the flow there and back leads home, falling to 0; long ways may miss by more."""
    return kernels.trust(flow, backward_error)


def colour_error(
    here: Float[np.ndarray, "H W 3"], there: Float[np.ndarray, "H W 3"], flow: Float[np.ndarray, "H W 2"]
) -> tuple[Float[np.ndarray, "H W"], Bool[np.ndarray, "H W"]]:
    """Difference in colour between a frame and another one warped to it, and whether the flow stays inside."""
    x, y = kernels.places(flow, 1)
    warped = cv2.remap(there, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return kernels.differences(warped, here, x, y, COLOUR_CAP)


def motion_boundary(flow: Float[np.ndarray, "H W 2"], stride: int) -> Float[np.ndarray, "H W"]:
    """Strength of motion boundaries, 0 to about 1, after Papazoglou and Ferrari (ICCV 2013, section 3.1).

    Where the flow changes abruptly, or changes somewhat and turns as well.

    Args:
        flow: Optical flow, in pixels.
        stride: Distance of the frames; long ones have larger flow and smear its edges.
    """
    gradient = np.zeros(flow.shape[:2], np.float32)
    for component in np.moveaxis(flow, -1, 0):
        plane = np.ascontiguousarray(component)
        gradient += (cv2.Sobel(plane, cv2.CV_32F, 1, 0) / 8) ** 2 + (cv2.Sobel(plane, cv2.CV_32F, 0, 1) / 8) ** 2
    strength = 1 - np.exp(-(1.5 / np.sqrt(stride)) * np.sqrt(gradient))
    length = np.hypot(flow[..., 0], flow[..., 1])
    direction = np.moveaxis(flow / (length[..., None] + 0.3), -1, 0)
    direction = np.pad(direction, ((0, 0), (2, 2), (2, 2)), mode="edge")
    middle = direction[:, 2:-2, 2:-2]
    around = (direction[:, 4:, 2:-2], direction[:, :-4, 2:-2], direction[:, 2:-2, 4:], direction[:, 2:-2, :-4])
    differ = 1 - np.minimum.reduce([middle[0] * other[0] + middle[1] * other[1] for other in around])
    turn = np.where(length > 0.5, 1 - np.exp(-2 * differ), 0)
    return np.where(strength > 0.6, strength, 1.2 * strength * np.sqrt(turn))
