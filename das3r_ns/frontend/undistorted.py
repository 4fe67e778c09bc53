"""A clip as a pinhole camera with a global shutter would have filmed it: the frames that training works on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from das3r_ns.scene.lens import Lens, Size
from das3r_ns.scene.shutter import Shutter
from das3r_ns.video.clip import Clip, Grey, Image, working_size


class UndistortedClip(Clip):
    """The frames of another clip, undistorted and level.

    Args:
        clip: As the video has it.
        lens: Its lens, at any size; None = a pinhole.
        shutter: Its rolling shutter, for all frames that can be decoded; None = a global one.
    """

    def __init__(self, clip: Clip, lens: Lens | None, shutter: Shutter | None = None) -> None:
        super().__init__(clip.path, clip.max_frames)
        self.distorted = clip
        self.lens = None if lens is None else lens.at(clip.size)
        self.shutter = shutter
        self.indices, self.selection = clip.indices, clip.selection

    @property
    def num_source_frames(self) -> int:
        """Length of the video before thinning."""
        return self.distorted.num_source_frames

    @property
    def names(self) -> list[str]:
        """Name of each frame used."""
        return self.distorted.names

    @property
    def sources(self) -> list[Path]:
        """The files of the video."""
        return self.distorted.sources

    @cached_property
    def times(self) -> Float[np.ndarray, " N"]:
        """Seconds at which each frame of the video is shown."""
        return self.distorted.times

    @property
    def source_fps(self) -> float:
        """Frames per second of the video."""
        return self.distorted.source_fps

    def glance(self, on_frame: Callable[[], None] = lambda: None, long_side: int = 0) -> Iterator[tuple[int, Grey]]:
        """Every frame, small and grey, as the video has it."""
        yield from self.distorted.glance(on_frame, long_side)

    @property
    def size(self) -> Size:
        """Width and height of the pinhole pictures at the size of the video."""
        return self.distorted.size if self.lens is None else self.lens.pinhole_size

    @property
    def content_hash(self) -> str:
        """Of the video: what is made of it is the lens's business."""
        return self.distorted.content_hash

    def original_images(self, on_frame: Callable[[], None] = lambda: None) -> Iterator[Image]:
        """Each frame used, undistorted and level at the size of the video."""
        for number, image in enumerate(self.distorted.original_images(on_frame)):
            pinhole = image if self.lens is None else self.lens.undistorted_picture(image, cv2.INTER_CUBIC)
            yield pinhole if self.shutter is None else self.shutter.level_picture(pinhole, number, cv2.INTER_CUBIC)
        self.lost = self.distorted.lost

    def working_images(
        self, long_side: int, on_frame: Callable[[], None] = lambda: None
    ) -> UInt8[np.ndarray, "N H W 3"]:
        """All frames, with as many pixels as those of the video have at the working resolution."""
        size = working_size(self.distorted.size, long_side)
        size = size if self.lens is None else self.lens.at(size).pinhole_size
        return np.stack([resized(image, size) for image in self.original_images(on_frame)])


def as_pinhole(clip: Clip, lens: Lens | None, shutter: Shutter | None = None) -> Clip:
    """The clip undistorted and level; itself where a pinhole with a global shutter has filmed it."""
    return clip if lens is None and shutter is None else UndistortedClip(clip, lens, shutter)


def resized(image: Image, size: Size) -> Image:
    """The picture at (width, height), averaged over areas so that nothing aliases."""
    return image if image.shape[1::-1] == size else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
