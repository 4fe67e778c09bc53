"""Masks from probabilities, on cases known by hand."""

from __future__ import annotations

import numpy as np
import pytest

from das3r_ns.errors import Das3rError
from das3r_ns.scene.binary_masks import MaskSettings


def test_the_threshold_itself_moves() -> None:
    probability = np.array([[0.1, 0.3, 0.5, 0.9]], np.float32)
    assert MaskSettings().mask(probability).tolist() == [[False, False, True, True]]
    assert MaskSettings(threshold=0.2).mask(probability).tolist() == [[False, True, True, True]]
    assert MaskSettings(threshold=0.95).mask(probability).tolist() == [[False] * 4]


def test_dilation_grows_by_that_many_pixels_in_every_direction() -> None:
    probability = np.zeros((21, 31), np.float32)
    probability[10, 12] = 1
    mask = MaskSettings(dilation=4).mask(probability)
    y, x = np.mgrid[:21, :31]
    np.testing.assert_array_equal(mask, (x - 12) ** 2 + (y - 10) ** 2 <= 16)
    assert not MaskSettings(dilation=4).mask(np.zeros((5, 5), np.float32)).any()  # nothing to grow
    assert MaskSettings(dilation=1000).mask(probability).all()


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.01, float("nan")])
def test_a_threshold_that_makes_no_mask_is_refused(threshold: float) -> None:
    with pytest.raises(Das3rError, match="--threshold"):
        MaskSettings(threshold)


def test_a_negative_dilation_is_refused() -> None:
    with pytest.raises(Das3rError, match="--dilation"):
        MaskSettings(dilation=-1)
