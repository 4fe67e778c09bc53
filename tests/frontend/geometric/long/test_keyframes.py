"""Frames from all of a long video adjusted together, and those between them."""

from __future__ import annotations

import numpy as np
import pytest
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from das3r_ns.frontend.geometric.long.joined import Joined
from das3r_ns.frontend.geometric.long.keyframes import Keyframes, adjust_keyframes
from das3r_ns.frontend.geometric.long.together import _take
from das3r_ns.frontend.geometric.points.ends import Ends
from das3r_ns.frontend.similarity import Sim3


def test_keyframes_are_adjusted_on_points(room) -> None:
    truth, rng = room.estimate, np.random.default_rng(3)
    wrong = truth.c2w_cv.copy()
    wrong[1:, :3, 3] += rng.normal(size=(11, 3)) * 0.01
    wrong[1:, :3, :3] = Rotation.from_rotvec(rng.normal(size=(11, 3)) * 0.002).as_matrix() @ wrong[1:, :3, :3]
    frames = Keyframes(wrong, float(truth.intrinsics[0, 0, 0]), truth.depth, 1 - truth.dynamic_probability)
    adjusted = adjust_keyframes(frames, frames, iter(room.images), Ends((0, 11), ((0, 11),)), focal_known=True)
    assert adjusted.taken and adjusted.after.median < 0.5 * adjusted.before.median
    found = adjusted.c2w_cv.copy()
    found[:, :3, 3] /= np.median(adjusted.growth)
    assert adjusted.focal == pytest.approx(frames.focal)
    assert adjusted.ends.closed and adjusted.ends.matches > 10 and adjusted.ends.share > 0.8

    def error(c2w: np.ndarray) -> float:
        return float(np.sqrt(((c2w[:, :3, 3] - truth.c2w_cv[:, :3, 3]) ** 2).sum(axis=1).mean()))

    assert error(found) < 0.35 * error(wrong)
    assert np.abs(adjusted.growth / np.median(adjusted.growth) - 1).max() < 0.02


def circling() -> Float[np.ndarray, "N 4 4"]:
    """Nine cameras on half a circle, looking ahead."""
    angle = np.linspace(0, np.pi, 9)
    c2w = np.tile(np.eye(4), (9, 1, 1))
    c2w[:, :3, :3] = Rotation.from_rotvec(np.outer(angle, [0, 1, 0])).as_matrix()
    c2w[:, :3, 3] = 3 * np.stack([np.cos(angle), 0 * angle, -np.sin(angle)], axis=1)
    return np.linalg.inv(c2w[0]) @ c2w


def test_frames_between_keyframes_follow_them() -> None:
    """A similarity of the whole is given back exactly in between; one that differs, in the middle between both."""
    joined = Joined.empty(9, 2, 3)
    joined.c2w_cv, joined.depth[:] = circling(), 1.0
    old = joined.c2w_cv.copy()
    turn = Rotation.from_rotvec([0.1, 0.4, -0.2]).as_matrix()
    whole = Sim3(np.array(2.0), turn, np.array([1.0, -2.0, 0.5]))
    numbers = np.array([0, 4, 8])
    _take(joined, numbers, np.full(3, 2.0), whole.apply_to_cameras(old)[numbers])
    np.testing.assert_allclose(joined.c2w_cv, whole.apply_to_cameras(old), atol=1e-9)
    np.testing.assert_allclose(joined.depth, 2.0)
    joined.c2w_cv = old.copy()
    moved = old[numbers].copy()
    moved[2, :3, 3] += [0.0, 1.0, 0.0]
    _take(joined, numbers, np.ones(3), moved)
    np.testing.assert_allclose(joined.c2w_cv[4:, 1, 3] - old[4:, 1, 3], [0, 0.25, 0.5, 0.75, 1.0], atol=1e-9)
    np.testing.assert_allclose(joined.c2w_cv[:4], old[:4], atol=1e-9)
