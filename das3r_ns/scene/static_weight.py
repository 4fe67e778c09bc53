"""Static weight of a pixel: from the dynamic probability, and as the 16-bit PNG that training reads."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from das3r_ns.errors import Das3rError
from das3r_ns.pictures import read_picture

MASK_THRESHOLD = 0.5
"""A pixel whose static weight is at least this is static in the binary mask."""


EDGE_RADIUS, EDGE_CONTRAST = 1, 0.01
"""Radius in pixels of the working size of the windows in which a probability follows the colours, and the contrast
(standard deviation, white = 1) from which on it does."""


def static_weight(
    dynamic_probability: Float[np.ndarray, "H W"],
    dilation: int,
    size: tuple[int, int],
    picture: UInt8[np.ndarray, "h w 3"] | None = None,
) -> Float[np.ndarray, "h w"]:
    """Static weight W = 1 - dynamic probability, with what moves grown by a few pixels.

    Pixels on the outline of a mover mix its colour with the background (blur, antialiasing, chroma subsampling), so
    they take the highest probability found within ``dilation`` pixels: losing a thin band of background costs nothing,
    for other frames see it, while a mixed pixel bleeds the mover into the scene.

    Args:
        dynamic_probability: 1 = moves, at the working resolution.
        dilation: Radius in pixels of the working resolution; 0 leaves the outline alone.
        size: Width and height of the result.
        picture: The frame at that size, whose edges a larger result follows; interpolated without.

    Returns:
        Weights in [0, 1], float32.
    """
    moves, radius = dynamic_probability.astype(np.float32), dilation
    if picture is not None and size[0] > moves.shape[1]:
        radius = round(dilation * size[0] / moves.shape[1])
        moves = enlarged_along_edges(moves, picture)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    moves = cv2.dilate(moves, kernel)
    if (moves.shape[1], moves.shape[0]) != size:
        moves = cv2.resize(moves, size, interpolation=cv2.INTER_LINEAR)
    return np.clip(1.0 - moves, 0.0, 1.0)


def enlarged_along_edges(
    values: Float[np.ndarray, "H W"], picture: UInt8[np.ndarray, "h w 3"]
) -> Float[np.ndarray, "h w"]:
    """A map at the size of a picture, its edges where the picture has them.

    The fast guided filter (He and Sun, arXiv 1505.00996): in small windows the values are a linear function of the
    colours, found at the map's own size and applied at the picture's. What comes out stays between the values round it.

    Args:
        values: At the smaller size, float32.
        picture: At the larger one.
    """
    height, width = picture.shape[:2]
    side = 2 * EDGE_RADIUS + 1

    def mean(maps: np.ndarray) -> np.ndarray:
        flat = maps.reshape(*values.shape, -1)
        return np.stack([cv2.blur(flat[..., i], (side, side)) for i in range(flat.shape[2])], axis=-1)

    small = cv2.resize(picture, values.shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    colour, value = mean(small), mean(values)
    spread = mean(small[..., :, None] * small[..., None, :]).reshape(*small.shape, 3)
    spread += EDGE_CONTRAST**2 * np.eye(3, dtype=np.float32) - colour[..., :, None] * colour[..., None, :]
    together = mean(small * values[..., None]) - colour * value
    slope = np.linalg.solve(spread, together[..., None])[..., 0]
    offset = value - (slope * colour).sum(axis=-1, keepdims=True)
    line = cv2.resize(mean(np.concatenate([slope, offset], axis=-1)), (width, height), interpolation=cv2.INTER_LINEAR)
    found = (line[..., :3] * picture).sum(axis=-1) / 255 + line[..., 3]
    window = np.ones((3, 3), np.uint8)
    least, most = (
        cv2.resize(extreme(values, window), (width, height), interpolation=cv2.INTER_LINEAR)
        for extreme in (cv2.erode, cv2.dilate)
    )
    return np.clip(found, least, most).astype(np.float32)


def read_static_weight(filename: Path, size: tuple[int, int] | None = None) -> Float[np.ndarray, "H W"]:
    """Static weight W in [0, 1] from a 16-bit PNG, resized to ``size`` (width, height) if given and different.

    Raises:
        Das3rError: The file is missing or no 16-bit grey picture.
    """
    stored = read_picture(filename, cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != np.uint16 or stored.ndim != 2:
        raise Das3rError(
            f"The static weight {filename} is missing or damaged. Delete its folder, it is made again then."
        )
    weight = stored.astype(np.float32) / 65535.0
    if size is not None and (weight.shape[1], weight.shape[0]) != size:
        weight = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
    return weight
