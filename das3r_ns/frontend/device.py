"""The device that was asked for, if it works."""

from __future__ import annotations

from collections.abc import Callable

import torch

from das3r_ns.errors import Das3rError


def usable_device(device: str, say: Callable[[str], None] = lambda line: None) -> torch.device:
    """Where torch runs.

    Args:
        device: auto, cpu, cuda, cuda:1, ...; ``auto`` takes a GPU that works, or else the CPU.
        say: Told why a GPU that is there is not used.

    Raises:
        Das3rError: The device that is asked for does not work.
    """
    asked = device != "auto"
    if not asked and not torch.cuda.is_available():
        return torch.device("cpu")
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
        return torch.device("cpu")
    return wanted
