"""The dynamics-aware photometric loss, and the depth term.

A pixel that shows something moving tells nothing about the static scene. The loss is a *mean over the static weight*,
not over the picture: a frame that is nearly half covered by movers teaches its static pixels as much as a free one
does, and a covered pixel is not an example of a perfect match. The weight is data, never a parameter: DAS3R multiplies
both pictures by a map that it learns at the same time, and shrinking that map always lowers its loss.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from das3r_ns.scene.estimate import depth_tolerance
from das3r_ns.splats.ssim import l1_ssim_loss, plain_ssim

_TINY = 1e-12

CAMERA_NOISE = 0.5
"""Pixels by which the front end's cameras may be off where they are good."""


def dynamics_aware_loss(
    rendered: Float[Tensor, "H W 3"],
    target: Float[Tensor, "H W 3"],
    static_weight: Float[Tensor, "H W 1"],
    ssim_lambda: float = 0.2,
) -> Float[Tensor, ""]:
    """(1 - lambda) L1 + lambda (1 - SSIM), both weighted by the static weight and normalised by it.

    With W = 1 this is the loss of 3D Gaussian Splatting (Kerbl et al. 2023, eq. 7).

    Args:
        rendered: the render, values in [0, 1].
        target: the frame, values in [0, 1].
        static_weight: static weight W in [0, 1], 1 = static; receives no gradient.
        ssim_lambda: share of the SSIM term.

    Returns:
        The loss; 0, with a zero gradient, where W is 0 everywhere.
    """
    return l1_ssim_loss(rendered, target, static_weight.detach(), ssim_lambda)


def depth_loss(
    rendered: Float[Tensor, "H W 1"],
    measured: Float[Tensor, "h w 2"],
    static_weight: Float[Tensor, "H W 1"],
) -> Float[Tensor, ""]:
    """How far the rendered depth is from the front end's, beyond what that may be wrong by.

    Colours alone do not say how far away a Gaussian is that few frames see: where movers hide the ground most of the
    time it may hang in the air and be right in those frames only, and what it covers in the others is what a clean
    plate shows. The loss is the absolute logarithm of the ratio of both depths, less
    :func:`~das3r_ns.scene.estimate.depth_tolerance`: within it colours decide, and they know better. It is a mean over
    static weight times confidence, so a guessed depth says nothing.

    Args:
        rendered: expected depth of the render (camera z).
        measured: the front end's depth, in the same unit, and its confidence; of any size.
        static_weight: static weight W in [0, 1], 1 = static; receives no gradient.

    Returns:
        The loss; 0 where nothing is static and measured.
    """
    measured = measured.float()
    if measured.shape[:2] != rendered.shape[:2]:
        measured = F.interpolate(measured.permute(2, 0, 1)[None], rendered.shape[:2])[0].permute(1, 2, 0)
    depth, confidence = measured[..., :1], measured[..., 1:]
    # Where nothing is drawn there is no depth; opacity is the colours' business.
    weight = static_weight.detach() * confidence * (rendered.detach() > _TINY)
    off = (torch.log(rendered.clamp_min(_TINY)) - torch.log(depth.clamp_min(_TINY))).abs()
    excess = F.relu(off - depth_tolerance(confidence))
    return (weight * excess).sum() / weight.sum().clamp_min(1.0)


def camera_prior(correction: Float[Tensor, "6"], focal: float) -> Float[Tensor, ""]:
    """How far refinement has taken a camera from where the front end put it.

    The colours hold what moves one frame against the others, but hardly what bends a whole path, for the Gaussians bend
    with it: there a front end that has matched points over many frames knows better. A quadratic prior, weak against
    the former and strong against the latter, tells the two apart. Beyond CAMERA_NOISE it grows slower and slower
    (Cauchy's loss), for a camera that is really off shall not be held.

    Args:
        correction: shift in the unit of the scene, whose middle is 1 away, and turn in radians.
        focal: of the training images, pixels.

    Returns:
        Squared pixels by which the picture goes by, up to CAMERA_NOISE squared; its logarithm beyond.
    """
    return CAMERA_NOISE**2 * torch.log1p((correction * (focal / CAMERA_NOISE)).square().sum())


@torch.no_grad()
def weighted_psnr(
    rendered: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"], static_weight: Float[Tensor, "H W 1"]
) -> Float[Tensor, ""]:
    """PSNR in dB of the mean squared error over the static weight; 0 dB where nothing is static."""
    squared = (static_weight * (rendered - target).square()).sum()
    total = 3 * static_weight.sum()
    mean = torch.where(total > _TINY, squared / total.clamp_min(_TINY), torch.ones_like(total))
    return -10 * torch.log10(mean.clamp_min(1e-10))


def paper_loss(
    rendered: Float[Tensor, "H W 3"],
    target: Float[Tensor, "H W 3"],
    staticness: Float[Tensor, "H W 1"],
    ssim_lambda: float = 0.2,
) -> Float[Tensor, ""]:
    """DAS3R's loss: both pictures multiplied by the learnt staticness, averaged over the picture.

    Args:
        rendered: the render.
        target: the frame.
        staticness: raw per-pixel staticness; receives a gradient through both products.
        ssim_lambda: share of the SSIM term.
    """
    x, y = staticness * rendered, staticness * target
    return (1 - ssim_lambda) * (x - y).abs().mean() + ssim_lambda * (1 - plain_ssim(x, y))


@torch.no_grad()
def paper_psnr(
    rendered: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"], staticness: Float[Tensor, "H W 1"]
) -> Float[Tensor, ""]:
    """The PSNR (dB) that gates DAS3R's pose steps: of the staticness-weighted pictures, mean over the channels."""
    mean = (staticness * (rendered - target)).square().mean(dim=(0, 1))
    return (-10 * torch.log10(mean.clamp_min(1e-10))).mean()
