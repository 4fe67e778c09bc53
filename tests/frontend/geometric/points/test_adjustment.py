"""Cameras adjusted on points, against the exact ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from das3r_ns.frontend.geometric.bundle.state import State
from das3r_ns.frontend.geometric.points import adjustment, lens
from das3r_ns.frontend.geometric.points.adjustment import adjust_on_points
from das3r_ns.frontend.geometric.points.held_back import HeldBack, is_better, judge
from das3r_ns.frontend.geometric.points.pyramids import build_pyramids, sample_map
from das3r_ns.frontend.geometric.points.tracks import find_again, pick_points
from das3r_ns.frontend.pairs import strided_pairs
from das3r_ns.scene import geometry as geo
from das3r_ns.scene.lens import Lens


@pytest.fixture(scope="module")
def plain(make_film: Callable[..., Any]) -> Any:
    """A film of nothing that moves."""
    return make_film(count=8, speed=0.12, turn=0.02, grain=1.0)


def test_cameras_that_are_off_are_set_right(plain: Any) -> None:
    start = plain.solution(plain.shaken(), focal=1.04 * plain.room.focal)
    found = adjust_on_points(start, plain.room.flows, plain.images)
    assert found.taken
    assert plain.room.path_error(start.c2w_cv) > 0.005
    assert plain.room.path_error(found.result.c2w_cv) < 1.5e-3
    assert found.result.focal == pytest.approx(plain.room.focal, rel=0.005)
    assert found.after.median < 0.1 < found.before.median
    assert found.after.share > 0.98
    assert found.held_back is found.after
    # Frame 0 stays the world, and depths keep their unit.
    np.testing.assert_allclose(found.result.c2w_cv[0], np.eye(4), atol=1e-9)
    lengths = [np.linalg.norm(one[-1, :3, 3]) for one in (plain.solution().c2w_cv, found.result.c2w_cv)]
    assert lengths[1] == pytest.approx(lengths[0], rel=0.02)


def test_a_mover_that_nobody_has_masked(make_film: Callable[..., Any]) -> None:
    film = make_film(count=8, speed=0.12, turn=0.02, mover=True, grain=1.0)
    start = film.solution(film.shaken())
    found = adjust_on_points(start, film.room.flows, film.images)
    assert found.taken
    assert film.room.path_error(found.result.c2w_cv) < 3e-3
    masked = adjust_on_points(start, film.room.flows, film.images, film.room.static_weight)
    assert film.room.path_error(masked.result.c2w_cv) < 1.5e-3


def test_focal_of_a_camera_that_drives_ahead_is_not_drawn_to_what_is_usual(make_film: Callable[..., Any]) -> None:
    steps = np.arange(8)
    sway = 0.004 * np.stack([np.sin(1.3 * steps), np.sin(steps), 0 * steps], axis=1)
    c2w = geo.se3_exp(np.concatenate([np.zeros((8, 3)), sway], axis=1))
    c2w[:, 0, 3], c2w[:, 2, 3] = 0.02 * np.sin(steps), 0.05 * steps - 1.0
    film = make_film(count=8, c2w=c2w, focal=200.0, grain=1.0)
    start = film.solution(film.shaken(0.003, 0.001), focal=210.0)
    found = adjust_on_points(start, film.room.flows, film.images)
    assert found.taken
    assert found.result.focal == pytest.approx(200.0, rel=0.006)  # 1.3 % too long under the prior for optical flow


def test_a_known_focal_stays(plain: Any) -> None:
    start = plain.solution(plain.shaken())
    found = adjust_on_points(start, plain.room.flows, plain.images, known_focal=plain.room.focal)
    assert found.taken
    assert found.result.focal == pytest.approx(plain.room.focal, rel=1e-9)


def test_exact_cameras_are_left_alone_or_stay_exact(plain: Any) -> None:
    found = adjust_on_points(plain.solution(), plain.room.flows, plain.images)
    assert plain.room.path_error(found.result.c2w_cv) < 1.5e-3


def test_where_halves_disagree_wider_scales_are_tried(plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under narrow ones a dense solution that is wrong stays; and what does not explain the matches is not taken."""

    def stuck(samples: Any, state: State, used: Any, scales: tuple[float, ...] = lens.SCALES) -> State:
        return lens.adjust(samples, state, used, scales) if scales == adjustment.WIDE else state

    monkeypatch.setattr(adjustment, "adjust", stuck)
    start = plain.solution(plain.shaken())
    monkeypatch.setattr(adjustment, "DISAGREE", np.inf)
    assert not adjust_on_points(start, plain.room.flows, plain.images).taken
    monkeypatch.setattr(adjustment, "DISAGREE", 0.0)
    found = adjust_on_points(start, plain.room.flows, plain.images)
    assert found.taken
    assert plain.room.path_error(found.result.c2w_cv) < 2e-3 < plain.room.path_error(start.c2w_cv)
    assert found.halves is not None and max(found.halves.path.values()) < 0.005
    monkeypatch.setattr(adjustment, "adjust", lambda samples, state, used, scales=(): state)
    assert not adjust_on_points(start, plain.room.flows, plain.images).taken


