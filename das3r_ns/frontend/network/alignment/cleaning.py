"""The occlusion test: a point that hangs in front of what another frame sees through it is not there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from das3r_ns.frontend.network.alignment.depth_fusion import pixel_rays
from das3r_ns.scene import geometry as geo

MOST_COMPARED = 16
"""Other frames that a frame is compared with at most, spread evenly over the video."""


def _seen_from(
    c2w: Float[np.ndarray, "N 4 4"], i: int, j: int, focals: Float[np.ndarray, " N"], depth: Float[Tensor, "H W"]
) -> tuple[Float[Tensor, "H W"], Float[Tensor, "H W"], Float[Tensor, "H W"]]:
    """Column, row and depth in frame j of every pixel of frame i, the first pixel at (0, 0)."""
    height, width = depth.shape
    relative = torch.as_tensor(geo.invert_rigid(c2w[j]) @ c2w[i], dtype=torch.float32, device=depth.device)
    points = pixel_rays(height, width, float(focals[i]), depth.device) * depth[..., None]
    there = points @ relative[:3, :3].T + relative[:3, 3]
    z = torch.where(there[..., 2] > 0, there[..., 2], 1.0)
    u = float(focals[j]) * there[..., 0] / z + width / 2
    v = float(focals[j]) * there[..., 1] / z + height / 2
    return u, v, there[..., 2]


def clean_confidence(
    confidence: Float[np.ndarray, "N H W"],
    depth: Float[np.ndarray, "N H W"],
    c2w: Float[np.ndarray, "N 4 4"],
    focals: Float[np.ndarray, " N"],
    tolerance: float,
    device: torch.device,
    on_frame: Callable[[], None] = lambda: None,
) -> Float[np.ndarray, "N H W"]:
    """Confidence with 0 where a point hangs in front of what other frames see.

    Mends three weaknesses of the official test (:func:`clean_confidence_official`). Its outcome depends on the order of
    the frames, since points that it has struck out no longer testify; here all testify, at once. It compares with the
    nearest pixel, which at the edge of a thing may be the wrong side of it; here a point must lie in front of all four
    pixels around its place. It strikes at a thousandth of the depth, which is less than the noise, and one witness is
    enough; here the tolerance is that of the noise, and the more confident witnesses that see through a point must be
    more than those that see it where it is.

    Args:
        confidence: Of the networks.
        depth: Camera z.
        c2w: Cameras.
        focals: In pixels.
        tolerance: Share of the depth within which two depths are the same.
        device: Where to compute.
        on_frame: Called after each frame.
    """
    trust = torch.as_tensor(confidence, device=device)
    z = torch.as_tensor(depth, device=device)
    out = confidence.copy()
    for i in range(len(z)):
        seen, struck = torch.zeros_like(z[i]), torch.zeros_like(z[i])
        for j in _witnesses(i, len(z)):
            u, v, there = _seen_from(c2w, i, int(j), focals, z[i])
            nearest, furthest, believed = _around(z[j], trust[j], u, v)
            through = (there > 0) & (there < (1 - tolerance) * nearest) & (believed > trust[i])
            same = (there > (1 - tolerance) * nearest) & (there < (1 + tolerance) * furthest) & (believed > 0)
            struck += through
            seen += same
        out[i][(struck > seen).cpu().numpy()] = 0.0
        on_frame()
    return out


def _witnesses(i: int, count: int) -> Int[np.ndarray, " M"]:
    """Frames to compare frame i with."""
    others = np.delete(np.arange(count), i)
    if len(others) <= MOST_COMPARED:
        return others
    return others[np.linspace(0, len(others) - 1, MOST_COMPARED).round().astype(int)]


def _around(
    depth: Float[Tensor, "H W"], trust: Float[Tensor, "H W"], u: Float[Tensor, "H W"], v: Float[Tensor, "H W"]
) -> tuple[Float[Tensor, "H W"], Float[Tensor, "H W"], Float[Tensor, "H W"]]:
    """Least and greatest depth and least trust of the four pixels around places; trust 0 outside the picture."""
    height, width = depth.shape
    inside = (u >= 0) & (v >= 0) & (u <= width - 1) & (v <= height - 1)
    left = u.clamp(0, width - 1).floor().long().clamp(max=max(width - 2, 0))
    top = v.clamp(0, height - 1).floor().long().clamp(max=max(height - 2, 0))
    index = top * width + left
    corners = (0, 1, width, width + 1) if min(height, width) > 1 else (0,)
    depths = torch.stack([depth.reshape(-1)[index + k] for k in corners])
    trusts = torch.stack([trust.reshape(-1)[index + k] for k in corners])
    return depths.amin(0), depths.amax(0), torch.where(inside, trusts.amin(0), 0.0)


def clean_confidence_official(
    confidence: Float[np.ndarray, "N H W"],
    depth: Float[np.ndarray, "N H W"],
    c2w: Float[np.ndarray, "N 4 4"],
    focals: Float[np.ndarray, " N"],
    tolerance: float = 0.001,
) -> Float[np.ndarray, "N H W"]:
    """The test as DAS3R has it: frame by frame, against the nearest pixel, earlier cleanings counting later on."""
    current = torch.as_tensor(confidence.copy())
    z = torch.as_tensor(depth)
    height, width = z.shape[1:]
    for i in range(len(z)):
        for j in range(len(z)):
            if i == j:
                continue
            u, v, there = _seen_from(c2w, i, j, focals, z[i])
            column, row = u.round().long(), v.round().long()
            visible = (there > 0) & (column >= 0) & (row >= 0) & (column < width) & (row < height)
            index = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
            in_front = there < (1 - tolerance) * z[j].reshape(-1)[index]
            weaker = current[i] < current[j].reshape(-1)[index]
            current[i][visible & in_front & weaker] = 0.0
    return current.numpy()
