"""Checkpoints: loaded whole or not at all, whatever number of Gaussians they hold; written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from das3r_ns.errors import Das3rExit


def load_resized(module: nn.Module, state: Mapping[str, Tensor], resizable: str) -> Any:
    """``module.load_state_dict(state)`` after giving the Gaussians' parameters the length they have in ``state``.

    The parameters are resized in place. Replacing them, as splatfacto does, leaves the optimizers with the old ones: a
    training resumed after a densification then changes nothing, and fails at the next.

    Args:
        module: The model.
        state: Its state dict.
        resizable: Name of the ParameterDict whose parameters have one row per Gaussian.

    Raises:
        Das3rExit: Keys are missing or foreign; nerfstudio would go on with zeros in their place.
    """
    expected = set(module.state_dict())
    missing, foreign = sorted(expected - set(state)), sorted(set(state) - expected)
    if missing or foreign:
        raise Das3rExit(
            f"The checkpoint does not fit the {type(module).__name__}. Missing: {', '.join(missing) or 'nothing'}; "
            f"unknown: {', '.join(foreign) or 'nothing'}. It was written by another method or another version; open it "
            "with that one, or train again."
        )
    for name, parameter in module.get_submodule(resizable).named_parameters():
        stored = state[f"{resizable}.{name}"]
        if parameter.shape != stored.shape:
            parameter.data = torch.zeros(stored.shape, dtype=parameter.dtype, device=parameter.device)
    return nn.Module.load_state_dict(module, state, strict=True)


def save_atomically(contents: Mapping[str, Any], path: Path) -> None:
    """``torch.save`` to a temporary name that takes the final one once everything is written.

    Args:
        contents: What to save.
        path: Where to; its folder is made if need be.

    Raises:
        Das3rExit: The folder cannot be written or the disk is full.
        RuntimeError: The tensors cannot be read, after a failure of the GPU for one.
    """
    # Not beside the checkpoints: nerfstudio takes every name in their folder for one.
    temporary = path.parent.parent / f".{path.name}.{os.getpid()}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # torch's own writer tells nothing of why a file could not be written; Python's raises the OSError.
        with temporary.open("wb") as file:
            torch.save(dict(contents), file)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        if (reason := _failure_of_the_disk(error)) is None:
            raise
        raise Das3rExit(
            f"The checkpoint {path} cannot be written ({reason}). Free some disk space, or choose another folder with "
            "--output-dir."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _failure_of_the_disk(error: BaseException | None) -> OSError | None:
    """The OSError that a failed torch.save began with; torch raises a RuntimeError of its own on top of it."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error
