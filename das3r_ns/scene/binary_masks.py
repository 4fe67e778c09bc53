"""From the dynamic probability to masks that say yes or no."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float

from das3r_ns.errors import Das3rError

MOVES = 0.5
"""Dynamic probability from which a pixel is in the mask, unless told otherwise."""


@dataclass(frozen=True)
class MaskSettings:
    """Which pixels are in a mask.

    Raises:
        Das3rError: A value makes no mask.
    """

    threshold: float = MOVES
    """Dynamic probability from which a pixel moves."""
    dilation: int = 0
    """Pixels by which the mask is grown after that, in every direction."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise Das3rError(
                f"A threshold of {self.threshold} makes no mask (--threshold): it is the dynamic probability from "
                "which a pixel moves. Take a number above 0 and up to 1; 0.5 is the default, less takes in more."
            )
        if self.dilation < 0:
            raise Das3rError(
                f"Masks cannot be grown by {self.dilation} pixels (--dilation): take 0 or more. To take in less, raise "
                "--threshold."
            )

    def mask(self, probability: Float[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
        """What moves, given the dynamic probability at the resolution that ``dilation`` is meant at."""
        moves = probability >= self.threshold
        if self.dilation == 0 or not moves.any():
            return moves
        # By distance, which costs the same for any radius.
        return cv2.distanceTransform((~moves).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= self.dilation
