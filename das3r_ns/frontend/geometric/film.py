"""What the front end without weights works on: the frames of a clip, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

import cv2
import numpy as np
from jaxtyping import UInt8

from das3r_ns.frontend.geometric.level import known_of_level
from das3r_ns.frontend.known.knowledge import Known
from das3r_ns.scene.lens import Lens
from das3r_ns.scene.shutter import Shutter

FullSize = Callable[[], Iterator[UInt8[np.ndarray, "H W 3"]]]
"""Gives the frames at the size of the video, one after the other."""


@dataclass(frozen=True)
class Film:
    """Frames of a clip, all of it or a run."""

    images: UInt8[np.ndarray, "N H W 3"]
    """RGB frames at the working resolution."""
    names: list[str]
    """Name of each frame."""
    known: Known = field(default_factory=Known)
    """What the user knows of them."""
    full_size: FullSize | None = None
    """Gives the same frames at the size of the video; None = ``images`` have it."""
    filmed: Film | None = None
    """What level pictures were made of."""
    lens: Lens | None = None
    """Of which these are the pinhole pictures; None = of the video, as far as is known here."""
    part: bool = False
    """Whether these are a run of a longer film, which has one focal with the rest of it."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the working resolution."""
        return self.images.shape[2], self.images.shape[1]

    def large(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """The frames as large as they are to be had, one after the other."""
        return iter(self.images) if self.full_size is None else self.full_size()

    def section(self, frames: range) -> Film:
        """A run of the frames."""
        part = slice(frames.start, frames.stop)

        def large() -> Iterator[UInt8[np.ndarray, "H W 3"]]:
            return islice(self.large(), frames.start, frames.stop)

        full_size = None if self.full_size is None else large
        return Film(self.images[part], self.names[part], self.known.section(frames), full_size, part=True)

    def straight(self, lens: Lens) -> Film:
        """The pinhole pictures of what a lens has bent.

        Args:
            lens: Of the working resolution.
        """

        def large() -> Iterator[UInt8[np.ndarray, "H W 3"]]:
            full = lens
            for image in self.large():
                if full.size != (image.shape[1], image.shape[0]):
                    full = lens.at((image.shape[1], image.shape[0]))  # keeps its map from one frame to the next
                yield full.undistorted_picture(image, cv2.INTER_CUBIC)

        masks, fixed = self.known.masks, self.known.fixed
        masks = None if masks is None else lens.undistorted(masks)
        if fixed is not None:
            fixed = lens.undistorted_picture(fixed.astype(np.float32)) >= 0.5
        known = replace(self.known, masks=masks, fixed=fixed, size=lens.pinhole_size, undistorted=True)
        return Film(lens.undistorted(self.images, cv2.INTER_CUBIC), self.names, known, large, lens=lens, part=self.part)

    def level(self, shutter: Shutter) -> Film:
        """The pictures that a global shutter would have taken."""

        def large() -> Iterator[UInt8[np.ndarray, "H W 3"]]:
            for number, image in enumerate(self.large()):
                yield shutter.level_picture(image, number, cv2.INTER_CUBIC)

        images = shutter.level_pictures(self.images, cv2.INTER_CUBIC)
        return Film(images, self.names, known_of_level(self.known, shutter), large, filmed=self, part=self.part)
