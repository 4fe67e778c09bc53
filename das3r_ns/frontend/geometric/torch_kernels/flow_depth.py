"""Depth of one frame from its flows, and how far to believe it, as ``dense_depth`` finds it."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from das3r_ns.frontend.geometric.torch_kernels.arrays import moved
from das3r_ns.frontend.geometric.torch_kernels.depth import inverse_depth_from_flows


@torch.no_grad()
def measured(
    there: Float[np.ndarray, "M H W 2"],
    back: Float[np.ndarray, "M H W 2"],
    start: Float[np.ndarray, "2 H W"],
    rays: Float[np.ndarray, "M 3 3"],
    offsets: Float[np.ndarray, "M 3"],
    focal: float,
    bounds: tuple[float, float],
    worth: Float[np.ndarray, "H W"],
    far: float,
    relative_half: float,
    static: Float[np.ndarray, "H W"] | None,
    device: torch.device,
) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Inverse depth and its confidence.

    Args:
        there: Flows from the frame to others, in pixels.
        back: Flows back.
        start: Inverse depths to start from.
        rays: Rotations of the motions to the others.
        offsets: Translations.
        focal: In pixels.
        bounds: Smallest and largest inverse depth.
        worth: One over the variance of a flow by the texture there, in 1 / px^2.
        far: Inverse depth below which errors count relative to this instead.
        relative_half: Relative error at which confidence has fallen to one half.
        static: What the confidence is multiplied by; None = one.
        device: Where to work.
    """
    fields, returning = (moved(part, device).float() for part in (there, back))
    tolerance = 0.5 + 0.02 * torch.linalg.vector_norm(fields, dim=-1)
    weights = torch.exp(-((_backward_error(fields, returning) / tolerance) ** 2).clamp(max=50.0))
    weights = torch.where(weights < 1e-3, 0.0, weights)
    inverse_depth, information, loss = inverse_depth_from_flows(
        moved(start, device), fields, weights, tolerance, moved(rays, device), moved(offsets, device), focal, bounds
    )
    mean_square = (weights * tolerance**2).sum(dim=0) / weights.sum(dim=0).clamp(min=1e-6)
    sharp = information * mean_square * moved(worth, device)
    relative_square = 1.0 / (sharp * inverse_depth.clamp(min=far) ** 2).clamp(min=1e-9)
    confidence = (1.0 - 1.5 * loss).clamp(0.0, 1.0) / (1.0 + relative_square / relative_half**2)
    if static is not None:
        confidence = confidence * moved(static, device)
    found = torch.stack([inverse_depth, confidence]).cpu().numpy()
    return found[0], found[1]


def _backward_error(there: Float[Tensor, "M H W 2"], back: Float[Tensor, "M H W 2"]) -> Float[Tensor, "M H W"]:
    """Pixels by which following flows there and back misses the start; inf where they leave the frame."""
    height, width = there.shape[1:3]
    x = torch.arange(width, device=there.device) + there[..., 0]
    y = torch.arange(height, device=there.device)[:, None] + there[..., 1]
    grid = torch.stack([x * (2 / (width - 1)) - 1, y * (2 / (height - 1)) - 1], dim=-1)
    returned = functional.grid_sample(back.permute(0, 3, 1, 2), grid, align_corners=True, padding_mode="border")
    error = torch.linalg.vector_norm(there + returned.permute(0, 2, 3, 1), dim=-1)
    return torch.where((x < 0) | (y < 0) | (x > width - 1) | (y > height - 1), torch.inf, error)
