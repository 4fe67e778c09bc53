"""Everything known about a video before training: the estimate, and its frames in every size and geometry."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool

from das3r_ns.frontend.undistorted import as_pinhole, resized
from das3r_ns.frontend.verdict import Verdict
from das3r_ns.progress import Progress
from das3r_ns.scene import cache
from das3r_ns.scene.estimate import SceneEstimate
from das3r_ns.scene.lens import Lens, Size
from das3r_ns.video.absent import AbsentClip
from das3r_ns.video.clip import Clip

ORIGINALS = "frames_full"
"""Folder of the frames at the size of the video; those of another size have theirs in place of "full"."""


@dataclass(frozen=True)
class PreparedScene:
    """Everything known about a video before training."""

    data: Path
    """Folder or file the video came from."""
    entry: cache.CacheEntry
    clip: Clip
    """The frames as the video has them."""

    @property
    def estimate(self) -> SceneEstimate:
        """Cameras, depth and dynamic probability."""
        return self.entry.estimate

    @property
    def verdict(self) -> Verdict | None:
        """Whether the cameras are to be relied on; None where an earlier version of das3r has found them."""
        return Verdict.read(self.estimate.provenance.get("verdict"))

    @property
    def cache_dir(self) -> Path:
        """Folder of this video and these settings; what is derived from the estimate may be kept there too."""
        return self.entry.directory

    @property
    def image_paths(self) -> list[Path]:
        """The frames at the working resolution, PNG."""
        return self.entry.image_paths

    @property
    def fps(self) -> float:
        """Frames per second of these frames."""
        return self.entry.fps

    @cached_property
    def showings(self) -> list[tuple[float, int]]:
        """When the video shows which frame: seconds from the first, and its number; pictures that it repeats again."""
        return self.clip.showings(self.estimate.frame_names)

    @cached_property
    def seconds(self) -> list[float]:
        """When each frame is shown first, from the first one."""
        first: dict[int, float] = {}
        for seconds, number in self.showings:
            first.setdefault(number, seconds)
        return list(first.values())

    @property
    def original_size(self) -> tuple[int, int]:
        """Width and height of the video, upright."""
        return self.entry.original_size

    @property
    def title(self) -> str:
        """What to call the video: a folder ``frames`` by the one it lies in.

        Names need not be UTF-8, but what is written with them in it must be.
        """
        data = self.data.resolve()
        return os.fsencode(data.parent.name if data.name == "frames" else data.name).decode("utf-8", "replace")

    @cached_property
    def lens(self) -> Lens | None:
        """The lens at the size of the video, from which the pinhole pictures come; None = the video has them."""
        lens = self.estimate.lens
        return None if lens is None else lens.at(self.original_size)

    @property
    def pinhole_size(self) -> tuple[int, int]:
        """Width and height of the pinhole pictures at the size of the video."""
        return self.original_size if self.lens is None else self.lens.pinhole_size

    def as_filmed(
        self, picture: np.ndarray, frame: int | None = None, interpolation: int = cv2.INTER_LINEAR
    ) -> np.ndarray:
        """A level pinhole picture of any size, interpolated at the size and in the geometry of the video.

        Args:
            picture: Of any channels.
            frame: Its number, by which its rows move where the shutter rolls; None = of what is the same in all frames.
            interpolation: OpenCV's.
        """
        shutter = self.estimate.shutter
        if shutter is not None and frame is not None:
            picture = shutter.filmed_picture(picture, frame, interpolation)
        if self.lens is None:
            return cv2.resize(picture, self.original_size, interpolation=interpolation)
        return self.lens.distorted_picture(picture, interpolation)

    def levelled(self, picture: np.ndarray, frame: int, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
        """A picture of the video, at its size, as a pinhole with a global shutter would have taken it."""
        pinhole = picture if self.lens is None else self.lens.undistorted_picture(picture, interpolation)
        shutter = self.estimate.shutter
        return pinhole if shutter is None else shutter.level_picture(pinhole, frame, interpolation)

    def beyond(self, frame: int) -> Bool[np.ndarray, "h w"] | None:
        """Which pixels of a frame, at the size of the video, the level pinhole picture does not show; None = it is the
        video's picture."""
        lens, shutter = self.lens, self.estimate.shutter
        if shutter is None:
            return None if lens is None else lens.beyond
        directions = shutter.directions(self.original_size) if lens is None else lens.directions
        return (np.abs(shutter.to_level(directions, frame)) > shutter.view).any(axis=-1)

    def fixed_as_filmed(self) -> Bool[np.ndarray, "h w"] | None:
        """What is fixed to the camera, at the size and in the geometry of the video; None = nothing."""
        if self.estimate.fixed is None:
            return None
        return self.as_filmed(self.estimate.fixed.astype(np.float32)) >= 0.5

    def lenses(self) -> list[Lens] | None:
        """The lens of every frame at the size of the video; see :meth:`SceneEstimate.lenses`."""
        return self.estimate.lenses(self.original_size)

    @property
    def original_image_paths(self) -> list[Path]:
        """:meth:`image_paths_at` the size of the video."""
        return self.image_paths_at(self.pinhole_size)

    def has_images_at(self, size: Size) -> bool:
        """Whether :meth:`image_paths_at` can give pictures of this size: they are in the cache, or the video is."""
        return self._folder_at(size).is_dir() or not isinstance(self.clip, AbsentClip)

    def image_paths_at(self, size: Size) -> list[Path]:
        """The same frames, pinhole pictures, at any size up to that of the video, PNG; decoded into the cache at the
        first call.

        Args:
            size: Width and height; the working size gives what the front end saw.

        Raises:
            Das3rError: The disk is full or cannot be written, or the video is not there any more.
        """
        folder, count = self._folder_at(size), self.estimate.num_frames
        if not folder.is_dir():
            otherwise = "train at the working size (--pipeline.datamanager.dataparser.train-size working)"
            with cache.writing(folder, count * size[0] * size[1] * 3, otherwise) as temporary:
                progress = Progress()
                with progress.stage(f"Writing frames at {size[0]} x {size[1]}", count) as advance:
                    images = as_pinhole(self.clip, self.lens, self.estimate.shutter).original_images(advance)
                    cache.write_frames(temporary / folder.name, (resized(image, size) for image in images))
                if not folder.is_dir():  # else another process was quicker
                    (temporary / folder.name).replace(folder)
        return cache.frame_paths(folder, count)

    def _folder_at(self, size: Size) -> Path:
        if size == (self.estimate.width, self.estimate.height):
            return self.cache_dir / cache.FRAMES
        return self.cache_dir / (ORIGINALS if size == self.pinhole_size else f"{cache.FRAMES}_{size[0]}x{size[1]}")
