"""What dense depth does with its frames once each is measured, in torch: agreement between them, and filled gaps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from das3r_ns.frontend.geometric.torch_kernels.arrays import quantiles
from das3r_ns.frontend.geometric.torch_kernels.choice import room
from das3r_ns.frontend.geometric.torch_kernels.depth import compare_frames

BATCH = 32
"""Most frames at once."""

COPIES = 40
"""Maps of a frame that filling it takes at once, generously."""


@dataclass(frozen=True)
class Seen:
    """One frame's view of others, as ``dense_depth.Sight`` knows it."""

    others: list[int]
    """The frames it is compared with."""
    rays: Float[np.ndarray, "M 3 3"]
    """Rotations of the motions to them."""
    offsets: Float[np.ndarray, "M 3"]
    """Translations."""


@torch.no_grad()
def agree_and_fill(
    inverse_depth: Float[np.ndarray, "N H W"],
    confidence: Float[np.ndarray, "N H W"],
    seen: Sequence[Seen],
    lab: UInt8[np.ndarray, "N h w 3"],
    compare: dict[str, float],
    filling: dict[str, Any],
    device: torch.device,
    on_frame: Callable[[], None] = lambda: None,
) -> tuple[Float[np.ndarray, "N h w"], Float[np.ndarray, "N h w"]]:
    """Check the depths of all frames against each other, and fill what is not known, as ``dense_depth`` does it.

    Args:
        inverse_depth: Of every frame as measured.
        confidence: Of that.
        seen: What each frame is compared with.
        lab: See :func:`fill`.
        compare: Focal, tolerance and far of :func:`~das3r_ns.frontend.geometric.torch_kernels.depth.compare_frames`.
        filling: Settings of :func:`fill`.
        device: Where to work.
        on_frame: Called once for each frame.

    Returns:
        Depth and confidence.
    """
    depths, trust = torch.from_numpy(inverse_depth).to(device), torch.from_numpy(confidence).to(device)
    depth, sure = np.empty(lab.shape[:3], np.float32), np.empty(lab.shape[:3], np.float32)
    size = max(1, min(BATCH, room(device) // (4 * COPIES * lab.shape[1] * lab.shape[2])))
    for start in range(0, len(seen), size):
        batch = slice(start, start + size)
        checked = [_checked(depths, trust, start + k, frame, compare, device) for k, frame in enumerate(seen[batch])]
        fused, support = (torch.stack(part) for part in zip(*checked, strict=True))
        filled = fill(fused, support, torch.from_numpy(lab[batch]).to(device), **filling)
        depth[batch], sure[batch] = (part.cpu().numpy() for part in filled)
        for _ in checked:
            on_frame()
    return depth, sure


def _checked(
    depths: Float[Tensor, "N H W"],
    trust: Float[Tensor, "N H W"],
    i: int,
    frame: Seen,
    compare: dict[str, float],
    device: torch.device,
) -> tuple[Float[Tensor, "H W"], Float[Tensor, "H W"]]:
    """The inverse depth of one frame averaged with those of others that agree, and how far to believe it then."""
    others = torch.tensor(frame.others, device=device)
    rays, offsets = (torch.from_numpy(part).to(device, torch.float32) for part in (frame.rays, frame.offsets))
    own, sure = depths[i], trust[i]
    summed, agree, contradict = compare_frames(own, depths[others], trust[others], rays, offsets, **compare)
    weight = sure + agree
    fused = torch.where(weight > 1e-3, (sure * own + summed) / weight.clamp(min=1e-6), own)
    return fused, sure * agree / (agree + contradict + 0.3)


def fill(
    inverse_depth: Float[Tensor, "B H W"],
    confidence: Float[Tensor, "B H W"],
    lab: UInt8[Tensor, "B h w 3"],
    believed: float,
    strengths: Sequence[float],
    like: float,
    rounds: int,
) -> tuple[Float[Tensor, "B h w"], Float[Tensor, "B h w"]]:
    """Depth and confidence at the resolution of the pictures; what is not known comes from around, along their edges.

    Args:
        inverse_depth: As measured.
        confidence: Of that.
        lab: The pictures, slightly blurred, in L*a*b*.
        believed: As strengths and like of ``dense_depth.Filling``.
        strengths: See there.
        like: See there.
        rounds: Of the smoothing.
    """
    size = (lab.shape[1], lab.shape[2])
    if inverse_depth.shape[1:] != size:
        confidence, inverse_depth = (
            functional.interpolate(part[:, None], size, mode="bilinear", align_corners=False)[:, 0]
            for part in (confidence * _even(inverse_depth), inverse_depth)
        )
    weight = confidence**2
    floor = 1e-4 * weight.mean(dim=(1, 2), keepdim=True) + 1e-12
    colours = lab.float()
    across, down = (_likeness(colours, axis, like) for axis in (2, 1))
    around = inverse_depth
    for strength in strengths:
        sums = torch.stack([weight * inverse_depth + floor * around, weight + floor], dim=1)
        summed, total = smooth_along_image(sums, across, down, strength, rounds).unbind(dim=1)
        around = summed / total.clamp(min=1e-20)
    own = (confidence / believed).clamp(0.0, 1.0)
    blended = own * inverse_depth + (1.0 - own) * around
    low, high = (one.clamp(min=1e-6)[:, None, None] for one in quantiles(inverse_depth.flatten(1), (0.001, 0.999)))
    return 1.0 / torch.minimum(torch.maximum(blended, low), high), confidence.clamp(0.0, 1.0)


def _even(inverse_depth: Float[Tensor, "B H W"]) -> Float[Tensor, "B H W"]:
    """0 on a step of the depth, 1 away from it."""
    most = functional.max_pool2d(inverse_depth[:, None], 3, 1, 1)[:, 0]
    least = -functional.max_pool2d(-inverse_depth[:, None], 3, 1, 1)[:, 0]
    return (2.0 - (most - least) / (0.05 * inverse_depth)).clamp(0.0, 1.0)


def _likeness(lab: Float[Tensor, "B h w 3"], axis: int, like: float) -> Float[Tensor, "B h w"]:
    """How alike each pixel is to the next one along an axis, 0 to 1."""
    near = torch.exp(-torch.linalg.vector_norm(lab.diff(dim=axis), dim=-1) / like)
    return functional.pad(near, (0, 1) if axis == 2 else (0, 0, 0, 1))


def smooth_along_image(
    values: Float[Tensor, "B C H W"],
    across: Float[Tensor, "B H W"],
    down: Float[Tensor, "B H W"],
    strength: float,
    rounds: int,
) -> Float[Tensor, "B C H W"]:
    """See :func:`das3r_ns.frontend.geometric.smoothing_kernels.smooth_along_image`; of several frames."""
    across, down = across[:, None], down[:, None].transpose(2, 3)
    for k in range(rounds):
        lam = 1.5 * strength * 4.0 ** (rounds - 1 - k) / (4.0**rounds - 1.0)
        values = _smooth_rows(values, across, lam)
        values = _smooth_rows(values.transpose(2, 3), down, lam).transpose(2, 3)
    return values


def _smooth_rows(
    values: Float[Tensor, "B C P L"], guide: Float[Tensor, "B 1 P L"], strength: float
) -> Float[Tensor, "B C P L"]:
    """Solve (1 + strength * Laplacian) x = values along every row by cyclic reduction of all its equations at once.

    Hockney and Jesshope, "Parallel Computers" (1981), section 5.4.2: every equation takes its two neighbours' away from
    itself, which leaves it with neighbours twice as far, until there are none; log2 of the length steps instead of its
    double.
    """
    after = -strength * guide
    after[..., -1] = 0.0
    before = _moved(after, 1)
    pivot = 1.0 - before - after
    before, after, values = before / pivot, after / pivot, values / pivot
    distance, length = 1, guide.shape[-1]
    while distance < length:
        pivot = 1.0 - before * _moved(after, distance) - after * _moved(before, -distance)
        values = (values - before * _moved(values, distance) - after * _moved(values, -distance)) / pivot
        before, after = -before * _moved(before, distance) / pivot, -after * _moved(after, -distance) / pivot
        distance *= 2
    return values


def _moved(values: Float[Tensor, "B C P L"], distance: int) -> Float[Tensor, "B C P L"]:
    """What stands ``distance`` places before each (behind, if negative), 0 where there is nothing."""
    out = torch.zeros_like(values)
    if distance > 0:
        out[..., distance:] = values[..., :-distance]
    else:
        out[..., :distance] = values[..., -distance:]
    return out
