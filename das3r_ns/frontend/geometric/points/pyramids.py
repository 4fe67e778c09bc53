"""The frames in grey, at one size after the other, and maps of them at other sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

MEMORY = 512e6
"""Bytes that the grey frames may take at full size; those of longer and larger videos are shrunk to it."""

SMALLEST = 120
"""Pixels of the longer side below which pyramids go no further."""


@dataclass(frozen=True)
class Pyramids:
    """The grey frames at one size after the other, each half the one before."""

    levels: list[list[UInt8[np.ndarray, "h w"]]]
    """Of every frame, from fine to coarse."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the finest level."""
        height, width = self.levels[0][0].shape
        return width, height


def build_pyramids(
    frames: Iterable[UInt8[np.ndarray, "H W 3"]], count: int, on_frame: Callable[[], None] = lambda: None
) -> Pyramids:
    """Grey pyramids of the frames, which are read one after the other: one only is in memory with its colours.

    Args:
        frames: RGB frames, all of one size.
        count: How many are wanted; the iterator may go on.
        on_frame: Called after each frame.

    Raises:
        ValueError: If there are fewer.
    """
    levels: list[list[np.ndarray]] = []
    for frame in frames:
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        scale = math.sqrt(MEMORY / (count * grey.size))
        if scale < 1.0:
            grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        pyramid = [grey]
        while max(pyramid[-1].shape) >= 2 * SMALLEST:
            pyramid.append(cv2.pyrDown(pyramid[-1]))
        levels.append(pyramid)
        on_frame()
        if len(levels) == count:
            return Pyramids(levels)
    raise ValueError(f"{count} frames are wanted, but there are only {len(levels)}")


def sample_map(
    values: Float[np.ndarray, "h w"], points: Float[np.ndarray, "K 2"], size: tuple[int, int]
) -> Float[np.ndarray, " K"]:
    """Values, bilinear, of a map at points of the same picture at another size (width, height)."""
    height, width = values.shape
    # A column: OpenCV 4 takes a list for one, OpenCV 5 for a row.
    x = (points[:, :1] * width / size[0] - 0.5).astype(np.float32)
    y = (points[:, 1:] * height / size[1] - 0.5).astype(np.float32)
    return cv2.remap(values.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]
