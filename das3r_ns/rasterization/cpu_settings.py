"""Threads and number formats that suit the CPU kernels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

RASTERIZER_THREADS = "DAS3R_RASTER_THREADS"
"""Environment variable that names the number of threads of the CPU kernels."""


@contextmanager
def cpu_settings() -> Iterator[None]:
    """Fast training and rendering on a CPU: all cores for the rasteriser, one for torch's many small operations.

    OpenMP's threads spin while they wait for each other: on two cores shared with other programs a step took 3.4 times
    the CPU time with two torch threads. The rasteriser's kernels meet once a pass and do not spin.
    """
    threads = torch.get_num_threads()
    rasterizer = os.environ.get(RASTERIZER_THREADS)
    # Gradients of barely visible Gaussians square to denormal numbers, a hundred times slower in Adam.
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    os.environ.setdefault(RASTERIZER_THREADS, str(threads))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
        if rasterizer is None:
            del os.environ[RASTERIZER_THREADS]