def test_a_lens_that_bends_a_little_is_found(make_film: Callable[..., Any]) -> None:
    """Optical flow errs by more; and where the lens is straight, it stays so."""
    film = make_film(count=8, speed=0.12, turn=0.06, grain=0.3)
    focal, (height, width) = film.room.focal, film.images.shape[1:3]
    slight = Lens.central((width, height), focal, -0.08, 0.0)
    bent = np.stack([slight.distorted_picture(image, cv2.INTER_CUBIC) for image in film.images])
    start = film.solution(film.shaken(0.004, 0.0005), focal=1.03 * focal)
    found = adjust_on_points(start, film.room.flows, bent, may_bend=True).result
    assert found.bend is not None
    assert found.bend[0] == pytest.approx(-0.08, abs=0.02)
    without = adjust_on_points(start, film.room.flows, bent).result
    assert without.bend is None and abs(found.focal - focal) < 0.5 * abs(without.focal - focal)
    assert adjust_on_points(start, film.room.flows, film.images, may_bend=True).result.bend is None


def test_a_lens_that_focuses_anew_is_found(plain: Any) -> None:
    """Pictures that grow and shrink by 0.2 %; where they do not, there is one focal."""
    zoom = np.exp(0.002 * np.random.default_rng(8).normal(size=8))
    height, width = plain.images.shape[1:3]

    def picture(image: np.ndarray, zoom: float) -> np.ndarray:
        shift = (1 - zoom) * (np.array([width, height]) - 1) / 2
        matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
        return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)

    images = np.stack([picture(image, one) for image, one in zip(plain.images, zoom, strict=True)])
    start = plain.solution(plain.shaken(0.004, 0.0005))
    found = adjust_on_points(start, plain.room.flows, images, may_focus=True)
    assert found.focuses and found.result.zoom is not None and "focuses" in found.message
    assert np.corrcoef(found.result.zoom, zoom)[0, 1] > 0.6  # drawn to none, the last ones most
    assert found.halves is not None and set(found.halves.provenance()["zoom"]) == set(found.halves.path)
    shared = adjust_on_points(start, plain.room.flows, images).result
    error = plain.room.path_error(found.result.c2w_cv)
    assert shared.zoom is None and error < 0.6 * plain.room.path_error(shared.c2w_cv)
    known = adjust_on_points(start, plain.room.flows, images, known_focal=plain.room.focal, may_focus=True)
    assert not known.focuses
    assert not adjust_on_points(start, plain.room.flows, plain.images, may_focus=True).focuses


@pytest.mark.parametrize("level", [0, 90], ids=["black", "grey"])
def test_nothing_to_see_leaves_the_cameras_as_they_were(plain: Any, level: int) -> None:
    start = plain.solution(plain.shaken())
    found = adjust_on_points(start, plain.room.flows, np.full_like(plain.images, level))
    assert not found.taken
    assert found.result is start
    assert "too few" in found.message
    assert found.provenance["before"]["median"] is None


def test_frames_without_anything_to_see_stay_where_they_were(plain: Any) -> None:
    images = plain.images.copy()
    images[3] = 90
    start = plain.solution(plain.shaken(0.004, 0.0005))
    found = adjust_on_points(start, plain.room.flows, images)
    assert plain.room.path_error(found.result.c2w_cv) < plain.room.path_error(start.c2w_cv)
    assert found.held_back.matches[3] == 0
    assert np.isnan(found.held_back.error[3])


def test_matches_held_back_tell_good_cameras_from_bad_ones(plain: Any) -> None:
    good, bad = plain.solution(), plain.solution(plain.shaken())
    tracks = pick_points(build_pyramids(plain.images, 8), strided_pairs(8, (1, 2, 4)), good.inverse_depth)
    state, wrong = (_state(tracks, solution) for solution in (good, bad))
    find_again(tracks, state)
    samples = tracks.samples(state, None, None)
    held_back = np.zeros(samples.points.shape[:2], dtype=bool)
    held_back[:, ::5] = True
    verdict, near = judge(samples, state, held_back, tracks.found)
    worse, far = judge(samples, wrong, held_back, tracks.found)
    assert verdict.median < 0.1 < worse.median
    assert verdict.share > worse.share
    assert isinstance(verdict, HeldBack) and (verdict.matches > 0).all()
    counted = (tracks.found & held_back[samples.sources] & (samples.weights > 0)).sum(axis=1)
    spans = (samples.sources < 3) != (samples.sinks < 3)
    assert len(verdict.links) == 7 and verdict.links[2] == counted[spans].sum() > 0
    assert is_better(samples, far, near)
    assert not is_better(samples, near, far)
    assert not is_better(samples, near, near)
    assert not is_better(samples, np.full_like(near, -1.0), near)


def test_a_frame_too_few_is_said(plain: Any) -> None:
    with pytest.raises(ValueError, match="8 frames are wanted"):
        build_pyramids(plain.images[:5], 8)


def _state(tracks: Any, solution: Any) -> State:
    grids = zip(solution.inverse_depth, tracks.points, strict=True)
    depth = np.stack([sample_map(grid, points, tracks.size) for grid, points in grids]).astype(np.float64)
    return State(geo.invert_rigid(solution.c2w_cv), depth, solution.focal)
