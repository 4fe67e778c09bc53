"""Picture sheet of a trained run: input | mask | clean render | staticness, several frames below each other.

``python -m das3r_ns.evaluation.sheet --load-config .../config.yml --output sheet.png``
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro
from jaxtyping import Float, UInt8

from das3r_ns.errors import Das3rError

COLUMNS = ("input", "mask (white = moves)", "clean render", "staticness (white = static)")
CELL_WIDTH = 320
GAP = 4
HEADER = 22


@dataclass
class SheetConfig:
    """Draw input, mask, clean render and staticness of a trained run side by side."""

    load_config: Path
    """The config.yml of the run."""
    output: Path = Path("sheet.png")
    """Picture to write (png or jpg)."""
    rows: int = 4
    """How many frames to show, evenly spaced over the video."""


def compose_sheet(rows: list[list[Float[np.ndarray, "H W C"]]]) -> UInt8[np.ndarray, "h w 3"]:
    """Lay pictures out in a grid with a title over each column.

    Args:
        rows: For every frame one picture for each of COLUMNS, RGB or grey (C = 3 or 1), values in [0, 1], of one size.

    Returns:
        The sheet, RGB.
    """
    height, width = rows[0][0].shape[:2]
    cell = (CELL_WIDTH, round(CELL_WIDTH * height / width))
    grid_width = len(COLUMNS) * (CELL_WIDTH + GAP) - GAP
    sheet = np.full((HEADER + len(rows) * (cell[1] + GAP) - GAP, grid_width, 3), 255, np.uint8)
    for column, title in enumerate(COLUMNS):
        left = column * (CELL_WIDTH + GAP)
        cv2.putText(sheet, title, (left + 4, HEADER - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
        for row, pictures in enumerate(rows):
            top = HEADER + row * (cell[1] + GAP)
            picture = np.broadcast_to(pictures[column], (height, width, 3)).astype(np.float32)
            small = cv2.resize(picture, cell, interpolation=cv2.INTER_AREA)
            sheet[top : top + cell[1], left : left + CELL_WIDTH] = np.clip(small * 255 + 0.5, 0, 255)
    return sheet


def write_sheet(config: SheetConfig) -> None:
    """Render the views of a run and write its sheet.

    Raises:
        Das3rError: The run cannot be opened, is not das3r's, or the picture cannot be written.
    """
    # nerfstudio takes seconds to import, and --help must not.
    from das3r_ns.trained.run import open_run, render_training_view, training_images

    pipeline = open_run(config.load_config)
    dataset = training_images(pipeline)
    rows = []
    for index in np.unique(np.linspace(0, len(dataset) - 1, config.rows).round().astype(int)):
        data = dataset[int(index)]
        outputs = render_training_view(pipeline, int(index))
        if "static_weight" not in data or "staticness" not in outputs:
            raise Das3rError(f"{config.load_config} is not a run of das3r, das3r-light or das3r-paper.")
        image, moves = data["image"].numpy()[..., :3], 1 - data["static_weight"].cpu().numpy() / np.float32(255)
        rows.append([image, moves, outputs["rgb"], outputs["staticness"]])
    sheet = compose_sheet(rows)
    config.output.parent.mkdir(parents=True, exist_ok=True)
    temporary = config.output.with_name(f".{config.output.name}.tmp{config.output.suffix}")
    if not cv2.imwrite(str(temporary), sheet[..., ::-1]):
        raise Das3rError(f"The sheet cannot be written to {config.output}.")
    temporary.replace(config.output)


def main() -> None:
    """Command line."""
    try:
        write_sheet(tyro.cli(SheetConfig))
    except Das3rError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
