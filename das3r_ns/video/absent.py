"""A video that is not there any more: what is known of its frames without them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import numpy as np
from jaxtyping import Float

from das3r_ns.errors import Das3rError
from das3r_ns.video.clip import Clip, Grey, Image


class AbsentClip(Clip):
    """Names, times and size of frames that cannot be decoded: who asks for pictures is told so.

    Args:
        path: Where the video was.
        names: Of the frames.
        times: Seconds at which each was shown.
        size: Width and height of the video.
    """

    def __init__(self, path: Path, names: list[str], times: Float[np.ndarray, " N"], size: tuple[int, int]) -> None:
        super().__init__(path, len(names))
        self._names, self._times, self._size = names, times, size

    @property
    def num_source_frames(self) -> int:
        """Of those used, all."""
        return len(self._names)

    @property
    def sources(self) -> list[Path]:
        """None."""
        return []

    @property
    def names(self) -> list[str]:
        """Name of each frame."""
        return self._names

    @cached_property
    def times(self) -> Float[np.ndarray, " N"]:
        """Seconds at which each was shown."""
        return self._times

    @property
    def source_fps(self) -> float:
        """Frames per second of the frames used."""
        return (len(self._times) - 1) / max(float(self._times[-1] - self._times[0]), 1e-9)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the video."""
        return self._size

    @property
    def content_hash(self) -> str:
        """Cannot be told."""
        self._refuse()

    def glance(self, on_frame: Callable[[], None] = lambda: None, long_side: int = 0) -> Iterator[tuple[int, Grey]]:
        """Cannot be had."""
        del on_frame, long_side
        self._refuse()

    def original_images(self, on_frame: Callable[[], None] = lambda: None) -> Iterator[Image]:
        """Cannot be had."""
        del on_frame
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise Das3rError(
            f"This needs the frames of the video at their full size, and {self.path} is not there any more. Put it "
            "back where it was. Viewers and the exports of splats, cameras and points work without it."
        )
