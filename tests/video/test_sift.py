"""Keypoints that are told by what they look like."""

from __future__ import annotations

import cv2
import numpy as np

from das3r_ns.video.sift import distinct_matches, find_keypoints


def test_a_picture_that_is_shifted_is_found_again() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 260)).astype(np.uint8)
    picture = cv2.GaussianBlur(noise, (0, 0), 3)
    (here, these), (there, those) = (
        find_keypoints(picture[:, :240], 300, 0.01),
        find_keypoints(picture[:, 20:], 300, 0.01),
    )
    first, second = distinct_matches(these, those)
    assert len(first) > 30
    np.testing.assert_allclose(np.median(there[second] - here[first], axis=0), [-20, 0], atol=0.1)


def test_what_has_a_twin_or_no_match_is_left_out() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.random((2, 128), dtype=np.float32)
    near = one + 0.001
    first, second = distinct_matches(np.stack([one + 0.0005, other]), np.stack([other, one, near]))
    assert first.tolist() == [1] and second.tolist() == [0]
    nothing, _ = find_keypoints(np.full((64, 64), 90, np.uint8), 10)
    assert nothing.shape == (0, 2)
    assert all(len(part) == 0 for part in distinct_matches(np.empty((0, 128), np.float32), np.stack([one, other])))
    assert all(len(part) == 0 for part in distinct_matches(np.stack([one, other]), one[None]))
