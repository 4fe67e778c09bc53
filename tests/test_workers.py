"""As many threads as there is room for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from das3r_ns import workers as module
from das3r_ns.workers import MOST, usable_cores, workers


@pytest.mark.parametrize(
    ("cores", "memory_each", "expected"), [(1, 0, 1), (16, 0, 16), (200, 0, MOST), (16, 300, 3), (16, 2000, 1)]
)
def test_cores_and_memory_both_count(monkeypatch, cores, memory_each, expected):
    monkeypatch.setattr(module, "usable_cores", lambda: cores)
    monkeypatch.setattr(module.psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    assert workers(memory_each) == expected


def test_work_that_holds_pythons_lock_takes_few(monkeypatch):
    monkeypatch.setattr(module, "usable_cores", lambda: 16)
    assert [workers(locked=share) for share in (0.0, 0.05, 0.2, 0.4, 1.0)] == [16, 16, 5, 3, 1]
    monkeypatch.setattr(module, "usable_cores", lambda: 2)
    assert workers(locked=0.2) == 2


def test_only_the_cores_of_this_process_count(monkeypatch):
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert usable_cores() == 2
    monkeypatch.delattr(module.os, "sched_getaffinity")
    monkeypatch.setattr(module.os, "cpu_count", lambda: None)
    assert usable_cores() == 1
