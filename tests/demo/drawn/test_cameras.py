"""Cameras: every kind suits some place, keeps where it may be, and moves as its name says."""

from __future__ import annotations

import numpy as np
import pytest

from das3r_ns.demo.drawn.cameras import CAMERAS, camera
from das3r_ns.demo.drawn.scene import Scene

FREE = np.array([(-3.0, -2.5, -3.0), (3.0, -0.4, 40.0)])


def _scene(kind: str) -> Scene:
    return Scene("none", [], (0, 0), np.array([0.3, -1.0, 5.0]), np.array([0.0, -1.5, 0.0]), FREE, (kind,))


@pytest.mark.parametrize("kind", CAMERAS)
def test_it_keeps_where_it_may_be_and_looks_at_something(kind: str) -> None:
    for seed in range(8):
        filming = camera(np.random.default_rng(seed), _scene(kind))
        poses = filming.poses(9)
        rotation, position = poses[:, :3, :3], poses[:, :3, 3]
        np.testing.assert_allclose(rotation @ rotation.transpose(0, 2, 1), np.eye(3)[None].repeat(9, 0), atol=1e-9)
        assert (position > FREE[0] - 0.2).all() and (position < FREE[1] + 0.2).all()
        np.testing.assert_allclose(filming.poses(17)[::2], poses, atol=1e-12)  # the same walk, cut finer


def _moved(kind: str, seed: int) -> tuple[float, float]:
    """Metres and degrees between its first and last pose, the hand's sway left out."""
    filming = camera(np.random.default_rng(seed), _scene(kind))
    filming.shake = 0.0
    first, last = filming.poses(2)
    cosine = (np.trace(first[:3, :3].T @ last[:3, :3]) - 1) / 2
    return float(np.linalg.norm(last[:3, 3] - first[:3, 3])), float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def test_it_moves_as_its_name_says() -> None:
    seeds = range(12)
    assert all(_moved("tripod", seed) == (0.0, pytest.approx(0.0, abs=1e-4)) for seed in seeds)
    assert all(_moved("pan", seed)[0] < 1e-9 and _moved("pan", seed)[1] > 4 for seed in seeds)
    assert all(0.5 < _moved("sweep", seed)[0] < 3.5 for seed in seeds)
    assert all(2.5 < _moved("drive", seed)[0] < 15 for seed in seeds)
    turns = [_moved("orbit", seed)[1] for seed in seeds]
    assert min(turns) > 8 and max(turns) < 75 and max(turns) > 30
    assert np.median([_moved("wide", seed)[1] for seed in seeds]) > np.median(turns)
