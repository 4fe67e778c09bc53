from __future__ import annotations

import ctypes
import os
import sys

import psutil
import pytest

from das3r_ns.memory import release_memory

BLOCK, BLOCKS = 50_000, 4_000
"""Below the size from which glibc asks the system for each block by itself; together 200 MB."""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc's malloc"
)
def test_what_is_freed_between_blocks_in_use_goes_back_to_the_system():
    process = psutil.Process(os.getpid())
    blocks = [bytearray(BLOCK) for _ in range(BLOCKS)]
    full = process.memory_info().rss
    kept = blocks[100::500] + blocks[-1:]
    del blocks
    held = process.memory_info().rss
    release_memory()
    assert full - held < 0.5 * BLOCK * BLOCKS  # else this test shows nothing
    assert full - process.memory_info().rss > 0.8 * BLOCK * BLOCKS
    assert all(not any(block) for block in kept)


def test_without_glibc_nothing_is_asked_of_the_allocator(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail(f"{name} was opened"))
    release_memory()
