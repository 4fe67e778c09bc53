"""Movers that stand in a part of the clip, in the demo's room with its exact depth."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest

from das3r_ns.demo.room import Movers, build_room, camera_path
from das3r_ns.demo.write import render_frame
from das3r_ns.frontend.config import Stopped
from das3r_ns.frontend.geometric.dynamic_probability import dynamic_probability
from das3r_ns.frontend.geometric.flow import dis_flow
from das3r_ns.frontend.geometric.motion import EvidenceMaps, RigidPrediction, motion_evidence
from das3r_ns.frontend.geometric.motion.memory import followed, gone_elsewhere, gone_with_movers
from das3r_ns.frontend.geometric.pair_flows import PairFlows
from das3r_ns.frontend.geometric.second_look import look_again
from das3r_ns.frontend.pairs import strided_pairs
from das3r_ns.scene import geometry as geo

WIDTH, HEIGHT, FRAMES, STANDS = 160, 90, 14, 7


@dataclass(frozen=True)
class Clip:
    """Frames, what is in them, and what stereo would measure: what stands at the time matches, what walks does not."""

    images: np.ndarray
    movers: np.ndarray
    walks: np.ndarray
    matched: RigidPrediction
    flows: PairFlows
    evidence: EvidenceMaps

    def look_again(self, stopped: Stopped) -> np.ndarray:
        first = self.walks.astype(np.float32)
        return look_again(self.images, self.images, self.flows, self.evidence, self.matched, first, stopped) > 0.5


def film(times: np.ndarray) -> Clip:
    """The walkers of the demo at certain times of their walk; where that is the same they stand."""
    room, movers, poses = build_room(), Movers(), camera_path(FRAMES)
    drawn = [
        render_frame(room, movers, t, pose, 0.9 * WIDTH, WIDTH, HEIGHT) for t, pose in zip(times, poses, strict=True)
    ]
    images, mask, depth = (np.stack([getattr(d, name) for d in drawn]) for name in ("image", "mask", "depth"))
    stands = np.concatenate([[False], np.diff(times) == 0]) | np.concatenate([np.diff(times) == 0, [False]])
    walks = mask & ~stands[:, None, None]
    intrinsics = np.tile(geo.pinhole(0.9 * WIDTH, WIDTH, HEIGHT), (FRAMES, 1, 1))
    matched = RigidPrediction(depth, np.where(walks, 0.0, 0.9), intrinsics, poses)
    flows = dis_flow(images, strided_pairs(FRAMES, (1, 2, 4, 8)))
    return Clip(images, mask, walks, matched, flows, motion_evidence(images, flows, matched))


@pytest.fixture(scope="module")
def waiting() -> Clip:
    """They stand in the first half and then walk off."""
    return film(np.interp(np.arange(FRAMES), [0, STANDS - 1, FRAMES - 1], [0.42, 0.42, 0.95]))


@pytest.fixture(scope="module")
def gone(waiting: Clip) -> np.ndarray:
    return gone_elsewhere(waiting.images, waiting.matched, 1.0 - waiting.walks)


def test_what_stands_is_gone_in_other_frames(waiting: Clip, gone: np.ndarray) -> None:
    assert gone.shape == waiting.movers.shape
    assert gone.min() >= 0 and gone.max() <= 1
    standing = waiting.movers[:STANDS]
    assert (gone[:STANDS][standing] > 0.5).mean() > 0.8
    assert (gone[:STANDS][~standing] > 0.5).mean() < 0.02
    assert (gone[STANDS:] > 0.5).mean() < 0.02


def test_what_never_moves_is_gone_nowhere(waiting: Clip) -> None:
    """Nobody sees what is behind the parked car that stays: it is a part of the scene."""
    m, part = waiting.matched, slice(0, STANDS)
    parked = RigidPrediction(m.depth[part], m.reliability[part], m.intrinsics[part], m.c2w_cv[part])
    assert (gone_elsewhere(waiting.images[part], parked, np.ones((STANDS, HEIGHT, WIDTH))) > 0.5).mean() < 0.01


def test_what_hides_a_thing_does_not_make_it_gone(waiting: Clip) -> None:
    """The walkers pass before things that stay, and the frames in which they do know nothing of those."""
    blind = dataclasses.replace(waiting.matched, reliability=np.where(waiting.movers, 0.0, 0.9))
    unaware = gone_elsewhere(waiting.images, blind, np.ones_like(waiting.matched.depth))
    assert (unaware[~waiting.movers] > 0.5).mean() < 0.02


def test_nothing_is_gone_where_nothing_moves(waiting: Clip, gone: np.ndarray) -> None:
    regions = waiting.evidence.regions
    nothing = np.zeros(regions.count)
    assert not gone_with_movers(gone, waiting.evidence, nothing).any()
    moving = (regions.mean(waiting.walks.astype(float)) > 0.9).astype(float)
    tied = gone_with_movers(gone, waiting.evidence, moving)
    assert (tied[:STANDS][waiting.movers[:STANDS]] > 0.5).mean() > 0.6
    assert (tied[~waiting.movers] > 0.5).mean() < 0.03


def test_movers_are_expected_near_where_they_were(waiting: Clip) -> None:
    regions = waiting.evidence.regions
    seen, nothing = np.ones(regions.count), np.zeros(regions.count)
    link = int(np.argmax(np.where(regions.frame[waiting.evidence.links[:, 0]] == 9, waiting.evidence.link_share, 0.0)))
    source, target = waiting.evidence.links[link]
    change = nothing.copy()
    change[target] = 0.8
    evidence = dataclasses.replace(waiting.evidence, change=change, change_weight=0.1 * seen, flow_trust=nothing)
    np.testing.assert_array_equal(followed(evidence, nothing, seen).change_weight, 0.1)
    moving = nothing.copy()
    moving[source] = 1.0
    np.testing.assert_array_equal(followed(evidence, moving, nothing).change_weight, 0.1)
    weight = followed(evidence, moving, seen).change_weight
    assert weight[target] > 0.6
    trusted = dataclasses.replace(evidence, flow_trust=seen)
    np.testing.assert_array_equal(followed(trusted, moving, seen).change_weight, 0.1)  # good flow knows better
    everywhere = dataclasses.replace(evidence, change=0.8 * seen)
    np.testing.assert_allclose(followed(everywhere, moving, seen).change_weight, 0.1)  # as all around it
    assert weight[regions.frame == 0].max() == 0.1  # too many links away
    weight = followed(dataclasses.replace(evidence, change=np.maximum(change, 0.5)), moving, seen).change_weight
    columns = regions.mean(np.broadcast_to(np.arange(WIDTH, dtype=float), regions.labels.shape))
    far = (regions.frame == regions.frame[target]) & (abs(columns - columns[target]) > 0.4 * WIDTH)
    assert far.any()
    assert weight[far].max() == 0.1


def test_who_waits_leaves_or_is_kept(waiting: Clip) -> None:
    leave, keep = waiting.look_again("leave"), waiting.look_again("keep")

    def iou(found: np.ndarray, truth: np.ndarray) -> float:
        return float((found & truth).sum() / (found | truth).sum())

    assert iou(leave, waiting.movers) > 0.75
    assert keep[:STANDS][waiting.movers[:STANDS]].mean() < 0.2
    assert iou(keep[STANDS:], waiting.movers[STANDS:]) > 0.7


def test_first_decision_needs_no_memory(waiting: Clip) -> None:
    """Evidence of flow and colours alone knows nothing of what stands."""
    assert waiting.evidence.gone is None
    found = dynamic_probability(waiting.images, waiting.evidence) > 0.5
    assert found[: STANDS - 2][waiting.movers[: STANDS - 2]].mean() < 0.3
