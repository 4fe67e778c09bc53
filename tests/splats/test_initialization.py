"""The Gaussians a training starts from."""

from __future__ import annotations

import torch

from das3r_ns.splats import initialization
from das3r_ns.splats.config import Das3rModelConfig
from das3r_ns.splats.initialization import initial_gaussians, neighbour_distance

SEEDS = (torch.rand(50, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(50, 3, dtype=torch.uint8))


def test_gaussians_are_as_large_as_their_neighbours_are_far():
    line = torch.arange(5.0)[:, None] * torch.tensor([[2.0, 0, 0]])
    torch.testing.assert_close(neighbour_distance(line, neighbours=1), torch.full((5, 1), 2.0))
    scales = initial_gaussians(SEEDS, Das3rModelConfig())["scales"]
    torch.testing.assert_close(scales.exp(), neighbour_distance(SEEDS[0]).repeat(1, 3))


def test_no_neighbours_are_looked_for_where_a_checkpoint_follows(monkeypatch):
    trained = initial_gaussians(SEEDS, Das3rModelConfig())
    monkeypatch.setattr(initialization, "neighbour_distance", None)
    opened = initial_gaussians(SEEDS, Das3rModelConfig(), sized=False)
    assert {name: value.shape for name, value in opened.items()} == {n: v.shape for n, v in trained.items()}
