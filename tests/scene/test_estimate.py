"""A SceneEstimate refuses what cannot be a scene."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest


def test_sizes(demo_video) -> None:
    estimate = demo_video.estimate
    assert (estimate.num_frames, estimate.height, estimate.width) == (12, 90, 160)


@pytest.mark.parametrize("field", ["c2w_cv", "intrinsics", "confidence", "dynamic_probability"])
def test_arrays_of_other_lengths_are_refused_by_name(demo_video, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        dataclasses.replace(demo_video.estimate, **{field: getattr(demo_video.estimate, field)[:-1]})


@pytest.mark.parametrize("field", ["c2w_cv", "intrinsics", "depth", "confidence", "dynamic_probability"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_by_name(demo_video, field: str, value: float) -> None:
    array = getattr(demo_video.estimate, field).copy()
    array.flat[-1] = value
    with pytest.raises(ValueError, match=f"{field}.*not finite"):
        dataclasses.replace(demo_video.estimate, **{field: array})


def test_every_frame_has_a_name(demo_video) -> None:
    with pytest.raises(ValueError, match="frame_names"):
        dataclasses.replace(demo_video.estimate, frame_names=["only one"])


def test_what_is_fixed_is_not_static_and_does_not_move(demo_video) -> None:
    estimate = demo_video.estimate
    assert estimate.not_static is estimate.dynamic_probability
    fixed = np.zeros((90, 160), bool)
    fixed[80:] = True
    held = dataclasses.replace(estimate, fixed=fixed)
    assert (held.not_static[:, 80:] == 1).all()
    np.testing.assert_array_equal(held.not_static[:, :80], estimate.dynamic_probability[:, :80])
    with pytest.raises(ValueError, match="fixed"):
        dataclasses.replace(estimate, fixed=fixed[:-1])
