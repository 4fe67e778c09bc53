"""Memory between stages of long work."""

from __future__ import annotations

import ctypes
import gc
import sys


def release_memory() -> None:
    """Give memory that is free again back to the system.

    glibc keeps freed blocks for the next ones, in a heap per thread; of the blocks of a front end's size, some of which
    stay in use, it keeps about 1 GB after a window of 120 frames of 480 x 270. Elsewhere the allocator is left alone.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
