"""Where a picture repeats itself (nets, railings, tiles), so that optical flow and patches may find the next of a kind.

Such a match is no worse than the right one by anything that two pictures tell, and it errs alike for whatever repeats:
on a net before a wall, one mesh too far in every frame is a camera that goes on a third as far. It shows in one picture
alone: a patch that has a twin nearby. That is Lowe's ratio test (IJCV 2004, section 7.1), asked of the picture itself.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from numba import njit

REACH = 10
"""Pixels of the halved picture, either way, within which a patch may have a twin: what lies further apart is not taken
for one another from frame to frame."""

SIDE = 9
"""Side of a patch, in the same pixels."""

ALIKE = (0.6, 0.85)
"""Correlation with its twin from which a patch may be taken for it, and from which it is as good as the twin."""

VALLEY = 0.3
"""By how much less it must be alike half-way there: along an edge, or on a slope, everything is alike all the way."""

CLOSEST = 2
"""Pixels of the halved picture from which a twin can be told from the patch itself."""

NOISE = 1.5
"""Grey levels of these pixels, standard deviation, that are like nothing."""

LEAST = 0.05
"""What is left of the weight of a patch with a perfect twin: where all repeats, that must do."""


def distinctness(grey: UInt8[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """How surely what a pixel shows is not taken for its like beside it, :data:`LEAST` to 1, float16."""
    height, width = grey.shape
    half = cv2.resize(grey, (max(width // 2, 1), max(height // 2, 1)), interpolation=cv2.INTER_AREA)
    if min(half.shape) < SIDE + 2 * REACH:
        return np.ones(grey.shape, dtype=np.float16)
    twin = np.zeros(((half.shape[0] + 1) // 2, (half.shape[1] + 1) // 2), dtype=np.float32)
    _mark_twins(_likeness(half.astype(np.float32)), SIDE // 2, CLOSEST, VALLEY, twin)
    edge = 1 + SIDE // 4  # where no patch is whole, and every second pixel counts
    twin = cv2.copyMakeBorder(twin[edge:-edge, edge:-edge], edge, edge, edge, edge, cv2.BORDER_REPLICATE)
    low, high = ALIKE
    alone = np.clip((high - cv2.resize(twin, (width, height))) / (high - low), 0.0, 1.0)
    return (LEAST + (1.0 - LEAST) * alone).astype(np.float16)


def _likeness(picture: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "S T h w"]:
    """Correlation of the patch around every pixel with those up to REACH further on, and to either side.

    The first axis is how far down, from -1, the second how far to the right, from -REACH. Where either patch is not
    whole it means nothing.
    """

    def mean(values: Float[np.ndarray, "a b"]) -> Float[np.ndarray, "a b"]:
        return cv2.blur(values, (SIDE, SIDE))

    height, width = picture.shape
    middle = mean(picture)
    picture = picture - middle.mean()  # small numbers keep their digits when they are squared
    middle = mean(picture)
    sharpness = 1.0 / np.sqrt(np.maximum(mean(picture * picture) - middle * middle, 0.0) + NOISE**2)
    out = np.zeros((REACH + 2, 2 * REACH + 1, height, width), dtype=np.float32)
    for down in range(-1, REACH + 1):
        for right in range(-REACH, REACH + 1):
            here = np.s_[max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)]
            there = np.s_[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]
            covariance = mean(picture[here] * picture[there]) - middle[here] * middle[there]
            out[down + 1, right + REACH][here] = covariance * sharpness[here] * sharpness[there]
    return out


@njit(cache=True, nogil=True)
def _mark_twins(likeness, radius, closest, valley, twin):
    """Leave in ``twin``, of every second pixel, how alike the patch and its twin are; 0 where it has none.

    Args:
        likeness: See :func:`_likeness`.
        radius: Half side of a patch.
        closest: Least distance of a twin.
        valley: See VALLEY.
        twin: Zeros; pixels of both patches are marked.
    """
    downs, rights, height, width = likeness.shape
    reach, border = rights // 2, radius + 1  # a neighbour of the twin counts too
    for down in range(downs - 2):
        for right in range(1 - reach, reach):
            if down * down + right * right < closest * closest or (down == 0 and right < 0):
                continue
            d, r = down + 1, right + reach
            middle_d, middle_r = down // 2 + 1, int(right / 2) + reach
            for y in range(border + border % 2, height - border - down, 2):
                for x in range(border + max(-right, 0), width - border - max(right, 0)):
                    alike = likeness[d, r, y, x]
                    if x % 2 or alike <= twin[y // 2, x // 2] or alike - likeness[middle_d, middle_r, y, x] < valley:
                        continue
                    peak = True
                    for a in range(d - 1, d + 2):
                        for b in range(r - 1, r + 2):
                            peak &= likeness[a, b, y, x] <= alike
                    if peak:
                        twin[y // 2, x // 2] = alike
                        far = (y + down) // 2, (x + right) // 2
                        twin[far] = max(twin[far], alike)
