"""Where the network runs, and what it may take there."""

from __future__ import annotations

import pytest
import torch

from das3r_ns.frontend.network.monst3r.compute import free_memory


@pytest.mark.parametrize("device, index", [("cuda", 1), ("cuda:0", 0)])
def test_free_memory_names_the_gpu_as_older_torch_wants_it(device, index, monkeypatch):
    free = {0: 100, 1: 200}
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 30)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 10)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (free[number], 1000))  # a device without: KeyError
    assert free_memory(torch.device(device)) == free[index] + 20


def test_free_memory_of_the_machine():
    assert free_memory(torch.device("cpu")) > 0
