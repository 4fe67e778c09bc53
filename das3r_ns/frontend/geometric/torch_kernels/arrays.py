"""Functions of tensors, called with numpy's arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def on_device(kernel: Callable[..., tuple[Tensor, ...]], device: torch.device) -> Callable[..., tuple[np.ndarray, ...]]:
    """A kernel that takes and gives numpy's arrays, and works on a device.

    Args:
        kernel: Function of tensors. What is float64 in the arrays is float32 in them.
        device: Where to work.
    """

    @torch.no_grad()
    def called(*arguments: Any) -> tuple[np.ndarray, ...]:
        # One way back for all.
        found = torch.stack(kernel(*(moved(value, device) for value in arguments)))
        return tuple(found.cpu().numpy())

    return called


def resident(device: torch.device, *arrays: np.ndarray) -> tuple[Tensor, ...]:
    """Arrays brought to the device once, for kernels that are called many times with parts of them."""
    return tuple(moved(array, device) for array in arrays)


def moved(value: Any, device: torch.device) -> Any:
    """An array as a tensor on the device, float64 as float32; what is none stays as it is."""
    if not isinstance(value, np.ndarray):
        return value
    tensor = torch.from_numpy(np.ascontiguousarray(value)).to(device)
    return tensor.float() if tensor.dtype == torch.float64 else tensor


def quantiles(values: Float[Tensor, "*b n"], shares: Sequence[float]) -> list[Float[Tensor, "*b"]]:
    """Quantiles along the last axis, as numpy has them; ``torch.quantile`` takes no large pictures."""
    ordered, last = values.sort(dim=-1).values, values.shape[-1] - 1
    found = []
    for share in shares:
        below = int(share * last)
        rest = share * last - below
        found.append((1.0 - rest) * ordered[..., below] + rest * ordered[..., min(below + 1, last)])
    return found
