"""Frames as the network was trained on them: 512 pixels long, both sides multiples of 16, values from -1 to 1."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.network.monst3r.config import PATCH
from das3r_ns.scene.geometry import resize_intrinsics

LONG_SIDE = 512
"""Longer side, in pixels, of what the published networks saw."""

SHORT_NETWORK = 224
"""The one other size in use: a centred square of 224 x 224."""


@dataclass(frozen=True)
class Framing:
    """How a frame is brought to the size of the network: resized, then cut (or squeezed) to multiples of 16."""

    resized: tuple[int, int]
    """Width and height after resizing."""
    smooth: bool
    """Whether the resizing must keep out aliases (the frame shrinks)."""
    box: tuple[int, int, int, int]
    """Left, top, right and bottom of what is kept of the resized frame, in its pixels."""
    crop: bool
    """Whether the box is cut out; else the resized frame is squeezed to the size of the box."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height that the network sees."""
        left, top, right, bottom = self.box
        return right - left, bottom - top


def framing(width: int, height: int, size: int = LONG_SIDE, square_ok: bool = False, crop: bool = True) -> Framing:
    """Where in a frame the network looks, as the official code has it.

    Args:
        width: Of the frame in pixels.
        height: Of the frame in pixels.
        size: Longer side for the network; 224 stands for the centred square of 224 x 224.
        square_ok: Keep square frames square; else their top and bottom are cut to 4:3, as in training.
        crop: Cut what is over; else squeeze the frame to multiples of 16, which changes its aspect ratio a little.

    Raises:
        Das3rError: Nothing would be left of the frame.
    """
    long_side = max(width, height)
    # Python's round, half to even, for it decides which column is cut.
    target = size if size != SHORT_NETWORK else round(size * max(width / height, height / width))
    resized = (round(width * target / long_side), round(height * target / long_side))
    middle_x, middle_y = resized[0] // 2, resized[1] // 2
    if size == SHORT_NETWORK:
        half_width = half_height = min(middle_x, middle_y)
    else:
        half_width, half_height = (2 * middle // PATCH * PATCH // 2 for middle in (middle_x, middle_y))
        if resized[0] == resized[1] and not square_ok:
            half_height = 3 * half_width // 4
    box = (middle_x - half_width, middle_y - half_height, middle_x + half_width, middle_y + half_height)
    if min(half_width, half_height) * 2 < PATCH:
        raise Das3rError(
            f"Frames of {width} x {height} pixels are too narrow for the network: at {size} pixels of length fewer "
            f"than {PATCH} are left across. Crop the video to a less extreme shape."
        )
    return Framing(resized, long_side > target, box, crop)


def frame_image(image: UInt8[np.ndarray, "H W 3"], how: Framing) -> UInt8[np.ndarray, "h w 3"]:
    """Bring one upright RGB frame to the size of the network."""
    # PIL's filters, to the last bit: the network is sensitive to how sharp a frame is.
    filter_ = Image.Resampling.LANCZOS if how.smooth else Image.Resampling.BICUBIC
    resized = Image.fromarray(image).resize(how.resized, filter_)
    if not how.crop:
        return np.array(resized.resize(how.size, Image.Resampling.LANCZOS))
    return np.array(resized.crop(how.box))


MAX_SQUEEZE = 0.02
"""Relative change of the aspect ratio up to which a frame is squeezed rather than cut."""


def whole_framing(width: int, height: int, size: int = LONG_SIDE) -> Framing:
    """How to show the network all of a frame, or nearly all.

    Officially what is over at a multiple of 16 is cut, and so is a quarter of square frames; but every pixel of a video
    wants a depth. So the frame is squeezed to multiples of 16 where that changes its aspect ratio by 2 % at most (512 x
    341 becomes 512 x 336; the intrinsics then have two focals that differ by as much), and else cut as officially, by 7
    pixels at a border at most.

    Raises:
        Das3rError: Nothing would be left of the frame, or the network cannot work at this size.
    """
    if size < 4 * PATCH or size == SHORT_NETWORK or size % PATCH:
        raise Das3rError(
            f"The network cannot work at {size} pixels (--network-size): take 512, or another multiple of {PATCH} from "
            f"{4 * PATCH} up, except {SHORT_NETWORK}."
        )
    squeezed = framing(width, height, size, square_ok=True, crop=False)
    change = squeezed.size[0] * height / (squeezed.size[1] * width) - 1.0
    return squeezed if abs(change) <= MAX_SQUEEZE else framing(width, height, size, square_ok=True)


def unframe(
    values: Float[np.ndarray, "N h w"], how: Framing, size: tuple[int, int], outside: float | None = None
) -> Float[np.ndarray, "N H W"]:
    """Bring maps of the network's pixels back to whole frames.

    Args:
        values: Maps of the size of the network.
        how: How the frames were brought there.
        size: Width and height of the frames.
        outside: Value of the border that the network did not see; None = as at its edge.
    """
    left, top, right, bottom = how.box if how.crop else (0, 0, *how.size)
    width, height = how.resized if how.crop else how.size
    border = (top, height - bottom, left, width - right)
    kind, value = (cv2.BORDER_REPLICATE, [0.0]) if outside is None else (cv2.BORDER_CONSTANT, [outside])
    whole = (cv2.copyMakeBorder(one.astype(np.float32), *border, kind, value=value) for one in values)
    return np.stack([cv2.resize(one, size, interpolation=cv2.INTER_LINEAR) for one in whole])


def unframe_intrinsics(
    intrinsics: Float[np.ndarray, "N 3 3"], how: Framing, size: tuple[int, int]
) -> Float[np.ndarray, "N 3 3"]:
    """Pinhole matrices in pixels of whole frames of ``size`` (width, height), from those in the network's pixels."""
    whole = intrinsics.copy()
    if how.crop:
        whole[:, :2, 2] += how.box[:2]
    return resize_intrinsics(whole, how.resized if how.crop else how.size, size)


def frame_maps(values: Float[np.ndarray, "N H W"], how: Framing) -> Float[np.ndarray, "N h w"]:
    """Bring maps of whole frames to the network's pixels: what :func:`frame_image` does to frames."""
    size = how.resized if how.crop else how.size
    left, top, right, bottom = how.box if how.crop else (0, 0, *how.size)
    resized = (cv2.resize(one.astype(np.float32), size, interpolation=cv2.INTER_AREA) for one in values)
    return np.stack([one[top:bottom, left:right] for one in resized])


def frame_intrinsics(
    intrinsics: Float[np.ndarray, "N 3 3"], how: Framing, size: tuple[int, int]
) -> Float[np.ndarray, "N 3 3"]:
    """Pinhole matrices in the network's pixels, from those in pixels of whole frames of ``size`` (width, height)."""
    framed = resize_intrinsics(intrinsics, size, how.resized if how.crop else how.size)
    if how.crop:
        framed[:, :2, 2] -= how.box[:2]
    return framed


def network_input(images: UInt8[np.ndarray, "N H W 3"]) -> Float[Tensor, "N 3 H W"]:
    """Frames of the network's size as the tensor it takes, values from -1 to 1."""
    values = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    return (values.to(torch.float32) / 255.0 - 0.5) / 0.5
