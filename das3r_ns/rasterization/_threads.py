"""Compile the CPU kernels, and run each on several threads.

The kernels are plain numba functions that release the GIL; the threads are ours. That buys three things over
numba's own ``parallel=True``: several renders may run at once (the viewer renders while training runs, and numba's
workqueue layer may not be entered twice); the number of threads is torch's (``torch.set_num_threads``,
``OMP_NUM_THREADS``) unless ``DAS3R_RASTER_THREADS`` says otherwise, as torch's own small operations are often quickest
on one; and compiling takes a fraction of the time. A kernel splits its work by *item* (a tile, a block of Gaussians),
and an item is computed alike whoever computes it: the bits do not depend on the number of threads.
"""

import os
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba
import torch

_OPTIONS: dict[str, Any] = {
    "nogil": True,
    # Division by zero gives inf as in C: no branch, no exception path in the inner loops.
    "error_model": "numpy",
    # Multiply-add may be fused; nothing is reordered, so NaN and infinity keep their meaning.
    "fastmath": {"contract"},
}

# numba's cache watches only the file of a kernel, not what the kernel calls; so every state of the kernels gets a name.
_STATE = f"{zlib.crc32(b''.join(path.read_bytes() for path in sorted(Path(__file__).parent.glob('_[a-z]*.py')))):08x}"

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a kernel at its first call, and keep the machine code on disk.

    Args:
        function: a function in numba's subset of Python, whose last two arguments are ``worker, workers``.

    Returns:
        The compiled function. Where no folder can be written (neither beside the package nor in the user's cache) it is
        compiled again in every process.
    """
    function.__qualname__ += f"_{_STATE}"  # names the file in the cache
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # numba: "no locator available"
        return numba.njit(**_OPTIONS)(function)


def device(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that kernels call."""
    return numba.njit(**_OPTIONS)(function)


def launch(compiled: Callable[..., Any], *arguments: Any) -> None:
    """Run a kernel once per worker thread and wait for all of them.

    Args:
        compiled: a kernel; called as ``compiled(*arguments, worker, workers)`` with worker in [0, workers).
        arguments: numpy arrays and scalars, shared by the workers.
    """
    workers = int(os.environ.get("DAS3R_RASTER_THREADS", 0)) or torch.get_num_threads()
    pool = _pool(workers - 1)
    futures = [pool.submit(compiled, *arguments, w, workers) for w in range(1, workers)] if pool else []
    compiled(*arguments, 0, workers)
    for worker, future in enumerate(futures, 1):
        if future.cancel():  # the pool is busy with another render: do that share here
            compiled(*arguments, worker, workers)
        else:
            future.result()


def _pool(size: int) -> ThreadPoolExecutor | None:
    """The pool of worker threads; a forked process gets its own, for threads do not survive a fork."""
    if size < 1:
        return None
    key = (os.getpid(), size)
    pool = _pools.get(key)
    if pool is None:
        pool = _pools.setdefault(key, ThreadPoolExecutor(size, thread_name_prefix="rasterizer"))
    return pool
