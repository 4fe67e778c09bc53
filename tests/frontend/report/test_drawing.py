"""Contact sheets and overlays."""

from __future__ import annotations

import numpy as np
import pytest

from das3r_ns.frontend.report.drawing import FIXED, INK, OUTLINE, Cell, contact_sheet, overlay, sheet_grid, wrapped


@pytest.mark.parametrize("aspect", [16 / 9, 4 / 3, 1.0, 9 / 16, 2.4])
@pytest.mark.parametrize("num_frames", [1, 2, 5, 11, 12, 13, 24, 150])
def test_a_grid_has_room_and_fits_a_screen(num_frames: int, aspect: float) -> None:
    columns, rows = sheet_grid(num_frames, aspect)
    assert min(12, num_frames) <= columns * rows <= 16
    assert columns * (rows - 1) < num_frames  # no empty row
    if num_frames >= 12:
        assert 1.1 < columns * aspect / rows < 2.6


def test_the_outline_is_that_of_the_mask_given() -> None:
    image = np.full((40, 60, 3), 100, np.uint8)
    probability = np.zeros((40, 60), np.float32)
    probability[10:20, 10:20] = 1
    by_itself = overlay(image, probability)
    assert (by_itself[10, 10:20] == OUTLINE).all() and (by_itself[25, 30] == 100).all()
    assert by_itself[15, 15, 0] > 180 > 100 > by_itself[15, 15, 2]  # tinted red
    mask = np.zeros((80, 120), bool)  # at twice the size
    mask[10:60, 10:60] = True
    grown = overlay(image, probability, mask)
    assert (grown[5, 5:30] == OUTLINE).all() and (grown[5:30, 29] == OUTLINE).all()
    assert (grown[10, 12] == by_itself[15, 15]).all()  # inside the mask, not on its outline
    assert (grown[25, 20] == 100).all()  # in the mask, but not tinted: it is not likely to move


def test_a_sheet_shows_frames_from_first_to_last_each_with_its_own_mask() -> None:
    asked: list[int] = []

    def cell(number: int) -> Cell:
        asked.append(number)
        mask = np.zeros((90, 160), bool)
        mask[:, : number * 2] = True  # more and more of it moves
        return Cell(np.full((90, 160, 3), 60, np.uint8), mask.astype(np.float32), mask)

    sheet = contact_sheet(61, cell, "a title", "a note")
    assert sorted(set(asked)) == [round(4 * i) for i in range(16)]
    red = (sheet[..., 0] > 150) & (sheet[..., 2] < 100)
    # Four rows of four; in each cell the share that is red is the share that moves.
    rows = np.flatnonzero(np.diff(np.r_[0, (sheet == (60, 60, 60)).all(axis=-1).any(axis=1), 0].astype(int)))
    tops, bottoms = rows[::2], rows[1::2]
    assert len(tops) == 4
    shares = [red[top:bottom].mean() for top, bottom in zip(tops, bottoms, strict=True)]
    expected = np.array([np.mean([4 * (4 * row + i) * 2 / 160 for i in range(4)]) for row in range(4)])
    np.testing.assert_allclose(shares, expected, atol=0.05)


def test_a_sheet_of_a_short_video_shows_all_of_it() -> None:
    def cell(number: int) -> Cell:
        shade = 10 + 40 * number
        return Cell(np.full((160, 90, 3), shade, np.uint8), np.zeros((160, 90), np.float32), np.zeros((160, 90), bool))

    sheet = contact_sheet(3, cell, "a title", "a note")
    for shade in (10, 50, 90):
        assert (sheet == shade).all(axis=-1).sum() > 10_000


def test_what_is_said_of_the_cameras_is_written_above_the_frames() -> None:
    def cell(number: int) -> Cell:
        return Cell(np.full((90, 160, 3), 60, np.uint8), np.zeros((90, 160), np.float32), np.zeros((90, 160), bool))

    plain, said, more = (contact_sheet(16, cell, "a title", "a note", "It is doubtful. " * n) for n in (0, 1, 40))
    assert plain.shape[1] == said.shape[1] == more.shape[1]
    line = said.shape[0] - plain.shape[0]
    assert 10 < line < 30 and more.shape[0] - plain.shape[0] in range(3 * line, 9 * line, line)
    written = [(sheet == INK).all(axis=-1).sum() for sheet in (plain, said, more)]
    assert written[0] < written[1] < written[2]


def test_lines_break_between_words() -> None:
    assert wrapped("one two three four", 8, len) == ["one two", "three", "four"]
    assert wrapped("unbreakable words", 5, len) == ["unbreakable", "words"]
    assert wrapped("", 5, len) == []


def test_what_is_fixed_has_a_colour_of_its_own() -> None:
    image, nothing = np.full((40, 60, 3), 100, np.uint8), np.zeros((40, 60), np.float32)
    fixed = np.zeros((40, 60), bool)
    fixed[30:] = True
    drawn = overlay(image, nothing, fixed=fixed)
    assert (drawn[:30] == 100).all() and (drawn[35, 30] == np.rint(40 + 0.6 * np.array(FIXED))).all()
    cell = Cell(image, nothing, nothing > 0, fixed)
    sheet = contact_sheet(1, lambda number: cell, "a title", "a note")
    assert (sheet == drawn[35, 30]).all(axis=-1).sum() > 0.2 * (sheet == 100).all(axis=-1).sum()
