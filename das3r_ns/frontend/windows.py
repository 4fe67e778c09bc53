"""A long video as overlapping windows, each short enough to be predicted and aligned at once."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float, Int

from das3r_ns.errors import Das3rError

MIN_SHARED = 3
"""Frames that neighbouring windows share at least: fewer cameras do not pin a similarity down."""

AT_ONCE = 150
"""Frames that the front end without weights solves at once at most."""

WINDOW, AGAIN = 120, 0.2
"""Frames of the windows in which it solves more, and the share of them that the next window repeats."""

POOR_FIT = 0.1
"""Share of the extent of the points by which two windows may differ before the user is told."""


def overlapping_windows(num_frames: int, size: int, overlap: float) -> list[range]:
    """Windows of equal size, evenly spread, that cover a video.

    Args:
        num_frames: Length of the video.
        size: Frames in a window; a video that is hardly longer is one window of all its frames.
        overlap: Share of a window that the next one repeats at least, 0 to 1.

    Returns:
        The frames of each window; neighbours share :data:`MIN_SHARED` frames at least.

    Raises:
        Das3rError: Windows too short to overlap, or an overlap that is none.
    """
    if not 0.0 <= overlap < 1.0:
        raise Das3rError(f"Windows cannot share {overlap:g} of their frames (--window-overlap): take 0.5.")
    if size < 2 * MIN_SHARED:
        raise Das3rError(f"Windows of {size} frames are too short to overlap (--window): take 100, or 20 at least.")
    if num_frames <= size:
        return [range(num_frames)]
    shared = min(size - 1, max(MIN_SHARED, math.ceil(overlap * size)))
    count = 1 + math.ceil((num_frames - size) / (size - shared))
    starts = [round(number * (num_frames - size) / (count - 1)) for number in range(count)]
    return [range(start, start + size) for start in starts]


def fade_in(numbers: Int[np.ndarray, " M"], known: Bool[np.ndarray, " N"]) -> Float[np.ndarray, " M"]:
    """Share of a new window in each of its frames: 1 where it is alone, rising from 0 in those known from before.

    Args:
        numbers: The frames of the window.
        known: Which frames of the video the windows before it have.
    """
    share = np.ones(len(numbers))
    shared = np.flatnonzero(known[numbers])
    share[shared] = (np.arange(len(shared)) + 1.0) / (len(shared) + 1.0)
    return share


def badly_joined(first: int, last: int, misfit: float) -> str:
    """What to tell the user of a window that fits those before it badly.

    Args:
        first: Its first frame.
        last: Its last one.
        misfit: What remains, as a share of the extent of the points.
    """
    return (
        f"Frames {first} to {last} fit those before them badly ({100 * misfit:.0f} % off); the camera may jump there."
    )
