"""L1 and structural similarity (Wang et al. 2004, "Image quality assessment", eq. 13) of the static part of a frame.

Ordinary masked SSIM multiplies both pictures by the mask, so that the mask's outline becomes the strongest edge of
both: structure that agrees perfectly, and which hides what happens beside it. Here the local means, variances and the
covariance are *weighted* by the static weight W instead (normalised convolution, Knutsson & Westin 1993): a window that
straddles the edge of a mask sees only its static pixels, one that straddles the edge of the picture only those inside
it, and where W is constant every statistic is the ordinary one. A pixel of weight zero has no influence at all, neither
in value nor in gradient.

:func:`l1_ssim_loss` dispatches between two hand-derived gradients: on the CPU numba's loops (and OpenCV's separable
filter, a hundred times quicker there than torch's convolution), elsewhere torch, in a third of the operations that
autograd takes for the reference, with which the tests compare both.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from das3r_ns.rasterization._threads import kernel, launch

WINDOW = 11
SIGMA = 1.5
C1 = 0.01**2
C2 = 0.03**2
_TINY = 1e-12
"""Below every weight that matters (W is stored in 1/65535 steps), above float32's denormals."""


def gaussian_window() -> Float[np.ndarray, "11"]:
    """The normalised window of the original SSIM: 11 taps, sigma 1.5 pixels, float32."""
    x = np.arange(WINDOW, dtype=np.float64) - WINDOW // 2
    taps = np.exp(-0.5 * (x / SIGMA) ** 2)
    return (taps / taps.sum()).astype(np.float32)


def weighted_ssim(
    rendered: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"], weight: Float[Tensor, "H W 1"]
) -> Float[Tensor, ""]:
    """SSIM over the static part of a frame: sum(W * ssim) / sum(W), in [-1, 1].

    Args:
        rendered: the render, values in [0, 1]; the only argument that receives a gradient.
        target: the frame, values in [0, 1].
        weight: static weight W in [0, 1].

    Returns:
        The weighted mean of the local SSIM, averaged over the channels; 0 with a zero gradient where all of W is 0.
    """
    return (weight.sum() > _TINY).to(rendered.dtype) - l1_ssim_loss(rendered, target, weight, 1.0)


def l1_ssim_loss(
    rendered: Float[Tensor, "H W 3"],
    target: Float[Tensor, "H W 3"],
    weight: Float[Tensor, "H W 1"],
    ssim_lambda: float,
) -> Float[Tensor, ""]:
    """(1 - lambda) L1 + lambda (1 - SSIM), both means over the weight; 0 where all of it is 0.

    Args:
        rendered: the render; the only argument that receives a gradient.
        target: the frame.
        weight: static weight W in [0, 1].
        ssim_lambda: share of the SSIM term.
    """
    if rendered.device.type == "cpu" and rendered.dtype == torch.float32:
        return _FusedLoss.apply(rendered, target, weight, ssim_lambda)  # type: ignore[return-value]
    return _TorchLoss.apply(rendered, target, weight, ssim_lambda)  # type: ignore[return-value]


def l1_ssim_loss_reference(
    rendered: Float[Tensor, "H W 3"],
    target: Float[Tensor, "H W 3"],
    weight: Float[Tensor, "H W 1"],
    ssim_lambda: float,
) -> Float[Tensor, ""]:
    """What l1_ssim_loss computes, in plain torch: what it is, for readers and for the tests."""
    local = (1 - ssim_lambda) * (rendered - target).abs()
    if ssim_lambda > 0:
        local = local + ssim_lambda * (1 - weighted_ssim_map(rendered, target, weight))
    return (weight * local).sum() / (3 * weight.sum()).clamp_min(_TINY)


def weighted_ssim_map(
    rendered: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"], weight: Float[Tensor, "H W 1"]
) -> Float[Tensor, "H W 3"]:
    """Local SSIM with windows weighted by ``weight``, in plain torch at any dtype (arguments as in weighted_ssim)."""
    x, y, w = (image.permute(2, 0, 1) for image in (rendered, target, weight))
    blurred = _blur(torch.cat([w, w * x, w * y, w * x * x, w * y * y, w * x * y]))
    return _local_ssim(blurred[1:] / blurred[:1].clamp_min(_TINY)).permute(1, 2, 0)


