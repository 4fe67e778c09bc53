"""How many threads work side by side: one answer for everything that is done frame by frame."""

from __future__ import annotations

import os

import psutil

MOST = 32
"""Beyond so many the threads wait for Python's own lock."""


def workers(memory_each: int = 0) -> int:
    """Threads for work that releases Python's lock: as many as this process may use cores, and memory has room for.

    Args:
        memory_each: Bytes that one of them takes at most, where that is enough to matter.
    """
    room = psutil.virtual_memory().available // memory_each if memory_each else MOST
    return max(1, min(usable_cores(), room, MOST))


def usable_cores() -> int:
    """Cores that this process may use: containers and batch systems give it a part of those that the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
