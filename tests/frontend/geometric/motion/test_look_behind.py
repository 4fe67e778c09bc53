"""What other frames show of the static world behind a mover, on the demo with its exact depth."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from das3r_ns.frontend.geometric.motion import RigidPrediction, look_behind
from das3r_ns.frontend.geometric.motion.look_behind import mean_around
from das3r_ns.frontend.geometric.motion.look_behind_kernels import colours_behind, inverse_depth_from_others


@pytest.fixture(scope="module")
def matched(demo_video) -> RigidPrediction:
    """The true static world as stereo would measure it: movers hide it and do not match."""
    truth = demo_video.estimate
    moves = truth.dynamic_probability > 0.5
    return RigidPrediction(truth.depth, np.where(moves, 0.0, 0.9), truth.intrinsics, truth.c2w_cv)


def roomy(static: np.ndarray) -> np.ndarray:
    """The places of at least three pixels squared."""
    return np.stack([cv2.morphologyEx(frame.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3))) > 0 for frame in static])


def test_movers_differ_from_what_is_behind_them(demo_video, matched) -> None:
    truth = demo_video.estimate
    ticks = []
    look = look_behind(demo_video.images, matched, 1.0 - truth.dynamic_probability, lambda: ticks.append(1))
    assert len(ticks) == truth.num_frames
    for values in (look.change, look.witnessed, look.still, look.missing, look.at_rest, look.believed):
        assert values.shape == truth.depth.shape
        assert values.min() >= 0
        assert values.max() <= 1
    moves = truth.dynamic_probability > 0.5
    assert np.median(look.change[moves & (look.witnessed == 1)]) > 0.6
    assert np.quantile(look.change[~moves], 0.9) < 0.1
    np.testing.assert_array_equal(look.still, roomy(~moves))
    assert np.quantile(look.at_rest[~moves], 0.1) > 0.7
    assert np.median(look.at_rest[~moves]) > 0.98
    assert (look.at_rest[moves] == 0).all()
    # All that stays is matched: a mover is missing amid it.
    assert np.median(look.missing[moves]) > 0.9
    assert look.missing[roomy(~moves)].max() == 0


def test_a_mover_nobody_has_found_yet_shows(demo_video, matched) -> None:
    """Taken for static, and with a depth of its own in its own frame, it still differs from what the others see."""
    truth = demo_video.estimate
    moves = truth.dynamic_probability > 0.5
    unaware = look_behind(demo_video.images, matched, np.ones_like(truth.depth))
    seen = moves & (unaware.witnessed == 1)
    assert seen.sum() > 0.4 * moves.sum()
    assert np.median(unaware.change[seen]) > 10 * np.median(unaware.change[~moves]) + 0.2


def test_what_matches_is_not_taken_for_a_change(demo_video, matched) -> None:
    stays = roomy(demo_video.estimate.dynamic_probability < 0.5)
    place = np.zeros_like(stays)
    place[4, 20:40, 30:60] = stays[4, 20:40, 30:60]
    painted = demo_video.images.copy()
    painted[place] = (255, 0, 255)
    static = 1.0 - demo_video.estimate.dynamic_probability
    assert look_behind(painted, matched, static).change[place].max() == 0
    doubtful = dataclasses.replace(matched, reliability=0.05 * matched.reliability)
    assert np.median(look_behind(painted, doubtful, static).change[place]) > 0.6


def test_what_others_contradict_is_not_at_rest(demo_video, matched) -> None:
    """A part of the movers matches: where other frames see something else behind them that proves little."""
    moves = demo_video.estimate.dynamic_probability > 0.5
    part = np.zeros_like(moves)
    part[:, ::20] = part[:, 1::20] = part[:, 2::20] = True
    part &= moves
    striped = dataclasses.replace(matched, reliability=np.where(part, 0.9, matched.reliability))
    look = look_behind(demo_video.images, striped, 1.0 - demo_video.estimate.dynamic_probability)
    found = part & (look.still == 1)
    assert found.sum() > 0.8 * part.sum()
    assert np.median(look.at_rest[found & (look.witnessed == 1)]) < 0.3
    assert np.median(look.at_rest[~moves]) > 0.4


def test_what_matches_in_spots_is_not_still(demo_video, matched) -> None:
    moves = demo_video.estimate.dynamic_probability > 0.5
    inside = np.stack([cv2.erode(frame.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0 for frame in moves])
    spots = inside & (np.indices(moves.shape).sum(axis=0) % 2 == 0)
    checked = dataclasses.replace(matched, reliability=np.where(spots, 0.9, matched.reliability))
    look = look_behind(demo_video.images, checked, 1.0 - demo_video.estimate.dynamic_probability)
    assert spots.sum() > 100
    assert look.still[spots].max() == 0
    assert (look.still[~moves] == 1).mean() > 0.99


def test_where_movers_match_nothing_is_at_rest(demo_video, matched) -> None:
    """In one frame its movers are matched like all else: around them, and only there, this proves nothing any more."""
    moves = demo_video.estimate.dynamic_probability > 0.5
    assert moves[4].any()
    reliability = matched.reliability.copy()
    reliability[4] = 0.9
    fooled = dataclasses.replace(matched, reliability=reliability)
    look = look_behind(demo_video.images, fooled, 1.0 - demo_video.estimate.dynamic_probability)
    assert (look.still[4] == 1).all()
    assert look.at_rest[4][moves[4]].max() == 0
    far = cv2.distanceTransform((~moves[4]).astype(np.uint8), cv2.DIST_L2, 5) > 0.2 * moves.shape[2]
    assert far.mean() > 0.05
    assert np.median(look.at_rest[4][far]) > 0.9
    assert np.median(look.at_rest[5][~moves[5]]) > 0.9


def test_stereo_of_a_mover_that_the_camera_follows_is_not_believed(demo_video, matched) -> None:
    """It matches, and nothing around it does: what is known without stereo stays there."""
    static = 1.0 - demo_video.estimate.dynamic_probability
    moves = roomy(static < 0.5)
    follows = dataclasses.replace(matched, reliability=np.where(static < 0.5, 0.9, 0.0))
    look = look_behind(demo_video.images, follows, static)
    assert np.quantile(look.believed[moves], 0.9) == 0
    for name in ("change", "witnessed", "still", "missing", "at_rest"):
        assert getattr(look, name)[moves & (look.believed == 0)].max() == 0
    # Where movers match as often as what stays they may be static things; without any, nothing speaks against it.
    for reliability, known in ((np.full_like(static, 0.9), static), (follows.reliability, np.ones_like(static))):
        same = look_behind(demo_video.images, dataclasses.replace(matched, reliability=reliability), known)
        assert np.quantile(same.believed, 0.02) > 0.9


def test_places_that_few_frames_see_are_worth_little(demo_video, matched) -> None:
    two = slice(0, 3, 2)
    few = RigidPrediction(matched.depth[two], matched.reliability[two], matched.intrinsics[two], matched.c2w_cv[two])
    look = look_behind(demo_video.images[two], few, np.ones_like(few.depth))
    assert look.witnessed.max() == 0  # the frames are one apart, and none of the distances is
    three = RigidPrediction(matched.depth[:3], matched.reliability[:3], matched.intrinsics[:3], matched.c2w_cv[:3])
    assert look_behind(demo_video.images[:3], three, np.ones_like(three.depth)).witnessed.max() == 0.25


def test_a_picture_held_upright_has_as_much_around_a_pixel() -> None:
    rng = np.random.default_rng(0)
    values, counted = rng.uniform(size=(54, 96)).astype(np.float32), rng.uniform(size=(54, 96)) < 0.7
    np.testing.assert_allclose(mean_around(values.T, counted.T), mean_around(values, counted).T, atol=1e-5)


def test_the_nearest_surface_that_enough_frames_agree_on() -> None:
    """Four frames at the same place: three see a wall, one of them a post before it, and one knows nothing."""
    depths = np.stack([np.full((4, 5), d, np.float32) for d in (0.5, 0.51, 0.49, 2.0)])
    depths[2, :, 3] = 2.0
    trust = np.ones_like(depths)
    trust[3] = 0.4
    trust[:, 0] = 0.0
    rays, offsets = np.tile(np.eye(3, dtype=np.float32), (4, 1, 1)), np.zeros((4, 3), np.float32)
    found, support = inverse_depth_from_others(depths, trust, rays, offsets, 0.3, 0.06, 0.1)
    np.testing.assert_array_equal(found[0], 0.0)
    np.testing.assert_array_equal(support[0], 0.0)
    np.testing.assert_allclose(found[1:, :2], 0.5, rtol=1e-6)
    np.testing.assert_allclose(support[1:, :2], 3.0)
    np.testing.assert_allclose(found[1:, 3], 2.0)  # 1.4 of 3.4 see the post: enough, and it is nearer


def test_points_move_with_the_camera() -> None:
    """One point, seen from further to the right: it is found as far to the left as its inverse depth says."""
    inverse_depth = np.full((1, 3, 12), 0.5, np.float32)
    trust = np.zeros_like(inverse_depth)
    trust[0, 1, 7] = 1.0
    offsets = np.array([[-4.0, 0.0, 0.0]], np.float32)
    found, _ = inverse_depth_from_others(inverse_depth, trust, np.eye(3, dtype=np.float32)[None], offsets, 0.3, 0.06, 0)
    assert found[1, 5] == 0.5
    assert np.count_nonzero(found) <= 4
    assert np.abs(np.argwhere(found) - (1, 5)).max() <= 1


def test_colours_are_compared_with_those_who_see_the_place() -> None:
    picture = np.zeros((3, 4, 2), np.float32)
    values = (10.0, 12.0, 20.0, 90.0, 70.0)
    pictures = np.stack([np.full_like(picture, value) for value in values])
    static = np.ones((5, 3, 4), bool)
    surfaces = np.full((5, 3, 4), 1.0, np.float32)
    static[3] = False  # shows a mover
    surfaces[4] = 3.0  # has something in front
    depth = np.ones((3, 4), np.float32)
    rays, offsets = np.tile(np.eye(3, dtype=np.float32), (5, 1, 1)), np.zeros((5, 3), np.float32)

    def compare(count: int) -> tuple[np.ndarray, ...]:
        some = slice(count)
        others = (pictures[some], static[some], surfaces[some])
        return colours_behind(picture, depth, *others, rays[some], offsets[some], 0.0)

    error, spread, seen = compare(5)
    np.testing.assert_array_equal(seen, 3)
    np.testing.assert_allclose(error, 2 * 12.0)
    np.testing.assert_allclose(spread, 2 * 2.0)
    # Of an even number the median is half way, and where nobody sees the place nothing is known.
    error, *_ = compare(2)
    np.testing.assert_allclose(error, 2 * 11.0)
    static[:] = False
    error, spread, seen = compare(5)
    assert not error.any()
    assert not spread.any()
    assert not seen.any()
