"""Movers: every body and every way; they go, stand and come near as they are named."""

from __future__ import annotations

import numpy as np
import pytest

from das3r_ns.demo.drawn import movers
from das3r_ns.demo.drawn.bodies import BODIES, body
from das3r_ns.demo.drawn.cameras import Filming, camera
from das3r_ns.demo.drawn.cards import Card
from das3r_ns.demo.drawn.movers import WAYS, Mover, mover
from das3r_ns.demo.drawn.scene import Scene

FREE = np.array([(-3.0, -2.5, -3.0), (3.0, -0.4, 40.0)])


def _scene(kind: str = "tripod") -> Scene:
    return Scene("none", [], (0, 0), np.array([0.3, -1.0, 5.0]), np.array([0.0, -1.5, 0.0]), FREE, (kind,))


def _corners(parts: list) -> np.ndarray:
    return np.concatenate([p.corners if isinstance(p, Card) else p.centre + (p.rotation * p.radii).T for p in parts])


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_stands_where_it_is_put_and_lives(kind: str) -> None:
    for seed in range(3):
        made, size = body(np.random.default_rng(seed), kind, 1.0)
        parts = made(np.array([2.0, 0.0, 5.0]), 0.4, 0.0)
        points = _corners(parts)
        assert np.abs(points.mean(0) - (2, 0, 5)).max() < 1.5 * size
        assert points[:, 1].max() < 0.2 and np.ptp(points, axis=0).max() < 2.2 * size
        shifted = _corners(made(np.array([3.0, 0.0, 5.0]), 0.4, 0.0))
        np.testing.assert_allclose(shifted - points, np.broadcast_to((1.0, 0, 0), points.shape), atol=1e-6)
        later = made(np.array([2.0, 0.0, 5.0]), 0.4, 0.3)
        assert kind == "cutout" or np.abs(_corners(later) - points).max() > 1e-3


def _of_way(way: str, seed: int, monkeypatch: pytest.MonkeyPatch, camera_kind: str = "tripod") -> tuple[Mover, Filming]:
    monkeypatch.setattr(movers, "WAYS", (way,))
    rng = np.random.default_rng(seed)
    scene = _scene(camera_kind)
    filming = camera(rng, scene)
    return mover(rng, scene, filming, 0.55), filming


def test_ways_are_what_they_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(6):
        made = {way: _of_way(way, seed, monkeypatch)[0] for way in dict.fromkeys(WAYS)}
        for way, one in made.items():
            if one.way != way:
                continue  # it would have run into the camera
            trail = np.stack([one.place(time) for time in np.linspace(0, 1, 41)])
            steps = np.linalg.norm(np.diff(trail, axis=0), axis=1)
            assert steps.sum() > 0.45
            assert (way in ("stop", "stopgo", "late")) == bool((steps < 1e-9).any()), way
            if way == "late":
                assert steps[:10].max() < 1e-9 < steps[-1]
            if way == "stop":
                assert steps[-10:].max() < 1e-9 < steps[0]
            if way == "near":
                assert min(np.linalg.norm(place - (0, 0, 0)) for place in trail) < 1.6 * one.size


def test_what_stops_stops_with_all_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = _of_way("stop", 3, monkeypatch)
    np.testing.assert_array_equal(_corners(one.at(0.9)), _corners(one.at(1.0)))
    assert np.abs(_corners(one.at(0.0)) - _corners(one.at(0.1))).max() > 1e-3


def test_what_runs_along_stays_in_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for seed in range(10):
        one, filming = _of_way("along", seed, monkeypatch, "drive")
        for time in np.linspace(0, 1, 5):
            pose = filming.pose(time)
            local = pose[:3, :3].T @ (one.place(time) - pose[:3, 3])
            seen.append(local[2] > 0 and abs(local[0] / local[2]) < 0.9)
    assert np.mean(seen) > 0.9
