"""Whether a second look is taken, and what it mends."""

from __future__ import annotations

import numpy as np
import pytest

from das3r_ns.frontend.geometric.dynamic_probability import dynamic_probability
from das3r_ns.frontend.geometric.flow import dis_flow
from das3r_ns.frontend.geometric.motion import RigidPrediction, motion_evidence
from das3r_ns.frontend.geometric.second_look import ROUNDS, look_again, trustworthy
from das3r_ns.frontend.pairs import strided_pairs


@pytest.mark.parametrize(
    ("static_share", "moving_share", "believed"),
    [
        pytest.param(0.9, 0.2, True, id="stereo matches what stays"),
        pytest.param(0.3, 0.0, True, id="a third of it"),
        pytest.param(0.2, 0.0, False, id="too little is matched"),
        pytest.param(0.6, 0.5, False, id="the camera followed the mover"),
    ],
)
def test_stereo_is_believed_where_it_tells_the_two_apart(static_share, moving_share, believed) -> None:
    dynamic = np.zeros((1, 20, 20), np.float32)
    dynamic[0, :10] = 1.0
    confidence = np.zeros_like(dynamic)
    confidence[0, 10:].flat[: round(200 * static_share)] = 0.5
    confidence[0, :10].flat[: round(200 * moving_share)] = 0.5
    assert trustworthy(confidence, dynamic) is believed


def test_clips_in_which_nothing_or_everything_moves() -> None:
    confidence = np.full((2, 8, 8), 0.5, np.float32)
    assert trustworthy(confidence, np.zeros_like(confidence))
    assert not trustworthy(confidence, np.ones_like(confidence))


def test_the_second_look_mends_the_first(demo_video) -> None:
    """First masks from a world without cameras, then the true depth of what stays."""
    truth = demo_video.estimate
    images = demo_video.images
    moves = truth.dynamic_probability > 0.5
    flows = dis_flow(images, strided_pairs(len(images), (1, 2, 4, 8)))
    matched = RigidPrediction(truth.depth, np.where(moves, 0.0, 0.9), truth.intrinsics, truth.c2w_cv)
    evidence = motion_evidence(images, flows)  # without cameras: much of the room has parallax, which looks like motion
    first = dynamic_probability(images, evidence)
    ticks = []
    second = look_again(images, images, evidence, matched, first, lambda: ticks.append(1))
    assert len(ticks) == ROUNDS * truth.num_frames

    def iou(probability: np.ndarray) -> float:
        found = probability > 0.5
        return float((found & moves).sum() / (found | moves).sum())

    assert iou(second) > iou(first) + 0.05
    assert iou(second) > 0.7
