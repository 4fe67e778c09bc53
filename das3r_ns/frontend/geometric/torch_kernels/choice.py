"""Where the dense loops run: decided here alone."""

from __future__ import annotations

from collections.abc import Callable

import torch

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.config import Kernels

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
    asked = device != "auto"
    if kernels == "numba" or (kernels == "auto" and device == "cpu"):
        return None
    if not asked and not torch.cuda.is_available():
        return torch.device("cpu") if kernels == "torch" else None
    try:
        wanted = torch.device("cuda" if not asked else device)
        if wanted.type == "cuda" and wanted.index is None:
            wanted = torch.device("cuda", torch.cuda.current_device())
        torch.ones(1, device=wanted).add_(1.0)  # a torch without kernels for this GPU says so only now
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        reason = str(error).strip().splitlines()[0]
        if asked:
            raise Das3rError(f"--device {device} does not work here ({reason}). Take another one, or auto.") from error
        say(f"The GPU is not used for the front end ({reason}).")
        return torch.device("cpu") if kernels == "torch" else None
    return None if kernels == "auto" and wanted.type == "cpu" else wanted


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
