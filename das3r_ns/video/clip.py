"""A video as the front end sees it: named frames, upright, in time order, at two sizes.

A folder of images and a video file look the same from outside. Opening is cheap; frames are decoded when asked for.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterator
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from das3r_ns.workers import workers

Image = UInt8[np.ndarray, "H W 3"]
"""An upright RGB picture."""

MIN_FRAMES = 2
MIN_SIDE = 32
"""Shorter side in pixels under which there is nothing for optical flow to hold on to."""
THREADS = workers(100 << 20)
"""Readers of pictures; each holds two, which may be a phone's twelve megapixels."""


class Clip(ABC):
    """The frames of one video within the frame budget.

    Args:
        path: The folder that holds the images, or the video file.
        max_frames: Frame budget; longer videos are thinned evenly.
    """

    def __init__(self, path: Path, max_frames: int) -> None:
        self.path = path
        self.max_frames = max_frames
        self.lost: list[int] = []
        """Positions of wanted frames that did not decode, known once all have been asked for."""

    @property
    @abstractmethod
    def num_source_frames(self) -> int:
        """Length of the video before thinning."""

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """Name of each frame used."""

    @property
    @abstractmethod
    def fps(self) -> float:
        """Frames per second of the frames used."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Width and height of the video, upright, in pixels."""

    @property
    @abstractmethod
    def content_hash(self) -> str:
        """Hash of everything the decoded frames depend on.

        It covers the bytes of the files rather than decoded pixels: reading is many times quicker than decoding, so a
        cache is found without decoding anything, and a change of the decoder does not orphan caches.
        """

    @abstractmethod
    def original_images(self, on_frame: Callable[[], None] = lambda: None) -> Iterator[Image]:
        """Each frame used, in order, at the size of the video, less those of a damaged file that are :attr:`lost`.

        Raises:
            Das3rError: A frame cannot be decoded or differs in size.
        """

    @cached_property
    def indices(self) -> list[int]:
        """Positions of the frames used among all frames, spread evenly from the first to the last."""
        return spread(self.num_source_frames, self.max_frames)

    def without(self, names: Container[str]) -> Clip:
        """The same clip less the frames of these names."""
        clip = copy.copy(self)
        for dependent in {"files", "content_hash"} & set(vars(clip)):
            delattr(clip, dependent)
        clip.indices = [i for i, name in zip(self.indices, self.names, strict=True) if name not in names]
        return clip

    @property
    def remarks(self) -> list[str]:
        """What to tell the user about how the video is read, before anything is computed."""
        used = len(spread(self.num_source_frames, self.max_frames))
        if used == self.num_source_frames:
            return []
        return [
            f"{self.path} has {self.num_source_frames} frames; {used} of them, evenly spread, are used (--max-frames)."
        ]

    def working_images(
        self, long_side: int, on_frame: Callable[[], None] = lambda: None
    ) -> UInt8[np.ndarray, "N H W 3"]:
        """All frames at the working resolution, less those of a damaged file that are :attr:`lost`.

        Args:
            long_side: Longer side in pixels; see :func:`working_size`.
            on_frame: Called after each frame.

        Raises:
            Das3rError: A frame cannot be decoded or differs in size.
        """
        return np.stack([shrink(image, long_side) for image in self.original_images(on_frame)])


def spread(count: int, budget: int) -> list[int]:
    """At most ``budget`` of ``count`` positions, evenly spread from the first to the last."""
    if count <= budget:
        return list(range(count))
    return [round(i * (count - 1) / (budget - 1)) for i in range(budget)]


def listed(numbers: list[int]) -> str:
    """Sorted numbers for a person, runs of them shortened: ``3, 7-12``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs)


def working_size(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """Width and height with the longer side at ``long_side`` at most, both even (video codecs ask for it)."""
    scale = min(1.0, long_side / max(size))
    return 2 * round(size[0] * scale / 2), 2 * round(size[1] * scale / 2)


def shrink(image: Image, long_side: int) -> Image:
    """A picture at the working resolution, averaged over areas so that nothing aliases."""
    size = working_size((image.shape[1], image.shape[0]), long_side)
    if size == (image.shape[1], image.shape[0]):
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
