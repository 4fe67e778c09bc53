"""The evidence of clips that are short, plain or held upright, and what a mover leaves in it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from jaxtyping import UInt8

from das3r_ns.frontend.geometric.dynamic_probability import dynamic_probability
from das3r_ns.frontend.geometric.flow import dis_flow
from das3r_ns.frontend.geometric.motion import EvidenceMaps, motion_evidence
from das3r_ns.frontend.geometric.motion.evidence import CUE_NAMES
from das3r_ns.frontend.pairs import strided_pairs


def noise(size: tuple[int, int], seed: int) -> UInt8[np.ndarray, "h w 3"]:
    """A picture with texture everywhere."""
    picture = cv2.GaussianBlur(np.random.default_rng(seed).uniform(0, 255, (*size[::-1], 3)), (0, 0), 2)
    return np.clip(4 * (picture - 127) + 127, 0, 255).astype(np.uint8)


def slide(count: int, size: tuple[int, int] = (96, 64), mover: int = 0) -> UInt8[np.ndarray, "N h w 3"]:
    """A wall that goes by at two pixels a frame, and a square before it that goes the other way.

    Args:
        count: Number of frames.
        size: Width and height.
        mover: Side of the square, in pixels.
    """
    width, height = size
    wall, square = noise((width + 2 * count, height), 0), noise((mover + 1, mover + 1), 1)
    frames = np.stack([wall[:, 2 * t : 2 * t + width] for t in range(count)])
    for t, frame in enumerate(frames):
        frame[20 : 20 + mover, 10 + 6 * t : 10 + 6 * t + mover] = square[:mover, :mover]
    return frames


def evidence_of(images: UInt8[np.ndarray, "N h w 3"]) -> EvidenceMaps:
    return motion_evidence(images, dis_flow(images, strided_pairs(len(images), (1, 2, 4))))


@pytest.mark.parametrize(
    "images",
    [
        slide(2),
        slide(3, (54, 96)),
        np.full((3, 64, 96, 3), 90, np.uint8),
        np.random.default_rng(0).integers(0, 255, (3, 64, 96, 3)).astype(np.uint8),
    ],
    ids=["two frames", "held upright", "plain", "noise"],
)
@pytest.mark.filterwarnings("error")
def test_what_nobody_films_has_evidence_too(images: UInt8[np.ndarray, "N h w 3"]) -> None:
    evidence = evidence_of(images)
    for name in CUE_NAMES:
        cue = getattr(evidence, name)
        assert cue.shape == (evidence.regions.count,)
        assert cue.min() >= 0 and cue.max() <= 1, name
    assert not (dynamic_probability(images, evidence) > 0.5).any()


@pytest.mark.parametrize("count", [2, 6])
def test_a_mover_shows_in_every_frame(count: int) -> None:
    images = slide(count, mover=24)
    found = dynamic_probability(images, evidence_of(images)) > 0.5
    for t, mask in enumerate(found):
        truth = np.zeros_like(mask)
        truth[20:44, 10 + 6 * t : 34 + 6 * t] = True
        assert (mask & truth).sum() > 0.6 * (mask | truth).sum()


def test_before_another_world_superpixels_and_links_stay() -> None:
    images = slide(4, mover=24)
    flows = dis_flow(images, strided_pairs(4, (1, 2)))
    first = motion_evidence(images, flows)
    again = motion_evidence(images, flows, before=first)
    assert again.regions is first.regions and again.links is first.links and again.boundary is first.boundary
    np.testing.assert_array_equal(again.motion, first.motion)
