"""In how many frames a static point is seen, where movers hide it in others."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

SAME_DEPTH = 0.02
"""Share of its depth that a point may lie behind what a frame shows and still be seen there. With the exact depth of
synthetic scenes anything from 1 to 2 % finds their own observed pixels, to 0.1 %."""


def grown(masks: Bool[np.ndarray, "N H W"]) -> Bool[np.ndarray, "N H W"]:
    """Masks and the pixels beside them."""
    return np.stack([cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0 for mask in masks])


def observed_count(
    number: int,
    masked: Bool[np.ndarray, "N H W"],
    clean_depth: Float[np.ndarray, "N H W"],
    c2w_cv: Float[np.ndarray, "N 4 4"],
    focal: float,
) -> UInt8[np.ndarray, "H W"]:
    """In how many frames (255 = as many or more) the static point behind each pixel of one is visible, not masked.

    It is visible where no static surface lies in front of it, by more than SAME_DEPTH of its depth: at one of the nine
    pixels about its place at least, since a point at the edge of something nearer falls on either side of that edge.

    Args:
        number: The one frame.
        masked: What moves in every frame.
        clean_depth: Camera z without what moves; positive.
        c2w_cv: Camera-to-world of every frame, OpenCV axes.
        focal: In pixels; the principal point is the middle of the picture.
    """
    n, height, width = masked.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) + np.float32(0.5)
    depth = clean_depth[number].astype(np.float32)
    local = np.stack([(x - width / 2) / focal * depth, (y - height / 2) / focal * depth, depth]).reshape(3, -1)
    count = np.zeros(height * width, np.int32)
    for other in range(n):
        between = np.linalg.inv(c2w_cv[other]) @ c2w_cv[number]
        seen = between[:3, :3].astype(np.float32) @ local.astype(np.float32) + between[:3, 3:].astype(np.float32)
        z = np.maximum(seen[2], 1e-6)
        column = np.floor(seen[0] / z * focal + width / 2).clip(-1, width).astype(np.int32)
        row = np.floor(seen[1] / z * focal + height / 2).clip(-1, height).astype(np.int32)
        within = (seen[2] > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        place = row.clip(0, height - 1) * width + column.clip(0, width - 1)
        farthest = cv2.dilate(clean_depth[other].astype(np.float32), np.ones((3, 3), np.uint8))
        visible = farthest.ravel()[place] > z * (1 - SAME_DEPTH)
        count += within & visible & ~masked[other].ravel()[place]
    return count.clip(max=255).astype(np.uint8).reshape(height, width)
