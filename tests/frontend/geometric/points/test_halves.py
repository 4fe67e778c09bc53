"""Cameras from halves of the picture: they agree where the model is right, and not where a lens bends the border."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from das3r_ns.frontend.geometric.bundle.flow_samples import Samples
from das3r_ns.frontend.geometric.bundle.pose_solver import Solver
from das3r_ns.frontend.geometric.bundle.state import Robust, State, Terms
from das3r_ns.frontend.geometric.points.halves import Halves, compare_halves, path_distance
from das3r_ns.frontend.geometric.points.pyramids import build_pyramids, sample_map
from das3r_ns.frontend.geometric.points.tracks import find_again, pick_points
from das3r_ns.frontend.pairs import strided_pairs
from das3r_ns.scene import geometry as geo

Tracked = tuple[Samples, State]


@pytest.fixture(scope="module")
def tracked(make_film: Callable[..., Any]) -> Tracked:
    """Points of a film in which nothing moves, found again under its true cameras."""
    film = make_film(count=8, speed=0.12, turn=0.02, grain=1.0)
    true = film.solution()
    tracks = pick_points(build_pyramids(film.images, 8), strided_pairs(8, (1, 2, 4)), true.inverse_depth)
    grids = zip(true.inverse_depth, tracks.points, strict=True)
    depth = np.stack([sample_map(grid, points, tracks.size) for grid, points in grids]).astype(np.float64)
    state = State(geo.invert_rigid(true.c2w_cv), depth, true.focal)
    find_again(tracks, state)
    return tracks.samples(state, None, None), state


def settled(samples: Samples, state: State) -> tuple[State, Halves]:
    """The solution of all points, and what halves say of it."""
    robust = Robust(np.full(len(samples.sources), 1.0, dtype=np.float32))
    state, _, _ = Solver(samples).optimise(state, robust, Terms(smoothness=1e-4), 15)
    return state, compare_halves(samples, state, 2.0, 0.25, 1e-4)


def bent(samples: Samples, k1: float, focal: float) -> Samples:
    """The same through a lens of radial distortion k1."""

    def through(places: np.ndarray) -> np.ndarray:
        ray = (places - samples.centre) / focal
        square = (ray**2).sum(axis=-1, keepdims=True)
        return (samples.centre + focal * ray * (1 + k1 * square)).astype(np.float32)

    return replace(samples, points=through(samples.points), targets=through(samples.targets))


def test_halves_agree_where_the_cameras_are_right(tracked: Tracked) -> None:
    _, halves = settled(*tracked)
    assert max(halves.path.values()) < 0.005
    assert halves.frames.max() < 0.01
    assert max(abs(value) for value in halves.focal.values()) < 0.02


def test_a_lens_sets_middle_and_border_apart_though_it_hardly_shows_in_residuals(tracked: Tracked) -> None:
    samples, state = tracked
    _, straight = settled(samples, state)
    _, halves = settled(bent(samples, -0.2, state.focal), state)
    assert abs(halves.focal["middle and border"]) > 0.03
    assert max(halves.path.values()) > 3 * max(straight.path.values())
    record = halves.provenance()
    assert set(record) == {"path", "focal", "frames"} and len(record["frames"]) == 8


def test_the_distance_of_two_paths_knows_no_unit_and_no_place() -> None:
    c2w = np.tile(np.eye(4), (5, 1, 1))
    c2w[:, :3, 3] = [[0, 0, 0], [1, 0, 0], [2, 1, 0], [3, 1, 1], [4, 0, 1]]
    moved = np.array(c2w)
    moved[:, :3, 3] = 3.0 * c2w[:, :3, 3] @ geo.se3_exp(np.array([0, 0, 0, 0.3, 0.2, 0.1]))[:3, :3].T + 7.0
    np.testing.assert_allclose(path_distance(geo.invert_rigid(c2w), geo.invert_rigid(moved)), 0, atol=1e-9)
    moved[2, :3, 3] += 1.0
    distance = path_distance(geo.invert_rigid(c2w), geo.invert_rigid(moved))
    assert distance.argmax() == 2 and distance[2] > 0.02
    assert np.isinf(path_distance(geo.invert_rigid(c2w), np.tile(np.eye(4), (5, 1, 1)))).all()
