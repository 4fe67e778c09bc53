"""Frames without what is fixed to the camera."""

from __future__ import annotations

import numpy as np

from das3r_ns.frontend.painted import painted_over


def test_what_is_fixed_is_painted_with_the_colours_around() -> None:
    frames = np.full((2, 60, 80, 3), (200, 100, 50), np.uint8)
    fixed = np.zeros((60, 80), bool)
    fixed[40:] = fixed[10:14, 5:70] = True
    frames[:, fixed] = 0
    frames[1, :30] = 20
    painted = painted_over(frames, fixed)
    np.testing.assert_array_equal(painted[:, ~fixed], frames[:, ~fixed])
    assert np.abs(painted[0].astype(int) - (200, 100, 50)).max() <= 2
    assert np.abs(painted[1, 10:14].astype(int) - 20).max() <= 2
