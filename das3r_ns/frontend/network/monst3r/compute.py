"""Where the network runs, how precisely, and how much it does at once."""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.config import Precision
from das3r_ns.frontend.network.monst3r.config import PATCH
from das3r_ns.frontend.network.monst3r.network import PairNetwork

CUDA_BATCH = 8
"""Most directed pairs at once on a GPU: 4,600 tokens of 512 x 288 pixels each fill it, and more only takes memory."""

CPU_BATCH = 2
"""Directed pairs at once on a CPU, a pair both ways: larger batches gain nothing there, and take memory."""

FREE_SHARE = 0.6
"""Share of the free memory that a batch may take."""

PIXEL_BYTES = 4500.0
"""Memory of one directed pair per pixel while the heads work on it, in float32: 2,300 bytes were measured on a CPU (the
widest layers have 128 channels at full size and 256 at half), and a GPU's convolutions want room to work besides."""

DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Compute:
    """Device and precision of a run."""

    device: torch.device
    autocast: torch.dtype | None
    """Type that matrix products and convolutions run in; None = float32 throughout."""
    careful: bool = False
    """Whether the precision was chosen here, so that a safer one may be taken where numbers overflow."""

    @property
    def precision(self) -> str:
        """Name of the precision."""
        return next(name for name, dtype in DTYPES.items() if dtype == self.autocast)

    def safer(self) -> Compute | None:
        """What to fall back on when numbers overflowed; None where the precision was asked for or is the safest."""
        if not self.careful or self.autocast is None:
            return None
        wide = self.device.type == "cuda" and torch.cuda.is_bf16_supported() and self.autocast == torch.float16
        return Compute(self.device, torch.bfloat16 if wide else None, careful=True)


def choose_compute(device: str = "auto", precision: Precision = "auto") -> Compute:
    """The device and precision of a run.

    ``auto`` takes float16 on a GPU and float32 on a CPU. With float16 points differ from float32's by 0.6 %, with
    bfloat16 by 4 % (tiny reference network), at the same speed; the published networks were trained in float16.

    Args:
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda``, ``cuda:1``, ...
        precision: As in the settings of the front end.

    Raises:
        Das3rError: There is no such device.
    """
    wanted = device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        usable = chosen.type == "cpu" or (chosen.type == "cuda" and torch.cuda.is_available())
        usable &= chosen.type == "cpu" or (chosen.index or 0) < torch.cuda.device_count()
    except RuntimeError:
        chosen, usable = torch.device("cpu"), False
    if not usable:
        raise Das3rError(
            f"The network cannot run on {wanted!r} here (--device): this torch sees {torch.cuda.device_count()} CUDA "
            "devices. Take auto, cpu, or the name of one of them (cuda, cuda:0, ...)."
        )
    if precision == "auto":
        return Compute(chosen, torch.float16 if chosen.type == "cuda" else None, careful=True)
    return Compute(chosen, DTYPES[precision])


def free_memory(device: torch.device) -> int:
    """Bytes that may still be taken on a device; on a GPU with what torch holds in reserve."""
    if device.type != "cuda":
        return psutil.virtual_memory().available
    reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    index = torch.cuda.current_device() if device.index is None else device.index  # torch before 2.5 wants one
    return torch.cuda.mem_get_info(index)[0] + reserve


def pair_bytes(height: int, width: int, compute: Compute) -> int:
    """Memory that one directed pair of a batch takes while it is decoded."""
    return int(height * width * PIXEL_BYTES * (1.0 if compute.autocast is None else 0.6))


def choose_batch(wanted: int, height: int, width: int, compute: Compute) -> int:
    """Directed pairs in a batch: as asked for, else what memory allows, even so that a pair is there both ways.

    Args:
        wanted: Number asked for; 0 = choose.
        height: Of the frames in pixels.
        width: Of the frames in pixels.
        compute: Device and precision.
    """
    if wanted > 0:
        return wanted
    most = CUDA_BATCH if compute.device.type == "cuda" else CPU_BATCH
    fits = int(FREE_SHARE * free_memory(compute.device) // pair_bytes(height, width, compute))
    return max(1, min(most, fits // 2 * 2))


def token_bytes(network: PairNetwork, height: int, width: int, compute: Compute) -> int:
    """Size of the tokens of one frame."""
    each = 4 if compute.autocast is None else 2
    return height // PATCH * (width // PATCH) * network.config.enc_embed_dim * each


def weight_bytes(network: PairNetwork, compute: Compute) -> int:
    """Size of the weights, and of the copy that autocast keeps of them in 16 bits."""
    each = 4 if compute.autocast is None else 6
    return each * sum(value.numel() for value in network.parameters())
