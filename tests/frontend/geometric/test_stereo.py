"""Multi-view stereo against the demo's exact depth, with the true cameras."""

from __future__ import annotations

import numpy as np
import pytest

from das3r_ns.frontend.geometric import stereo
from das3r_ns.frontend.geometric.stereo import match_frames
from das3r_ns.frontend.geometric.sweep import sources


@pytest.fixture(scope="module")
def blurred(demo_video):
    """What flow would measure: the true depth with its edges smeared, wrong by a smooth 20 %."""
    truth = demo_video.estimate
    rows = np.linspace(-1, 1, truth.height, dtype=np.float32)[:, None]
    prior = truth.depth * (1 + 0.2 * rows)
    return prior.astype(np.float32), np.full(prior.shape, 0.3, np.float32)


def stereo_depth(images, static, intrinsics, c2w_cv, prior, trust, on_frame=lambda: None):
    """Depth and confidence where the movers are known from the start."""
    matches = match_frames(images, intrinsics, c2w_cv, prior, trust, static, on_frame)
    assert matches is not None
    return matches.depth(static, on_frame)


def test_true_cameras_give_true_depth(demo_video, blurred) -> None:
    truth, (prior, trust) = demo_video.estimate, blurred
    static = 1.0 - truth.dynamic_probability
    ticks = []
    depth, confidence = stereo_depth(
        demo_video.images, static, truth.intrinsics, truth.c2w_cv, prior, trust, lambda: ticks.append(1)
    )
    assert len(ticks) == 2 * truth.num_frames
    assert np.isfinite(depth).all()
    assert (depth > 0).all()
    assert confidence.min() >= 0
    assert confidence.max() <= 1
    stays = static > 0.5
    error = np.abs(depth / truth.depth - 1)
    sure = (confidence > 0.5) & stays
    assert sure.sum() > 0.3 * stays.sum()
    assert np.median(error[sure]) < 0.02
    assert np.quantile(error[sure], 0.9) < 0.04
    assert np.median(error[stays]) < 0.2 * np.median(np.abs(prior / truth.depth - 1)[stays])
    # What moves is neither believed nor taken for the depth of what it hides.
    assert confidence[truth.dynamic_probability > 0.5].max() < 0.05


def test_pictures_without_texture_leave_the_depth_as_it_was(demo_video) -> None:
    truth = demo_video.estimate
    trust = np.full_like(truth.depth, 0.8)
    grey = np.full_like(demo_video.images, 128)
    depth, confidence = stereo_depth(
        grey, np.ones_like(trust), truth.intrinsics, truth.c2w_cv, demo_video.clean_depth, trust
    )
    assert np.median(np.abs(depth / demo_video.clean_depth - 1)) < 0.01
    assert confidence.max() <= 0.8
    # Which depths keep a point inside the other pictures says nothing about its own.
    assert (np.abs(depth / demo_video.clean_depth - 1) < 0.01).mean() > 0.9


def test_without_any_depth_to_start_from_nothing_is_matched(demo_video) -> None:
    truth = demo_video.estimate
    trust = np.zeros_like(truth.depth)
    assert match_frames(demo_video.images, truth.intrinsics, truth.c2w_cv, truth.depth, trust) is None


def test_what_moves_does_not_match_although_nobody_says_that_it_moves(demo_video, blurred) -> None:
    truth, (prior, trust) = demo_video.estimate, blurred
    cameras = (truth.intrinsics, truth.c2w_cv)
    matches = match_frames(demo_video.images, *cameras, prior, np.where(truth.dynamic_probability > 0.5, 0.0, trust))
    assert matches is not None
    depth, confidence = matches.depth()
    moves = truth.dynamic_probability > 0.5
    matched = confidence > 0.3
    assert matched[moves].mean() < 0.4 * matched[~moves].mean()
    error = np.abs(depth / truth.depth - 1)
    assert np.median(error[matched & ~moves]) < 0.02
    # Told afterwards, it forgets the rest.
    assert matches.depth(1.0 - truth.dynamic_probability)[1][moves].max() < 0.05


def test_cameras_that_differ_in_focal_and_centre(demo_video, blurred) -> None:
    """Every second frame is seen through another lens: cropped off its centre, so only the camera matrix tells."""
    truth, (prior, trust) = demo_video.estimate, blurred
    intrinsics = truth.intrinsics.copy()
    images, depth_truth = demo_video.images.copy(), truth.depth.copy()
    shift = 10
    images[1::2, :, :-shift] = images[1::2, :, shift:]
    depth_truth[1::2, :, :-shift] = depth_truth[1::2, :, shift:]
    static = (1.0 - truth.dynamic_probability).copy()
    static[1::2, :, :-shift] = static[1::2, :, shift:]
    static[1::2, :, -shift:] = 0.0
    intrinsics[1::2, 0, 2] -= shift
    depth, confidence = stereo_depth(images, static, intrinsics, truth.c2w_cv, prior, trust)
    sure = (confidence > 0.5) & (static > 0.5)
    assert sure.sum() > 0.2 * (static > 0.5).sum()
    assert np.median(np.abs(depth / depth_truth - 1)[sure]) < 0.02


def test_large_frames_are_matched_smaller_and_filled_at_their_own_size(
    demo_video, blurred, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, (prior, trust) = demo_video.estimate, blurred
    monkeypatch.setattr(stereo, "LONG_SIDE", 120)
    static = 1.0 - truth.dynamic_probability
    depth, confidence = stereo_depth(demo_video.images, static, truth.intrinsics, truth.c2w_cv, prior, trust)
    assert depth.shape == confidence.shape == prior.shape
    sure = (confidence > 0.4) & (static > 0.5)
    assert sure.sum() > 0.1 * (static > 0.5).sum()
    assert np.median(np.abs(depth / truth.depth - 1)[sure]) < 0.025


def test_sources_lie_on_both_sides_where_there_are_two() -> None:
    parallax = np.abs(np.arange(9) - 3.0)
    assert sources(3, parallax, (1.0, 2.0, 5.0)) == [2, 1, 0, 4, 5, 8]
    assert sources(0, np.arange(9.0), (2.0, 4.0)) == [2, 4]
    # A camera that hardly moves has few frames to choose from: none twice.
    assert sorted(sources(1, np.array([0.1, 0.0, 0.1]), (6.0, 12.0))) == [0, 2]
