"""Superpixel reductions against brute force."""

import numpy as np

from das3r_ns.frontend.geometric.motion.superpixels import (
    adjacency,
    boundary_mean,
    build_superpixels,
    region_sum,
    segment_frame,
    temporal_links,
)
from das3r_ns.frontend.geometric.pair_flows import PairFlows

RNG = np.random.default_rng(3)
LABELS = np.kron(RNG.permutation(12).reshape(3, 4), np.ones((4, 5), int))


def test_region_sum() -> None:
    values = RNG.normal(size=LABELS.shape)
    expected = [values[k == LABELS].sum() for k in range(13)]
    assert np.allclose(region_sum(LABELS, values, 13), expected)


def test_adjacency_and_boundary_mean() -> None:
    values = RNG.normal(size=LABELS.shape)
    height, width = LABELS.shape
    sides: dict[tuple[int, int], list[float]] = {}
    for r in range(height):
        for c in range(width):
            for r2, c2 in ((r, c + 1), (r + 1, c)):
                if r2 < height and c2 < width and LABELS[r, c] != LABELS[r2, c2]:
                    key = (min(LABELS[r, c], LABELS[r2, c2]), max(LABELS[r, c], LABELS[r2, c2]))
                    sides.setdefault(key, []).append((values[r, c] + values[r2, c2]) / 2)
    edges, length = adjacency(LABELS)
    assert {tuple(edge): n for edge, n in zip(edges, length, strict=True)} == {k: len(v) for k, v in sides.items()}
    assert np.allclose(boundary_mean(LABELS, values, edges), [np.mean(sides[a, b]) for a, b in edges])


def test_numbered_through_the_clip() -> None:
    images = RNG.integers(0, 255, (2, *LABELS.shape, 3), dtype=np.uint8)
    regions = build_superpixels(images, np.stack([LABELS, LABELS]))
    assert regions.count == 24
    assert np.array_equal(regions.labels[1], LABELS + 12)
    assert regions.span(1) == slice(12, 24)
    assert np.array_equal(regions.size, np.full(24, 20.0))
    assert (regions.frame[regions.edges[:, 0]] == regions.frame[regions.edges[:, 1]]).all()
    assert regions.border.sum() == 2 * 10


def test_segment_frame_has_no_gaps() -> None:
    labels = segment_frame(RNG.integers(0, 255, (60, 90, 3), dtype=np.uint8))
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))


def test_temporal_links_follow_the_flow() -> None:
    height, width = LABELS.shape
    images = np.zeros((2, height, width, 3), np.uint8)
    regions = build_superpixels(images, np.stack([LABELS, LABELS]))
    flow = np.zeros((height, width, 2), np.float32)
    flow[..., 0] = 5.0
    flows = PairFlows(height, width, 2, {(0, 1): flow, (1, 0): -flow}, np.zeros((2, height, width), np.float16))
    links, share = temporal_links(regions, flows, (1,))
    # Each tile lands as a whole on the one to its right; the last column leaves the picture.
    tiles = LABELS[::4, ::5]
    expected = {(int(a), int(b) + 12) for a, b in zip(tiles[:, :-1].ravel(), tiles[:, 1:].ravel(), strict=True)}
    assert {(int(a), int(b)) for a, b in links} == expected
    assert np.allclose(share, 1.0)
