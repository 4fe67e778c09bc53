"""What a second look mends."""

from __future__ import annotations

import numpy as np

from das3r_ns.frontend.geometric.dynamic_probability import dynamic_probability
from das3r_ns.frontend.geometric.flow import dis_flow
from das3r_ns.frontend.geometric.motion import RigidPrediction, motion_evidence
from das3r_ns.frontend.geometric.second_look import ROUNDS, look_again
from das3r_ns.frontend.pairs import strided_pairs


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
    second = look_again(images, images, flows, evidence, matched, first, on_frame=lambda: ticks.append(1))
    assert len(ticks) == ROUNDS * truth.num_frames

    def iou(probability: np.ndarray) -> float:
        found = probability > 0.5
        return float((found & moves).sum() / (found | moves).sum())

    assert iou(second) > iou(first) + 0.05
    assert iou(second) > 0.7
