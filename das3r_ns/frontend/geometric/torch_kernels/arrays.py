"""Functions of tensors, called with numpy's arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor


def on_device(kernel: Callable[..., tuple[Tensor, ...]], device: torch.device) -> Callable[..., tuple[np.ndarray, ...]]:
    """A kernel that takes and gives numpy's arrays, and works on a device.

    Args:
        kernel: Function of tensors. What is float64 in the arrays is float32 in them.
        device: Where to work.
    """

    @torch.inference_mode()
    def called(*arguments: Any) -> tuple[np.ndarray, ...]:
        # One way back for all.
        found = torch.stack(kernel(*(_moved(value, device) for value in arguments)))
        return tuple(found.cpu().numpy())

    return called


def resident(device: torch.device, *arrays: np.ndarray) -> tuple[Tensor, ...]:
    """Arrays brought to the device once, for kernels that are called many times with parts of them."""
    return tuple(_moved(array, device) for array in arrays)


def _moved(value: Any, device: torch.device) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    tensor = torch.from_numpy(np.ascontiguousarray(value)).to(device)
    return tensor.float() if tensor.dtype == torch.float64 else tensor
