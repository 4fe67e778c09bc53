"""Static weight of a pixel: from the dynamic probability, and as the 16-bit PNG that training reads."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float

from das3r_ns.errors import Das3rError

MASK_THRESHOLD = 0.5
"""A pixel whose static weight is at least this is static in the binary mask."""


def static_weight(
    dynamic_probability: Float[np.ndarray, "H W"], dilation: int, size: tuple[int, int]
) -> Float[np.ndarray, "h w"]:
    """Static weight W = 1 - dynamic probability, with what moves grown by a few pixels.

    Pixels on the outline of a mover mix its colour with the background (blur, antialiasing, chroma subsampling), so
    they take the highest probability found within ``dilation`` pixels: losing a thin band of background costs nothing,
    for other frames see it, while a mixed pixel bleeds the mover into the scene.

    Args:
        dynamic_probability: 1 = moves, at the working resolution.
        dilation: Radius in pixels of the working resolution; 0 leaves the outline alone.
        size: Width and height of the result.

    Returns:
        Weights in [0, 1], float32.
    """
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * dilation + 1, 2 * dilation + 1))
    moves = cv2.dilate(dynamic_probability.astype(np.float32), kernel)
    if (moves.shape[1], moves.shape[0]) != size:
        moves = cv2.resize(moves, size, interpolation=cv2.INTER_LINEAR)
    return np.clip(1.0 - moves, 0.0, 1.0)


def read_static_weight(filename: Path, size: tuple[int, int] | None = None) -> Float[np.ndarray, "H W"]:
    """Static weight W in [0, 1] from a 16-bit PNG, resized to ``size`` (width, height) if given and different.

    Raises:
        Das3rError: The file is missing or no 16-bit grey picture.
    """
    stored = cv2.imread(str(filename), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != np.uint16 or stored.ndim != 2:
        raise Das3rError(
            f"The static weight {filename} is missing or damaged. Delete its folder, it is made again then."
        )
    weight = stored.astype(np.float32) / 65535.0
    if size is not None and (weight.shape[1], weight.shape[0]) != size:
        weight = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
    return weight
