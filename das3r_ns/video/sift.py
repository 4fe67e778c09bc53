"""Keypoints that are told by what they look like, wherever in the picture they are (SIFT; Lowe, IJCV 2004)."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

DISTINCT = 0.8
"""Distance of the best descriptor, in that of the second best, up to which a match is no chance (section 7.1)."""


def find_keypoints(
    grey: UInt8[np.ndarray, "H W"], number: int, contrast: float = 0.04
) -> tuple[Float[np.ndarray, "K 2"], Float[np.ndarray, "K 128"]]:
    """Places and descriptors of the most distinct keypoints of a picture.

    Args:
        grey: The picture.
        number: Of keypoints, at most.
        contrast: Least contrast of one, as OpenCV counts it.

    Returns:
        Places as OpenCV has them, in pixels from the centre of the first one; and what tells them.
    """
    sift = cv2.SIFT.create(nfeatures=number, contrastThreshold=contrast)
    found, descriptors = sift.detectAndCompute(grey, None)  # pyright: ignore[reportCallIssue, reportArgumentType]
    places = np.array([point.pt for point in found], np.float32).reshape(-1, 2)
    return places, np.empty((0, 128), np.float32) if descriptors is None else descriptors


def distinct_matches(
    here: Float[np.ndarray, "K 128"], there: Float[np.ndarray, "L 128"]
) -> tuple[Int[np.ndarray, " M"], Int[np.ndarray, " M"]]:
    """Numbers of keypoints of one picture that have a match in another by far better than the next, and of the match.

    Several may have the same match.
    """
    if len(here) == 0 or len(there) < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    pairs = [
        (best.queryIdx, best.trainIdx)
        for best, second in cv2.BFMatcher().knnMatch(here, there, k=2)
        if best.distance < DISTINCT * second.distance
    ]
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    return first, second
