"""Pictures of a SceneEstimate for the eye: what moves over the frame, depth in colours, a contact sheet."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from das3r_ns.scene.binary_masks import MOVES

TINT = (255, 40, 40)
FIXED = (0, 170, 255)
OUTLINE = (255, 255, 255)

MOST_CELLS, FEWEST_CELLS = 16, 12
"""Frames that a contact sheet shows, where the video has as many."""
CELL_AREA = 380 * 214
"""Pixels of a frame on it: four of a wide video side by side fill a screen."""
SHEET_ASPECT = 1.7
"""Width to height that the sheet comes close to."""
GAP, MARGIN = 10, 16
TITLE_SIZE, LABEL_SIZE = 20, 15
INK, FAINT, PAPER = (28, 36, 48), (104, 114, 127), (255, 255, 255)


def depth_picture(depth: Float[np.ndarray, "H W"], near: float, far: float) -> UInt8[np.ndarray, "H W 3"]:
    """Depth in colours (RGB), red near and blue far, even in inverse depth.

    Args:
        depth: Camera z.
        near: Inverse depth that becomes the nearest colour.
        far: Inverse depth that becomes the farthest colour.
    """
    level = (1.0 / depth - far) / max(near - far, 1e-9)
    colours = cv2.applyColorMap((level.clip(0, 1) * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    return colours[..., ::-1]


def overlay(
    image: UInt8[np.ndarray, "H W 3"],
    probability: Float[np.ndarray, "H W"],
    mask: Bool[np.ndarray, "h w"] | None = None,
    thickness: int = 1,
    fixed: Bool[np.ndarray, "H W"] | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """The frame with what moves tinted by its dynamic probability, and the mask's outline.

    Args:
        image: RGB.
        probability: Dynamic probability.
        mask: Of any size; if None, where the probability reaches MOVES.
        thickness: Of the outline, pixels.
        fixed: What is fixed to the camera, which has a colour of its own.
    """
    weight = 0.6 * probability[..., None]
    tinted = np.rint(image * (1 - weight) + np.array(TINT) * weight).astype(np.uint8)
    if fixed is not None:
        tinted[fixed] = np.rint(0.4 * image[fixed] + 0.6 * np.array(FIXED)).astype(np.uint8)
    inside = (probability >= MOVES).astype(np.uint8) if mask is None else _resized_mask(mask, probability.shape)
    outline, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(tinted, outline, -1, OUTLINE, thickness)


def _resized_mask(mask: Bool[np.ndarray, "h w"], shape: tuple[int, ...]) -> UInt8[np.ndarray, "H W"]:
    share = cv2.resize(mask.astype(np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    return (share >= 0.5).astype(np.uint8)


@dataclass(frozen=True)
class Cell:
    """One frame of a contact sheet."""

    image: UInt8[np.ndarray, "H W 3"]
    """RGB."""
    probability: Float[np.ndarray, "H W"]
    """Dynamic probability."""
    mask: Bool[np.ndarray, "h w"]
    """What moves, of any size."""
    fixed: Bool[np.ndarray, "H W"] | None = None
    """What is fixed to the camera."""


def contact_sheet(
    num_frames: int, cell: Callable[[int], Cell], title: str, note: str, verdict: str = ""
) -> UInt8[np.ndarray, "height width 3"]:
    """Evenly spaced frames with their masks, each with its number and the share of the picture that moves.

    Args:
        num_frames: Frames of the video.
        cell: Gives the frame of a number.
        title: First line.
        note: Second line, which explains the colours.
        verdict: What there is to say of the cameras, below it; as many lines as it takes.

    Returns:
        The sheet, RGB.
    """
    first = cell(0)
    aspect = first.image.shape[1] / first.image.shape[0]
    columns, rows = sheet_grid(num_frames, aspect)
    numbers = np.linspace(0, num_frames - 1, min(columns * rows, num_frames)).round().astype(int)
    height = round((CELL_AREA / aspect) ** 0.5)
    width = round(height * aspect)
    label = LABEL_SIZE + 8
    font = ImageFont.load_default(LABEL_SIZE)
    breadth = columns * (width + GAP) - GAP
    lines = wrapped(verdict, breadth, font.getlength)
    spacing = LABEL_SIZE + 4
    top = MARGIN + TITLE_SIZE + LABEL_SIZE + 22 + spacing * len(lines)
    size = (
        2 * MARGIN + breadth,
        top + rows * (height + label + GAP) - GAP + MARGIN - 4,
    )
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN - 4), title, INK, ImageFont.load_default(TITLE_SIZE))
    pen.text((MARGIN, MARGIN + TITLE_SIZE + 4), note, FAINT, font)
    for number, line in enumerate(lines, 1):
        pen.text((MARGIN, MARGIN + TITLE_SIZE + 4 + spacing * number), line, INK, font)
    for place, number in enumerate(numbers.tolist()):
        shown = first if number == 0 else cell(number)
        image = cv2.resize(shown.image, (width, height), interpolation=cv2.INTER_AREA)
        probability = cv2.resize(shown.probability, (width, height), interpolation=cv2.INTER_AREA)
        fixed = None if shown.fixed is None else _resized_mask(shown.fixed, (height, width)) > 0
        left = MARGIN + place % columns * (width + GAP)
        upper = top + place // columns * (height + label + GAP)
        sheet.paste(Image.fromarray(overlay(image, probability, shown.mask, 2, fixed)), (left, upper))
        pen.text((left, upper + height + 2), f"frame {number}", INK, font)
        share = f"{100 * shown.mask.mean():.1f} % moves" if shown.mask.any() else "nothing moves"
        pen.text((left + width, upper + height + 2), share, FAINT, font, anchor="ra")
    return np.asarray(sheet)


def wrapped(text: str, breadth: float, length: Callable[[str], float]) -> list[str]:
    """Lines of a text that are no longer than ``breadth``, unless a single word is.

    Args:
        text: What to break between its words.
        breadth: In pixels.
        length: Gives that of a line, in pixels.
    """
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and length(longer) <= breadth:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def sheet_grid(num_frames: int, aspect: float) -> tuple[int, int]:
    """Columns and rows of a contact sheet.

    Args:
        num_frames: Frames of the video; where it has enough, the grid has FEWEST_CELLS to MOST_CELLS places.
        aspect: Width to height of a frame.
    """
    fewest = min(FEWEST_CELLS, num_frames)
    sides = range(1, MOST_CELLS + 1)
    grids = [(c, r) for c in sides for r in sides if fewest <= c * r <= MOST_CELLS and c * (r - 1) < num_frames]

    def ugliness(grid: tuple[int, int]) -> float:
        columns, rows = grid
        empty = max(0, columns * rows - num_frames) / (columns * rows)
        return abs(math.log(columns * aspect / rows / SHEET_ASPECT)) + empty

    return min(grids, key=ugliness)
