"""Layout of the picture sheet."""

from pathlib import Path

import numpy as np
import pytest

from das3r_ns.errors import Das3rError
from das3r_ns.evaluation.sheet import CELL_WIDTH, COLUMNS, GAP, HEADER, SheetConfig, compose_sheet, write_sheet


def test_every_picture_is_in_its_cell() -> None:
    grey = [np.full((45, 80, 1), level, np.float32) for level in (0.0, 0.25, 0.5, 1.0)]
    colour = np.full((45, 80, 3), (1.0, 0.5, 0.0), np.float32)
    sheet = compose_sheet([grey, [colour, *grey[1:]]])
    assert sheet.shape == (HEADER + 180 + GAP + 180, len(COLUMNS) * (CELL_WIDTH + GAP) - GAP, 3)
    centres = [CELL_WIDTH // 2 + column * (CELL_WIDTH + GAP) for column in range(len(COLUMNS))]
    assert sheet[HEADER + 90, centres, 0].tolist() == [0, 64, 128, 255]
    assert sheet[HEADER + 180 + GAP + 90, centres[0]].tolist() == [255, 128, 0]


def test_a_missing_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(Das3rError, match=r"config\.yml"):
        write_sheet(SheetConfig(tmp_path / "config.yml"))
