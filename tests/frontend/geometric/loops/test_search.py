"""Frames that see the same place again."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from das3r_ns.frontend.geometric.loops.search import View, appearance, find_loops
from das3r_ns.scene import geometry as geo
from das3r_ns.video.same_place import Look


def looks_of(room) -> list[Look]:
    return [Look(k, cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)) for k, image in enumerate(room.images)]


def test_a_place_is_found_again_by_appearance_and_geometry(room) -> None:
    truth, rng = room.estimate, np.random.default_rng(2)
    looks = looks_of(room)
    noise = cv2.resize(rng.integers(0, 255, (45, 80)).astype(np.uint8), (320, 180), interpolation=cv2.INTER_CUBIC)
    looks.append(Look(12, noise))
    alike = appearance(looks)
    np.testing.assert_allclose(np.diag(alike), 1.0, atol=1e-5)
    assert alike[0, 11] > alike[0, 12] + 0.1

    def view(number: int) -> View:
        number = min(number, 11)
        unit = 2.0 if number >= 6 else 1.0  # the second half has another unit of length
        return View(truth.intrinsics[number], unit * truth.depth[number], 1 - truth.dynamic_probability[number])

    loops = find_loops(looks, view, 7)
    assert loops and all(loop.second - loop.first > 7 and loop.second < 12 for loop in loops)
    for loop in loops:
        exact = geo.invert_rigid(truth.c2w_cv[loop.first]) @ truth.c2w_cv[loop.second]
        assert float(loop.motion.scale) == pytest.approx(0.5, rel=0.05)
        assert np.linalg.norm(loop.motion.translation - exact[:3, 3]) < 0.15
        turn = Rotation.from_matrix(loop.motion.rotation.T @ exact[:3, :3]).magnitude()
        assert np.degrees(turn) < 1.5