def plain_ssim(x: Float[Tensor, "H W 3"], y: Float[Tensor, "H W 3"]) -> Float[Tensor, ""]:
    """SSIM as 3D Gaussian Splatting computes it: windows zero-padded at the border, mean over the picture."""
    x, y = x.permute(2, 0, 1), y.permute(2, 0, 1)
    return _local_ssim(_blur(torch.cat([x, y, x * x, y * y, x * y]))).mean()


def _local_ssim(moments: Float[Tensor, "15 H W"]) -> Float[Tensor, "3 H W"]:
    """Eq. 13 from the local means of x, y, x², y² and xy, three channels each."""
    mean_x, mean_y, xx, yy, xy = moments.split(3)
    numerator = (2 * mean_x * mean_y + C1) * (2 * (xy - mean_x * mean_y) + C2)
    denominator = (mean_x**2 + mean_y**2 + C1) * (xx - mean_x**2 + yy - mean_y**2 + C2)
    return numerator / denominator


def _blur(maps: Float[Tensor, "C H W"]) -> Float[Tensor, "C H W"]:
    # Depthwise: one channel each would go to cuDNN, which by default rounds to TF32's 10 bits. The variances below are
    # small differences of these means, and lose all but their first digits by it.
    count = len(maps)
    taps = _taps(maps.device, maps.dtype).expand(count, 1, WINDOW)
    blurred = F.conv2d(maps[None], taps[:, :, None], padding=(0, WINDOW // 2), groups=count)
    return F.conv2d(blurred, taps[..., None], padding=(WINDOW // 2, 0), groups=count)[0]


@functools.cache
def _taps(device: torch.device, dtype: torch.dtype) -> Float[Tensor, "11"]:
    """The window, kept on the device: to copy it there in every step would wait for it."""
    return torch.from_numpy(gaussian_window()).to(device, dtype)


def _blur_array(maps: Float[np.ndarray, "H W C"]) -> Float[np.ndarray, "H W C"]:
    taps = gaussian_window()
    return cv2.sepFilter2D(maps, -1, taps, taps, borderType=cv2.BORDER_CONSTANT)


class _FusedLoss(torch.autograd.Function):
    """Value and gradient of (1 - lambda) L1 + lambda (1 - SSIM) in one go; the backward pass is a multiplication."""

    @staticmethod
    def forward(ctx, rendered, target, weight, ssim_lambda):
        x, y, w = (image.detach().contiguous().numpy() for image in (rendered, target, weight))
        height, width = w.shape[:2]
        moments = np.empty((height, width, 16), np.float32)
        l1_sums, ssim_sums = np.empty(height), np.empty(height)
        launch(_weighted_moments, x, y, w, moments, l1_sums)
        gradient = np.empty((height, width, 9), np.float32)
        launch(_ssim_of_moments, _blur_array(moments), w, ssim_sums, gradient)
        total = 3.0 * float(weight.sum())
        scale = 1.0 / total if total > _TINY else 0.0
        if ctx.needs_input_grad[0]:
            to_rendered = np.empty((height, width, 3), np.float32)
            shares = np.float32((1 - ssim_lambda) * scale), np.float32(-ssim_lambda * scale)
            # The window is symmetric and zero beyond the picture, so the blur is its own adjoint.
            launch(_gradient_to_rendered, _blur_array(gradient), x, y, w, *shares, to_rendered)
            ctx.gradient = torch.from_numpy(to_rendered)
        l1, ssim = l1_sums.sum() * scale, ssim_sums.sum() * scale
        return rendered.new_tensor((1 - ssim_lambda) * l1 + ssim_lambda * ((scale > 0) - ssim))

    @staticmethod
    def backward(ctx, *grad_outputs):
        return grad_outputs[0] * ctx.gradient, None, None, None


class _TorchLoss(torch.autograd.Function):
    """As :class:`_FusedLoss`, with the same derivation, for any device and dtype."""

    @staticmethod
    def forward(ctx, rendered, target, weight, ssim_lambda):
        x, y, w = (image.permute(2, 0, 1) for image in (rendered, target, weight))
        wx, wy, difference = w * x, w * y, x - y
        moments = _blur(torch.cat([w, wx, wy, wx * x, wy * y, wx * y]))
        norm = moments[:1].clamp_min(_TINY).reciprocal()
        mx, my, xx, yy, xy = (moments[1:] * norm).split(3)
        product, squares = mx * my, torch.addcmul(mx * mx, my, my)
        a1, a2 = torch.add(C1, product, alpha=2), torch.add(C2, xy - product, alpha=2)
        b1, b2 = squares + C1, (xx + yy) - squares + C2
        inverse = (b1 * b2).reciprocal()
        ssim = a1 * a2 * inverse
        scale = (3 * w.sum()).clamp_min(_TINY).reciprocal()
        if ctx.needs_input_grad[0]:
            d_var, d_cov = -ssim / b2, 2 * a1 * inverse
            d_mean = my * torch.sub(a2 * inverse, d_cov, alpha=0.5) - mx * (ssim / b1 + d_var)
            # The factor 2 of both lies in ``shares``; the window is its own adjoint.
            shares = _blur((w * norm) * torch.cat([d_mean, d_var, 0.5 * d_cov])).view(3, 3, *w.shape[1:])
            slope = torch.addcmul(torch.addcmul(shares[0], x, shares[1]), y, shares[2])
            local = torch.add((1 - ssim_lambda) * difference.sign(), slope, alpha=-2 * ssim_lambda)
            ctx.save_for_backward((w * scale * local).permute(1, 2, 0))
        local = torch.add((1 - ssim_lambda) * difference.abs(), 1 - ssim, alpha=ssim_lambda)
        return (w * local).sum() * scale

    @staticmethod
    def backward(ctx, *grad_outputs):
        return grad_outputs[0] * ctx.saved_tensors[0], None, None, None


@kernel
def _weighted_moments(x, y, w, out, l1_sums, worker, workers):
    """Channels W, then per colour Wx, Wy, Wxx, Wyy, Wxy, into ``out`` [H, W, 16]; sum of W |x - y| per row."""
    height, width = w.shape[:2]
    for i in range(worker, height, workers):
        l1 = 0.0
        for j in range(width):
            weight = w[i, j, 0]
            out[i, j, 0] = weight
            for c in range(3):
                a, b = x[i, j, c], y[i, j, c]
                out[i, j, 1 + c] = weight * a
                out[i, j, 4 + c] = weight * b
                out[i, j, 7 + c] = weight * a * a
                out[i, j, 10 + c] = weight * b * b
                out[i, j, 13 + c] = weight * a * b
                l1 += weight * abs(a - b)
        l1_sums[i] = l1


@kernel
def _ssim_of_moments(moments, w, row_sums, gradient, worker, workers):
    """Sum of W * ssim per row, and its gradient to the blurred Wx, Wxx and Wxy, into ``gradient`` [H, W, 9]."""
    height, width = w.shape[:2]
    c1, c2, one, two = np.float32(C1), np.float32(C2), np.float32(1), np.float32(2)
    for i in range(worker, height, workers):
        row = 0.0
        for j in range(width):
            norm = one / max(moments[i, j, 0], np.float32(_TINY))
            weight = w[i, j, 0]
            for c in range(3):
                mx, my = moments[i, j, 1 + c] * norm, moments[i, j, 4 + c] * norm
                vx = moments[i, j, 7 + c] * norm - mx * mx
                vy = moments[i, j, 10 + c] * norm - my * my
                cov = moments[i, j, 13 + c] * norm - mx * my
                a1, a2 = two * mx * my + c1, two * cov + c2
                b1, b2 = mx * mx + my * my + c1, vx + vy + c2
                inverse = one / (b1 * b2)
                ssim = a1 * a2 * inverse
                row += weight * ssim
                scale = weight * norm
                d_var = -ssim / b2
                d_cov = two * a1 * inverse
                d_mean = two * my * a2 * inverse - two * mx * ssim / b1 - two * mx * d_var - my * d_cov
                gradient[i, j, c] = scale * d_mean
                gradient[i, j, 3 + c] = scale * d_var
                gradient[i, j, 6 + c] = scale * d_cov
        row_sums[i] = row


@kernel
def _gradient_to_rendered(blurred, x, y, w, l1_scale, ssim_scale, out, worker, workers):
    """Chain rule from the blurred moments to the render, and the sign of L1, into ``out`` [H, W, 3]."""
    height, width = w.shape[:2]
    for i in range(worker, height, workers):
        for j in range(width):
            weight = w[i, j, 0]
            for c in range(3):
                a, b = x[i, j, c], y[i, j, c]
                slope = np.float32(2) * a * blurred[i, j, 3 + c] + b * blurred[i, j, 6 + c]
                sign = np.float32(a > b) - np.float32(a < b)
                out[i, j, c] = weight * (l1_scale * sign + ssim_scale * (blurred[i, j, c] + slope))
