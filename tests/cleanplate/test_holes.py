"""What no frame sees: a scene in which that is known by hand."""

from __future__ import annotations

import numpy as np
import pytest

from das3r_ns.cleanplate.holes import ever_seen

HEIGHT, WIDTH, FOCAL, DEPTH = 40, 60, 50.0, 5.0
SHIFT = 6
"""Pixels by which the wall moves from frame to frame."""


@pytest.fixture()
def wall() -> dict[str, np.ndarray]:
    """Three cameras that slide along a flat wall."""
    c2w = np.tile(np.eye(4), (3, 1, 1))
    c2w[:, 0, 3] = np.arange(3) * SHIFT * DEPTH / FOCAL
    k = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
    return {
        "depth": np.full((3, HEIGHT, WIDTH), DEPTH, np.float32),
        "intrinsics": np.tile(k, (3, 1, 1)),
        "c2w_cv": c2w,
    }


def columns(first: int, last: int) -> np.ndarray:
    """Some columns of a picture."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[:, first:last] = True
    return mask


def test_a_mover_that_stays_in_the_picture_uncovers_what_the_camera_passes(wall: dict[str, np.ndarray]) -> None:
    """It covers columns 20 to 40 of every picture: of frame 0's wall, frame 1 shows all but what moved under it."""
    moves = columns(20, 40)
    seen = ever_seen(0, moves, np.stack([~moves] * 3), **wall)
    # Column c of frame 0 is column c - 6 of frame 1 and c - 12 of frame 2.
    np.testing.assert_array_equal(seen, columns(20, 32))


def test_what_moves_with_the_wall_hides_it_for_good(wall: dict[str, np.ndarray]) -> None:
    shown = np.stack([~columns(20 - SHIFT * i, 40 - SHIFT * i) for i in range(3)])
    assert not ever_seen(0, columns(20, 40), shown, **wall).any()


def test_something_static_in_front_hides_too(wall: dict[str, np.ndarray]) -> None:
    moves = columns(20, 40)
    wall["depth"][1:] = 3.0
    assert not ever_seen(0, moves, np.stack([~moves] * 3), **wall).any()


def test_only_what_was_asked_for_and_what_the_frame_shows_itself(wall: dict[str, np.ndarray]) -> None:
    shown = np.zeros((3, HEIGHT, WIDTH), bool)
    shown[0] = columns(0, 25)
    np.testing.assert_array_equal(ever_seen(0, columns(20, 40), shown, **wall), columns(20, 25))


def test_what_no_other_camera_looks_at(wall: dict[str, np.ndarray]) -> None:
    wall["c2w_cv"][1:] = np.diag([-1.0, 1.0, -1.0, 1.0])  # they look the other way
    moves = columns(20, 40)
    assert not ever_seen(0, moves, np.stack([~moves] * 3), **wall).any()
