"""What repeats itself in pictures of which it is known where they do."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from das3r_ns.frontend.geometric.bundle.flow_samples import sample_flows
from das3r_ns.frontend.geometric.flow import dis_flow
from das3r_ns.frontend.geometric.pair_flows import PairFlows
from das3r_ns.frontend.geometric.repetition import LEAST, distinctness
from das3r_ns.frontend.pairs import strided_pairs

SIZE = (180, 320)


def ground(seed: int = 0) -> np.ndarray:
    """Grey levels of something that nowhere repeats itself, as sharp as its neighbours and as coarse as clouds."""
    rng = np.random.default_rng(seed)
    parts = [cv2.resize(rng.uniform(0, 70, (SIZE[0] // s, SIZE[1] // s)), SIZE[::-1]) for s in (3, 8, 30)]
    return np.sum(parts, axis=0)


def with_net(period: int, columns: slice, shift: int = 0) -> np.ndarray:
    """A net of dark wire before that ground, over some columns of the picture."""
    picture = 60 + ground() / 2
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    wire = ((x - shift) % period < 2) | (y % period < 2)
    picture[:, columns] = np.where(wire, 20, picture)[:, columns]
    return np.clip(picture, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("period", [8, 11, 16])
def test_net_has_twins_and_the_ground_beside_it_none(period: int) -> None:
    found = distinctness(with_net(period, np.s_[160:])).astype(np.float32)
    assert found.shape == SIZE
    assert found[:, 180:].mean() < 0.35
    assert found[:, :140].mean() > 0.95
    assert found.min() >= LEAST - 1e-3
    assert found.max() <= 1.0


def test_edges_slopes_and_plain_ground_have_none() -> None:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    rng = np.random.default_rng(0)
    for picture in (np.where(x + 0.4 * y > 200, 190, 60), x / 2 + y / 3, np.full(SIZE, 128)):
        noisy = np.clip(picture + rng.normal(0, 2, SIZE), 0, 255).astype(np.uint8)
        assert distinctness(noisy).astype(np.float32).mean() > 0.95


def test_period_beyond_reach_is_none() -> None:
    tile = ground()[:60, :80]
    assert distinctness(np.tile(tile, (3, 4)).clip(0, 255).astype(np.uint8)).astype(np.float32).mean() > 0.95


def test_picture_too_small_to_tell() -> None:
    assert (distinctness(np.zeros((40, 30), np.uint8)) == 1.0).all()


def test_flow_of_what_repeats_is_hardly_believed() -> None:
    frames = np.stack([with_net(8, np.s_[160:], 3 * i) for i in range(3)])
    flows = dis_flow(np.repeat(frames[..., None], 3, axis=-1), strided_pairs(3, (1, 2)))
    assert flows.distinctness is not None
    plain = PairFlows(flows.height, flows.width, 3, flows.fields, flows.texture)
    less, all_of_it = (sample_flows(one, 40, None) for one in (flows, plain))
    net = less.points[less.sources][..., 0] > 180
    ratio = less.weights / np.maximum(all_of_it.weights, 1e-6)
    assert np.median(ratio[net]) < 0.2
    assert np.median(ratio[~net]) == 1.0
    part = flows.section(range(1, 3))
    assert part.distinctness is not None
    np.testing.assert_array_equal(part.distinctness, flows.distinctness[1:])
