"""Objects of landscapes that are drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

from das3r_ns.frontend.geometric.motion.objects import objects


def _row(*values: float) -> tuple[np.ndarray, np.ndarray]:
    """Values of superpixels in a row, and which of them touch."""
    at = np.arange(len(values))
    return np.array(values), np.stack([at[:-1], at[1:]], axis=1)


def _same(label: np.ndarray, expected: list[int]) -> bool:
    return bool(((label[:, None] == label) == (np.array(expected)[:, None] == expected)).all())


def test_what_is_too_low_is_alone() -> None:
    count, label = objects(*_row(0.1, 0.3, 0.3, 0.1, 0.3, 0.0), 0.125)
    assert count == 5
    assert _same(label, [0, 1, 1, 2, 3, 4])


def test_a_deep_saddle_keeps_two_apart() -> None:
    # A walker before a lorry; the saddle goes with the side from which more is seen.
    _, label = objects(*_row(0.6, 0.62, 0.4, 0.14, 0.2, 0.3, 0.28), 0.125)
    assert _same(label, [0, 0, 0, 1, 1, 1, 1]) or _same(label, [0, 0, 0, 0, 1, 1, 1])


def test_a_shallow_saddle_does_not() -> None:
    count, label = objects(*_row(0.6, 0.62, 0.4, 0.16, 0.2, 0.3, 0.28), 0.125)
    assert count == 1
    assert _same(label, [0] * 7)


def test_slopes_are_part_of_their_mountain() -> None:
    _, label = objects(*_row(0.6, 0.5, 0.3, 0.2, 0.15, 0.13), 0.125)
    assert _same(label, [0] * 6)


def test_three_that_meet_in_one_place() -> None:
    # The saddle is high for the two low summits, and deep for none of them against the high one.
    value = np.array([0.9, 0.4, 0.3, 0.19])
    touching = np.array([[0, 3], [1, 3], [2, 3]])
    _, label = objects(value, touching, 0.125)
    assert _same(label, [0, 1, 0, 0])


@pytest.mark.parametrize("seed", range(3))
def test_without_deep_saddles_all_that_touches_is_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    value = rng.uniform(0.125, 0.25, 60) * (rng.random(60) < 0.7)
    touching = np.sort(rng.integers(0, 60, (70, 2)), axis=1)
    touching = touching[touching[:, 0] < touching[:, 1]]
    _, label = objects(value, touching, 0.125)
    edges = touching[(value[touching] > 0.125).all(axis=1)]
    graph = np.zeros((60, 60), bool)
    graph[tuple(edges.T)] = True
    assert _same(label, connected_components(graph, directed=False)[1].tolist())


def test_nothing_touches() -> None:
    count, label = objects(np.array([0.5, 0.0]), np.zeros((0, 2), int), 0.125)
    assert count == 2
    assert label[0] != label[1]
