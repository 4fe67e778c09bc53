"""Network and motion evidence in one map: either finds a mover, and the noise of neither makes one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from das3r_ns.frontend.network.opinion_fusion import flow_trust, fuse_dynamic, network_floor

SHAPE = (4, 40, 60)
MOVER = np.s_[:, 10:30, 20:40]


def maps(value: float = 0.0, mover: float | None = None, noise: float = 0.0) -> np.ndarray:
    """A probability everywhere, another one on the mover, and noise."""
    out = np.full(SHAPE, value, np.float32)
    if mover is not None:
        out[MOVER] = mover
    return np.clip(out + noise * np.random.default_rng(0).normal(size=SHAPE), 0, 1).astype(np.float32)


def moves(probability: np.ndarray) -> np.ndarray:
    assert probability.dtype == np.float32 and probability.min() >= 0 and probability.max() <= 1
    return probability > 0.5


TRUTH = maps(0, 1) > 0.5


@pytest.mark.parametrize("trust", [None, 0.0, 1.0])
def test_motion_finds_what_the_network_is_blind_to(trust: float | None) -> None:
    fused = fuse_dynamic(maps(0.03), maps(0.02, 0.9), None if trust is None else maps(trust))
    np.testing.assert_array_equal(moves(fused), TRUTH)


def test_the_network_finds_what_flow_cannot_see() -> None:
    network, blind = maps(0.05, 0.9, noise=0.02), maps(0.02)
    np.testing.assert_array_equal(moves(fuse_dynamic(network, blind, maps(0.1))), TRUTH)
    np.testing.assert_array_equal(moves(fuse_dynamic(network, blind)), TRUTH)


@pytest.mark.parametrize("level", [0.1, 0.2, 0.3])
@pytest.mark.parametrize("noise", [0.0, 0.08])
def test_a_network_that_knows_nothing_does_not_call_a_static_clip_moving(level: float, noise: float) -> None:
    fused = fuse_dynamic(maps(level, noise=noise), maps(0.1, noise=0.05))
    assert moves(fused).mean() < 0.002
    assert fused.mean() < 0.2, "and the static weight stays near one, not at 0.7"


def test_sure_flow_leaves_what_the_network_alone_says_undecided() -> None:
    fused = fuse_dynamic(maps(0.02, 1.0), maps(0.0), maps(1.0))
    assert not moves(fused).any()
    assert np.all(fused[TRUTH] >= 0.45) and np.all(fused[~TRUTH] < 0.02)


def test_two_who_agree_are_surer_than_one_and_flow_is_never_overruled() -> None:
    motion = maps(0.05, 0.7)
    both = fuse_dynamic(maps(0.05, 0.7), motion, maps(0.5))
    assert np.all(both[TRUTH] > 0.8)
    rng = np.random.default_rng(1)
    for network in (maps(0.0), maps(1.0), rng.uniform(size=SHAPE)):
        assert np.all(fuse_dynamic(network, motion, maps(1.0)) >= motion - 1e-6)


def test_without_mask_heads_motion_speaks_alone() -> None:
    motion = maps(0.1, 0.8)
    np.testing.assert_array_equal(fuse_dynamic(None, motion, maps(0.5)), motion)


def test_a_mover_that_fills_the_clip_is_not_taken_for_nothing() -> None:
    network = maps(0.95)
    network[:, :, :15] = 0.05
    assert network_floor(network) == 0.5
    fused = fuse_dynamic(network, maps(0.1))
    assert np.all(fused[:, :, 15:] > 0.9) and np.all(fused[:, :, :15] < 0.11)


def test_trust_needs_texture_and_flow_that_leads_back(make_room: Callable) -> None:
    room = make_room(count=4, size=(96, 64), strides=(1, 2))
    flows = room.flows
    assert flow_trust(flows).shape == (4, 64, 96) and np.median(flow_trust(flows)) > 0.9
    flows.texture[:, :, :40] = 0.2
    for pair in flows.pairs:
        flows.fields[pair][40:, 60:] += np.float16(5.0)
    trust = flow_trust(flows)
    assert trust[:, :, :30].max() < 0.1
    assert np.median(trust[:, 50:58, 66:90]) < 0.1
    assert np.median(trust[:, 10:30, 50:90]) > 0.9
