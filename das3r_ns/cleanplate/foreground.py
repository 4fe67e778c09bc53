"""What moves, cut out: a soft matte and colours without the background, so that plate and foreground give the frame.

A frame is the foreground over the plate, I = a F + (1 - a) P. The plate P is known, so that where the matte a is known
the colour is F = (I - (1 - a) P) / a. The matte of a pixel on the outline is the share of the way from the plate to the
mover's colour at which the frame lies ("difference matting"; Smith and Blinn, "Blue screen matting", SIGGRAPH 1996,
have the equations).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from das3r_ns.cleanplate.composite import length
from das3r_ns.pictures import linear

CORE, REACH = 5.0, 5.0
"""How far inside its outline a mover is whole, and how far its colour is carried to the outline; pixels of a picture of
:data:`~das3r_ns.cleanplate.composite.REFERENCE_SIDE`. Masks are a few pixels too wide, and outlines blurred."""
DOUBT = 0.05
"""Difference of colour from which on the frame itself decides on the matte, and not the outline found before; more
where the mover is so motley that its pixels do not lie between its mean colour and the plate's."""


@dataclass(frozen=True)
class Foreground:
    """The movers of one frame."""

    matte: Float[np.ndarray, "H W"]
    """1 = a mover alone, 0 = the plate alone; in steps of 1/255."""
    colour: Float[np.ndarray, "H W 3"]
    """Of the movers, without the plate; 0 where the matte is."""

    @property
    def rgba(self) -> UInt8[np.ndarray, "H W 4"]:
        """With the colour as it is, not multiplied by the matte, as PNG has it."""
        both = np.concatenate([self.colour, self.matte[..., None]], axis=-1)
        return np.rint(both * 255).astype(np.uint8)


def soft_matte(
    frame: Float[np.ndarray, "H W 3"],
    plate: Float[np.ndarray, "H W 3"],
    moves: Float[np.ndarray, "H W"],
    replaced: Bool[np.ndarray, "H W"],
) -> Float[np.ndarray, "H W"]:
    """How much of each pixel is a mover.

    Args:
        frame: The frame, 0 to 1.
        plate: Its clean plate.
        moves: Probability that it moves.
        replaced: Where the plate is not the frame: elsewhere the matte is 0.

    Returns:
        0 to 1.
    """
    size = (frame.shape[1], frame.shape[0])
    guess = np.where(replaced, cv2.GaussianBlur(moves.astype(np.float32), (0, 0), length(1.0, size)), 0.0)
    inside = ((moves > 0.5) & replaced).astype(np.uint8)
    if not inside.any():
        return guess
    # Padded, so that the edge of the picture is no outline.
    depth = cv2.distanceTransform(cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_REPLICATE), cv2.DIST_L2, 5)
    depth = depth[1:-1, 1:-1] / length(CORE, size)
    whole = depth >= 1
    # The mover's colour near by, carried from deep inside it; of a thin limb from its middle.
    weight = np.minimum(depth, 1.0) ** 4
    spread = [cv2.GaussianBlur(v, (0, 0), length(REACH, size)) for v in (frame * weight[..., None], weight)]
    near = spread[1] > 1e-3
    mover = spread[0] / np.maximum(spread[1], 1e-3)[..., None]
    way = mover - plate
    # Least squares for the share, held to the guess where mover and plate look alike.
    along, room = ((frame - plate) * way).sum(axis=-1), (way**2).sum(axis=-1)
    between = np.clip(along / np.maximum(room, 1e-6), 0.0, 1.0)[..., None]
    doubt = DOUBT**2 + 2 * ((frame - plate - between * way) ** 2).sum(axis=-1)
    matte = np.where(near, np.clip((along + doubt * guess) / (room + doubt), 0.0, 1.0), guess)
    return np.where(whole, 1.0, np.where(replaced, matte, 0.0))


def cut_out(
    frame: Float[np.ndarray, "H W 3"],
    plate: Float[np.ndarray, "H W 3"],
    matte: Float[np.ndarray, "H W"],
    replaced: Bool[np.ndarray, "H W"],
) -> Foreground:
    """The colours that make the frame of the plate, by the matte or, where no colour could, by one that is no thinner.

    Args:
        frame: The frame, 0 to 1.
        plate: Its clean plate.
        matte: Of :func:`soft_matte`.
        replaced: Where the plate is not the frame.
    """
    # The thinnest matte with which some colour between black and white gives the frame.
    difference = frame - plate
    room = np.where(difference > 0, 1.0 - plate, plate)
    thinnest = (np.abs(difference) / np.maximum(room, 1e-6)).max(axis=-1)
    enough = np.where(replaced, np.clip(np.maximum(matte, thinnest), 0.0, 1.0), 0.0)
    enough = np.ceil(enough * 255 - 1e-3) / 255
    share = enough[..., None]
    colour = np.divide(frame - (1 - share) * plate, share, out=np.zeros_like(frame), where=share > 0)
    return Foreground(enough.astype(np.float32), np.clip(colour, 0.0, 1.0).astype(np.float32))


def foreground(
    frame: UInt8[np.ndarray, "H W 3"],
    plate: UInt8[np.ndarray, "H W 3"],
    moves: Float[np.ndarray, "H W"],
    replaced: Bool[np.ndarray, "H W"],
) -> Foreground:
    """Matte and colours of one frame, to be laid over its plate in the values that pictures have (PNG)."""
    before, after = (picture.astype(np.float32) / 255 for picture in (frame, plate))
    return cut_out(before, after, soft_matte(before, after, moves, replaced), replaced)


def linear_foreground(
    frame: UInt8[np.ndarray, "H W 3"],
    plate: UInt8[np.ndarray, "H W 3"],
    matte: Float[np.ndarray, "H W"],
    replaced: Bool[np.ndarray, "H W"],
) -> dict[str, Float[np.ndarray, "H W"]]:
    """The same for linear light, where programs for film lay pictures over each other, as channels of an EXR.

    R, G and B are multiplied by A there.
    """
    cut = cut_out(linear(frame / 255), linear(plate / 255), matte, replaced)
    red, green, blue = np.moveaxis(cut.colour * cut.matte[..., None], -1, 0)
    return {"R": red, "G": green, "B": blue, "A": cut.matte}
