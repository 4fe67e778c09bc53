"""How many threads work side by side: one answer for everything that is done frame by frame."""

from __future__ import annotations

import math
import os

import psutil

MOST = 32
"""Beyond so many the threads wait for Python's own lock."""


def workers(memory_each: int = 0, locked: float = 0.0) -> int:
    """Threads for work that releases Python's lock: as many as this process may use cores, and memory has room for.

    Args:
        memory_each: Bytes that one of them takes at most, where that is enough to matter.
        locked: Share of the work's time in which it does hold the lock (``py-spy record --gil`` tells). More threads
            than its inverse wait for each other, and worse: on 16 cores the adjustment on points, a fifth of it locked,
            took 13 s on 4 threads and 43 s on 16.
    """
    room = psutil.virtual_memory().available // memory_each if memory_each else MOST
    useful = math.ceil(1 / locked) if locked else MOST
    return max(1, min(usable_cores(), room, useful, MOST))


def usable_cores() -> int:
    """Cores that this process may use: containers and batch systems give it a part of those that the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
