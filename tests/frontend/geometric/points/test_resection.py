"""Frames placed anew by the points of those that are well tied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from das3r_ns.frontend.geometric.bundle.state import State
from das3r_ns.frontend.geometric.points.held_back import HeldBack
from das3r_ns.frontend.geometric.points.pyramids import build_pyramids
from das3r_ns.frontend.geometric.points.resection import place_anew, well_tied
from das3r_ns.scene import geometry as geo


@pytest.mark.parametrize("ends", ["last", "first"])
def test_frames_half_a_step_off_are_brought_back(make_film: Callable[..., Any], ends: str) -> None:
    film = make_film(count=10, speed=0.12, turn=0.02, grain=1.0)
    good = film.solution()
    c2w = good.c2w_cv.copy()
    step = np.linalg.norm(np.diff(c2w[:, :3, 3], axis=0), axis=1).mean()
    if ends == "last":
        c2w[8:, :3, 3] -= 0.5 * (c2w[8:, :3, 3] - c2w[7, :3, 3])
        core, wrong = range(8), [8, 9]
    else:
        c2w[:2, :3, 3] -= 0.5 * (c2w[:2, :3, 3] - c2w[2, :3, 3])
        core, wrong = range(2, 10), [0, 1]
    assert (_off(c2w, good.c2w_cv, core)[wrong] > 0.4 * step).all()
    state = State(geo.invert_rigid(c2w), good.inverse_depth.reshape(10, -1), good.focal)
    placed = place_anew(build_pyramids(film.images, 10), state, core)
    assert (_off(geo.invert_rigid(placed), good.c2w_cv, core) < 0.2 * step).all()
    np.testing.assert_array_equal(placed[core.start : core.stop], state.w2c[core.start : core.stop])


def test_a_frame_that_shows_nothing_known_stays_as_it_lies_to_its_neighbour(make_film: Callable[..., Any]) -> None:
    film = make_film(count=6, speed=0.12, turn=0.02, grain=1.0)
    images = film.images.copy()
    images[5] = 128
    good = film.solution()
    c2w = good.c2w_cv.copy()
    c2w[4:, :3, 3] += [0.0, 0.1, 0.0]
    state = State(geo.invert_rigid(c2w), good.inverse_depth.reshape(6, -1), good.focal)
    placed = geo.invert_rigid(place_anew(build_pyramids(images, 6), state, range(4)))
    np.testing.assert_allclose(placed[4, :3, 3], good.c2w_cv[4, :3, 3], atol=0.01)
    np.testing.assert_allclose(geo.invert_rigid(placed[4]) @ placed[5], geo.invert_rigid(c2w[4]) @ c2w[5], atol=1e-9)


def test_the_longest_run_without_a_large_error_is_well_tied() -> None:
    def held_back(*error: float) -> HeldBack:
        number = np.ones(len(error), dtype=np.int64)
        return HeldBack(
            number,
            np.ones(len(error)),
            np.array(error),
            1.0,
            float(np.nanmedian(error)),
            number[1:],
            np.ones(len(error) - 1),
        )

    assert well_tied(held_back(0.2, 0.2, 0.3, 0.2)) == range(4)
    assert well_tied(held_back(0.2, 0.5, 0.2, 0.2, 0.2, 0.6, 0.2)) == range(2, 5)
    assert well_tied(held_back(0.2, 0.2, 0.2, np.nan)) == range(3)


def _off(c2w: np.ndarray, truth: np.ndarray, core: range) -> np.ndarray:
    """Distances from the true places, after the similarity by the frames of the core."""
    centres, target = c2w[:, :3, 3], truth[:, :3, 3]
    scale, rotation, translation = geo.umeyama_sim3(centres[core.start : core.stop], target[core.start : core.stop])
    return np.linalg.norm(scale * centres @ rotation.T + translation - target, axis=1)
