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
from jaxtyping import Float, UInt8

from das3r_ns.video.selection import Selection, spread
from das3r_ns.workers import workers

Image = UInt8[np.ndarray, "H W 3"]
"""An upright RGB picture."""

Grey = UInt8[np.ndarray, "H W"]

SMALL = 320
"""Longer side, in pixels, of the pictures by which shots, repeats and the like are told."""
MIN_SIDE = 32
"""Shorter side in pixels under which there is nothing for optical flow to hold on to."""
THREADS = workers(100 << 20)
"""Readers of pictures; each holds two, which may be a phone's twelve megapixels."""


class Clip(ABC):
    """The frames of one video within the frame budget.

    Args:
        path: The folder that holds the images, or the video file.
        max_frames: Frame budget; longer videos are thinned.
    """

    def __init__(self, path: Path, max_frames: int) -> None:
        self.path = path
        self.max_frames = max_frames
        self.lost: list[int] = []
        """Positions of wanted frames that did not decode, known once all have been asked for."""
        self.damaged: list[int] = []
        """Positions of frames that are spoilt, or do not decode, in the middle of a damaged file: known once
        :meth:`glance` has gone through it."""
        self._working: dict[int, Image] = {}
        """Frames at the working resolution that were decoded together with their small pictures."""
        self._working_side = 0

    @property
    @abstractmethod
    def num_source_frames(self) -> int:
        """Length of the video before thinning."""

    @property
    @abstractmethod
    def sources(self) -> list[Path]:
        """Every file of the video, whether its frames are used or not."""

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """Name of each frame used."""

    @cached_property
    @abstractmethod
    def times(self) -> Float[np.ndarray, " N"]:
        """Seconds at which each frame of the video is shown, used or not, float64."""

    @property
    @abstractmethod
    def source_fps(self) -> float:
        """Frames per second of the video; the mean where its rate varies."""

    @property
    def fps(self) -> float:
        """Frames per second of the frames used, in the mean."""
        return self.source_fps * len(self.indices) / (self.indices[-1] - self.indices[0] + 1)

    @abstractmethod
    def glance(self, on_frame: Callable[[], None] = lambda: None, long_side: int = 0) -> Iterator[tuple[int, Grey]]:
        """Every frame of the video that decodes, used or not: its position, and a small grey picture of it.

        What is seen to be damaged is left out.

        Args:
            on_frame: Called after each frame.
            long_side: Working resolution in pixels. Where the budget leaves all frames they are kept at it, so that
                :meth:`working_images` need not decode them again.
        """

    def selected(self, selection: Selection) -> Clip:
        """The same clip with other frames of it."""
        clip = copy.copy(self)
        for dependent in {"files", "content_hash"} & set(vars(clip)):
            delattr(clip, dependent)
        clip.indices, clip.selection = selection.indices, selection
        return clip

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
    def selection(self) -> Selection:
        """Which frames are used; spread evenly from the first to the last where nothing is known of them."""
        used = spread(self.num_source_frames, self.max_frames)
        if len(used) == self.num_source_frames:
            return Selection(used)
        return Selection(
            used,
            remarks=[
                f"{self.path} has {self.num_source_frames} frames; {len(used)} of them, evenly spread, are used "
                "(--max-frames)."
            ],
        )

    @cached_property
    def indices(self) -> list[int]:
        """Positions of the frames used among all frames."""
        return self.selection.indices

    def showings(self, names: Container[str]) -> list[tuple[float, int]]:
        """When the video shows which frame.

        Args:
            names: Those that there are of the frames used: some may have been lost.

        Returns:
            Seconds from the first one, and the number of the frame among those: once for each frame, and again
            wherever the video repeats its picture.
        """
        there = [index for index, name in zip(self.indices, self.names, strict=True) if name in names]
        shown = [(place, number) for number, index in enumerate(there) for place in (index, *self._again(index))]
        return [(float(self.times[place] - self.times[there[0]]), number) for place, number in sorted(shown)]

    def _again(self, index: int) -> list[int]:
        return self.selection.repeats.get(index, [])

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
        return list(self.selection.remarks)

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
        kept = self._take_kept(long_side, on_frame)
        return np.stack(kept or [shrink(image, long_side) for image in self.original_images(on_frame)])

    def _take_kept(self, long_side: int, on_frame: Callable[[], None]) -> list[Image]:
        """The frames used as :meth:`glance` has kept them; none where it has not kept all. They are forgotten."""
        working, self._working = self._working, {}
        if long_side != self._working_side or any(index not in working for index in self.indices):
            return []
        for _ in self.indices:
            on_frame()
        return [working[index] for index in self.indices]


def working_size(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """Width and height with the longer side at ``long_side`` at most, both even (video codecs ask for it), and neither
    larger than the video's."""
    scale, most = min(1.0, long_side / max(size)), long_side // 2
    width, height = (2 * min(round(side * scale / 2), side // 2, most) for side in size)
    return width, height


def shrink(image: UInt8[np.ndarray, "H W *c"], long_side: int) -> UInt8[np.ndarray, "h w *c"]:
    """A picture at the working resolution, averaged over areas so that nothing aliases."""
    size = working_size((image.shape[1], image.shape[0]), long_side)
    if size == (image.shape[1], image.shape[0]):
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
