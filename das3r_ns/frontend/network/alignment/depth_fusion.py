"""Depth, confidence and dynamic probability of every pixel from the predictions of all pairs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from das3r_ns.frontend.network.alignment.unknowns import State
from das3r_ns.frontend.network.predictions import PairPredictions
from das3r_ns.frontend.similarity import MAXWELL_MEDIAN, Sim3
from das3r_ns.scene import geometry as geo

LEAST_NOISE = 0.003
"""Share of the depth below which the noise of a pixel is never taken to lie."""


def pick_device(name: str) -> torch.device:
    """'auto' is the GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def views_of(predictions: PairPredictions, frame: int) -> list[tuple[int, int]]:
    """The (pair, view) that show a frame, by number and 0 or 1."""
    return [(e, side) for e, pair in enumerate(predictions.pairs) for side in (0, 1) if pair[side] == frame]


def pixel_rays(height: int, width: int, focal: float, device: torch.device) -> Float[Tensor, "H W 3"]:
    """Directions with z = 1 as the networks have them: principal point (W / 2, H / 2), first pixel at (0, 0)."""
    v, u = torch.meshgrid(
        torch.arange(height, device=device, dtype=torch.float32) - height / 2,
        torch.arange(width, device=device, dtype=torch.float32) - width / 2,
        indexing="ij",
    )
    return torch.stack([u / focal, v / focal, torch.ones_like(u)], dim=-1)


def fuse_depth(
    predictions: PairPredictions,
    state: State,
    shares: Float[np.ndarray, "E 2"],
    device: torch.device,
    on_frame: Callable[[], None] = lambda: None,
) -> Float[np.ndarray, "N H W"]:
    """Depth of every pixel: the place along its ray that the predictions of all pairs lie nearest to.

    The predictions are weighted by log confidence and by how much of their pair the alignment believed; from their
    weighted median on, those far off (Geman and McClure, by the spread at the pixel) lose their weight.

    Args:
        predictions: Of all pairs.
        state: Cameras, focals and similarities.
        shares: How far each view of each pair is to be believed, 0 to 1.
        device: Where to compute.
        on_frame: Called after each frame.

    Returns:
        Camera z, positive, float32.
    """
    w2c = geo.invert_rigid(state.c2w)
    world_from_pair = state.pair_from_world.inverse()
    height, width = predictions.height, predictions.width
    out = np.ones((len(w2c), height, width), dtype=np.float32)
    for n in range(len(w2c)):
        views = views_of(predictions, n)
        if not views:
            on_frame()
            continue
        rays = pixel_rays(height, width, float(state.focals[n]), device)
        along, across, weights = [], [], []
        for e, side in views:
            to_camera = (Sim3.from_rigid(w2c[n]) @ world_from_pair[e]).matrix()
            matrix = torch.as_tensor(to_camera, dtype=torch.float32, device=device)
            points = (predictions.points1, predictions.points2)[side][e].to(device, torch.float32)
            confidence = (predictions.confidence1, predictions.confidence2)[side][e].to(device, torch.float32)
            camera = points @ matrix[:3, :3].T + matrix[:3, 3]
            depth = (camera * rays).sum(-1) / (rays**2).sum(-1)
            along.append(depth)
            across.append(((camera - depth[..., None] * rays) ** 2).sum(-1))
            trust = max(float(shares[e, side]), 1e-3) ** 2
            weights.append(trust * torch.log(confidence.clamp(min=1.001)) * torch.where(depth > 0, 1.0, 1e-6))
        fused = _robust_mean(torch.stack(along), torch.stack(across), torch.stack(weights))
        out[n] = _positive(fused).cpu().numpy()
        on_frame()
    return out


def _robust_mean(
    along: Float[Tensor, "M H W"], across: Float[Tensor, "M H W"], weights: Float[Tensor, "M H W"]
) -> Float[Tensor, "H W"]:
    """Robust mean of the depths ``along`` the ray of points whose squared distance from it is ``across``."""
    order = along.argsort(dim=0)
    ranked = weights.gather(0, order).cumsum(dim=0)
    middle = (ranked < 0.5 * ranked[-1:]).sum(dim=0, keepdim=True).clamp(max=len(along) - 1)
    depth = along.gather(0, order.gather(0, middle))[0]
    for _ in range(3):
        unit = depth.abs().clamp(min=1e-12)
        error = ((along - depth) ** 2 + across).sqrt() / unit
        noise = (error.median(dim=0).values / MAXWELL_MEDIAN).clamp(min=LEAST_NOISE)
        robust = weights / (1 + (error / (3 * noise)) ** 2) ** 2
        depth = (robust * along).sum(0) / robust.sum(0).clamp(min=1e-20)
    return depth


def _positive(depth: Float[Tensor, "H W"]) -> Float[Tensor, "H W"]:
    """No depth below a hundredth of the median of the positive ones."""
    positive = depth[torch.isfinite(depth) & (depth > 0)]
    usual = float(positive.median()) if positive.numel() else 1.0
    return torch.nan_to_num(depth, nan=usual, posinf=1e3 * usual).clamp(min=0.01 * usual)


def fuse_confidence(predictions: PairPredictions) -> Float[np.ndarray, "N H W"]:
    """The highest confidence of each pixel in all pairs and both views; 0 in frames that no pair shows."""
    out = torch.zeros((predictions.num_frames, predictions.height, predictions.width))
    for e, (i, j) in enumerate(predictions.pairs):
        torch.maximum(out[i], predictions.confidence1[e].float().cpu(), out=out[i])
        torch.maximum(out[j], predictions.confidence2[e].float().cpu(), out=out[j])
    return out.numpy()


def fuse_dynamic(
    predictions: PairPredictions, shares: Float[np.ndarray, "E 2"] | None = None
) -> tuple[Float[np.ndarray, "N H W"], Float[np.ndarray, "N H W"]] | None:
    """Dynamic probability of each frame from the pairs that have it as view 1.

    Args:
        predictions: Of all pairs.
        shares: How far each view of each pair is to be believed, 0 to 1: pairs speak by this and by their log
            confidence at the pixel, so that nonsense about a frame's points is no evidence of motion either. None:
            they all speak alike, as officially.

    Returns:
        Mean and highest; both 0 in frames that are never view 1. None where the network has no mask heads.
    """
    if predictions.dynamic1 is None:
        return None
    shape = (predictions.num_frames, predictions.height, predictions.width)
    total, weight, highest = torch.zeros(shape), torch.zeros(shape), torch.zeros(shape)
    for e, (i, _) in enumerate(predictions.pairs):
        dynamic = predictions.dynamic1[e].float().cpu()
        if shares is None:
            said = torch.ones_like(dynamic)
        else:
            said = torch.log(predictions.confidence1[e].float().cpu().clamp(min=1.001))
            said = said * max(float(shares[e].min()), 1e-3) ** 2
        total[i] += said * dynamic
        weight[i] += said
        torch.maximum(highest[i], dynamic, out=highest[i])
    return (total / weight.clamp(min=1e-12)).numpy(), highest.numpy()
