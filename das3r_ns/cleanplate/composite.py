"""One clean plate: the frame where it shows the static scene, the render elsewhere, and no visible seam between."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float

from das3r_ns.splats.staticness import static_weight_posterior

STATIC = 0.9
"""Pixels less probably static than this are replaced: what is left of a mover shows, a rendered pixel hardly does."""
REFERENCE_SIDE = 480
"""Long side of the picture for which the lengths below are given, in pixels; they grow with the picture."""
SMOOTHING, SPECK, GROWTH, BAND = 2.0, 1.0, 2.0, 3.0
"""Radius over which residuals are averaged, radius of specks that are ignored, growth of what is replaced (outlines mix
the mover's colour in), and width of the ramp, inside what is replaced, from the frame to the render."""
EXPOSURE_REACH = 0.1
"""Distance over which the exposure is matched, relative to the longer side. Far wider than a shadow at the feet of a
mover, which is a difference between frame and render too and must not be carried into the plate."""
MAX_GAIN = 1.5
"""Largest factor (and inverse of the smallest) between the exposure of frame and render."""


def length(pixels: float, size: tuple[int, int]) -> int:
    """A length given for REFERENCE_SIDE, in pixels of a picture of ``size``; at least 1."""
    return max(1, round(pixels * max(size) / REFERENCE_SIDE))


def disk(radius: int) -> np.ndarray:
    """Structuring element."""
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def replaced_pixels(
    static_weight: Float[np.ndarray, "H W"],
    render: Float[np.ndarray, "H W 3"],
    frame: Float[np.ndarray, "H W 3"],
    device: torch.device | str = "cpu",
) -> Bool[np.ndarray, "H W"]:
    """Which pixels of a frame do not show the static scene.

    The front end's masks miss thin limbs and take static things along. The trained scene knows better: by Bayes' rule
    (:func:`das3r_ns.splats.staticness.static_weight_posterior`) a pixel far off the render is a mover's although the
    front end has not seen it, and one like the render stays although the front end doubted it.

    Args:
        static_weight: Of the front end, 1 = static.
        render: The static scene at this camera, 0 to 1.
        frame: The frame, 0 to 1.
        device: Where to compute.
    """
    size = (frame.shape[1], frame.shape[0])
    posterior = static_weight_posterior(
        torch.from_numpy(static_weight)[..., None].to(device),
        torch.from_numpy(render).to(device),
        torch.from_numpy(frame).to(device),
        window=2 * length(SMOOTHING, size) + 1,
    )
    moves = (posterior[..., 0] < STATIC).to(torch.uint8).cpu().numpy()
    moves = cv2.morphologyEx(moves, cv2.MORPH_OPEN, disk(length(SPECK, size)))
    return cv2.dilate(moves, disk(length(GROWTH, size))) > 0


def exposure_gain(
    frame: Float[np.ndarray, "H W 3"], render: Float[np.ndarray, "H W 3"], static: Bool[np.ndarray, "H W"]
) -> Float[np.ndarray, "H W 3"]:
    """Factor per pixel and channel that brings the render to the frame's exposure.

    Ratio of the two pictures' local means over static pixels: smooth, defined everywhere, and 1 where nothing near by
    is static.

    Args:
        frame: The frame, 0 to 1.
        render: The static scene at this camera.
        static: Pixels that show it in both.
    """
    height, width = static.shape
    # A smooth field: computed on a small picture, where wide filters cost nothing.
    scale = min(1.0, 96 / max(width, height))
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    weight = static.astype(np.float32)[..., None]
    means = []
    for picture in (frame * weight, render * weight):
        means.append(
            cv2.GaussianBlur(
                cv2.resize(picture, small, interpolation=cv2.INTER_AREA), (0, 0), EXPOSURE_REACH * max(small)
            )
        )
    # The constant, a hundredth of white, leaves dark surroundings and those without a static pixel alone.
    gain = np.clip((means[0] + 0.01) / (means[1] + 0.01), 1 / MAX_GAIN, MAX_GAIN)
    return cv2.resize(gain, (width, height), interpolation=cv2.INTER_LINEAR)


def blend(
    frame: Float[np.ndarray, "H W 3"], render: Float[np.ndarray, "H W 3"], replaced: Bool[np.ndarray, "H W"]
) -> Float[np.ndarray, "H W 3"]:
    """Put the render into the frame.

    Pixels outside ``replaced`` are the frame's, to the bit. Inside, a ramp leads from the frame to the render at
    matched exposure.

    Args:
        frame: The frame, 0 to 1.
        render: The static scene at this camera, 0 to 1.
        replaced: Which pixels to replace.
    """
    if not replaced.any():
        return frame
    size = (frame.shape[1], frame.shape[0])
    matched = np.clip(render * exposure_gain(frame, render, ~replaced), 0.0, 1.0)
    # Padded, so that the edge of the picture is no edge of what is replaced.
    inside = cv2.copyMakeBorder(replaced.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 5)[1:-1, 1:-1]
    share = np.clip(distance / (length(BAND, size) + 1), 0.0, 1.0)[..., None]
    return np.where(replaced[..., None], frame + share * (matched - frame), frame)
