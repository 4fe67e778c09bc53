"""Frames without what is fixed to the camera."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8


def painted_over(images: UInt8[np.ndarray, "N H W 3"], fixed: Bool[np.ndarray, "H W"]) -> UInt8[np.ndarray, "N H W 3"]:
    """Frames in which what is fixed is filled smoothly from around it, so that optical flow is not held by its edges.

    The colours of the pixels around, averaged over ever coarser pictures until each has some (push-pull; Gortler et
    al., SIGGRAPH 1996, section 3.4).

    Args:
        images: RGB frames.
        fixed: True = fixed.
    """
    weight = (~fixed).astype(np.float32)[..., None]

    def one(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
        filled = _filled(image * weight, weight[..., 0])
        return np.where(fixed[..., None], np.rint(filled).astype(np.uint8), image)

    return np.stack([one(image) for image in images])


def _filled(colour: Float[np.ndarray, "H W 3"], weight: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W 3"]:
    """Colours times their weights, 0 to 1, over the weights; from a coarser picture as far as those fall short of 1."""
    if min(weight.shape) > 1:
        size = weight.shape[1::-1]
        sums, weights = cv2.pyrDown(colour), cv2.pyrDown(weight)
        # Half of a coarse pixel known is known well enough.
        full = np.minimum(2 * weights, 1) / np.maximum(weights, 1e-6)
        coarse = _filled(sums * full[..., None], weights * full)
        colour = colour + (1 - weight)[..., None] * cv2.resize(coarse, size, interpolation=cv2.INTER_LINEAR)
    return colour
