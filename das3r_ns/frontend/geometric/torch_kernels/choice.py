"""Where the dense loops run: decided here alone."""

from __future__ import annotations

from collections.abc import Callable

import torch

from das3r_ns.frontend.config import Kernels
from das3r_ns.frontend.device import usable_device

FREE_SHARE, MOST = 0.6, 8 << 30
"""Share of the free memory of a GPU that a batch of frames may take, and bytes beyond which more gains nothing."""

CPU_ROOM = 1 << 30
"""Bytes that a batch of frames may take where torch's kernels run on the CPU."""


def dense_device(device: str, kernels: Kernels, say: Callable[[str], None] = lambda line: None) -> torch.device | None:
    """Where the dense loops run in torch; None = where they always did, compiled by numba and OpenCV on the CPU.

    Args:
        device: auto, cpu, cuda, cuda:1, ...
        kernels: ``auto`` takes torch on a GPU and numba on a CPU; ``numba`` and ``torch`` are taken as asked for.
        say: Told why a GPU that is there is not used.

    Raises:
        Das3rError: The device that is asked for does not work.
    """
    if kernels == "numba" or (kernels == "auto" and device == "cpu"):
        return None
    found = usable_device(device, say)
    return None if kernels == "auto" and found.type == "cpu" else found


def described_device(device: torch.device | None) -> str:
    """What computed the dense loops, as provenance has it."""
    if device is None:
        return "numba"
    return f"torch on {torch.cuda.get_device_name(device) if device.type == 'cuda' else device}"


def room(device: torch.device) -> int:
    """Bytes that a batch of frames may take there."""
    if device.type != "cuda":
        return CPU_ROOM
    return min(MOST, int(FREE_SHARE * torch.cuda.mem_get_info(device)[0]))
