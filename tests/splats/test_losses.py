"""SSIM and the losses, against independent implementations and the official code's numbers."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path

import pytest
import torch
from pytorch_msssim import ssim as msssim
from torch import Tensor

from das3r_ns.splats.losses import (
    CAMERA_NOISE,
    camera_prior,
    depth_loss,
    dynamics_aware_loss,
    paper_loss,
    paper_psnr,
    weighted_psnr,
)
from das3r_ns.splats.ssim import (
    _TorchLoss,
    l1_ssim_loss,
    l1_ssim_loss_reference,
    plain_ssim,
    weighted_ssim,
    weighted_ssim_map,
)

REFERENCE = Path(__file__).parents[1] / "reference"


@pytest.fixture
def pictures() -> tuple[Tensor, Tensor, Tensor]:
    """Render, frame and a static weight with soft values, a hole and hard edges."""
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(40, 52, 3, generator=generator)
    rendered = (target + 0.1 * torch.randn(40, 52, 3, generator=generator)).clamp(0, 1)
    weight = torch.rand(40, 52, 1, generator=generator)
    weight[10:25, 12:30] = 0
    weight[30:] = 1
    return rendered, target, weight


def test_unit_weight_is_ordinary_ssim(pictures):
    rendered, target, weight = pictures
    local = weighted_ssim_map(rendered, target, torch.ones_like(weight))
    ordinary = msssim(rendered.permute(2, 0, 1)[None], target.permute(2, 0, 1)[None], data_range=1.0, size_average=True)
    # pytorch_msssim keeps only the windows that lie inside the picture.
    torch.testing.assert_close(local[5:-5, 5:-5].mean(), ordinary, atol=1e-5, rtol=0)


def test_constant_weight_changes_nothing(pictures):
    rendered, target, weight = pictures
    full = dynamics_aware_loss(rendered, target, torch.ones_like(weight))
    faint = dynamics_aware_loss(rendered, target, torch.full_like(weight, 0.03))
    torch.testing.assert_close(full, faint, atol=1e-5, rtol=0)


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_fast_path_agrees_with_the_reference(pictures, share):
    rendered, target, weight = pictures
    x = rendered.clone().requires_grad_()
    value = l1_ssim_loss(x, target, weight, share)
    value.backward()
    x64 = rendered.double().requires_grad_()
    expected = l1_ssim_loss_reference(x64, target.double(), weight.double(), share)
    expected.backward()
    assert x.grad is not None and x64.grad is not None
    assert abs(value.item() - expected.item()) < 1e-6
    assert (x.grad - x64.grad).abs().max() < 1e-4 * x64.grad.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("share", [0.2, 1.0])
def test_what_a_gpu_computes_agrees_with_the_reference(pictures, share, dtype):
    """Its gradient is derived by hand, too; here it runs on the CPU."""
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    rendered, target, weight = (picture.to(dtype) for picture in pictures)
    rendered.requires_grad_()
    for weights in (weight, torch.zeros_like(weight)):
        expected = l1_ssim_loss_reference(rendered, target, weights, share)
        (slope,) = torch.autograd.grad(expected, rendered)
        found = _TorchLoss.apply(rendered, target, weights, share)
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)
        (gradient,) = torch.autograd.grad(found, rendered)
        assert float((gradient - slope).norm()) <= tolerance * float(slope.norm())


def test_gradient_is_that_of_finite_differences(pictures):
    rendered, target, weight = (image[:14, 6:18].double() for image in pictures)
    rendered = (0.2 + 0.6 * rendered).requires_grad_()
    target = target + 0.01 * (target - rendered.detach()).sign()  # away from the kink of L1
    assert torch.autograd.gradcheck(lambda x: dynamics_aware_loss(x, target, weight), rendered, eps=1e-6, atol=1e-6)


def test_a_pixel_of_weight_zero_has_no_influence(pictures):
    rendered, target, weight = pictures
    other = torch.where(weight > 0, rendered, 1 - rendered)
    x = other.requires_grad_()
    loss = dynamics_aware_loss(x, target, weight)
    loss.backward()
    assert x.grad is not None
    torch.testing.assert_close(loss, dynamics_aware_loss(rendered, target, weight), atol=1e-6, rtol=0)
    assert (x.grad[(weight == 0).squeeze(-1)] == 0).all()


def test_the_outline_of_a_mask_is_no_edge(pictures):
    _, target, weight = pictures
    hole = (weight > 0).float()
    # A render that is right wherever it counts, and paints a mover in the hole.
    rendered = torch.where(hole > 0, target, 0.0)
    assert weighted_ssim(rendered, target, hole) > 1 - 1e-5
    # Multiplying by the mask, the usual way, also sees agreement; but at the outline it sees little else.
    noisy = (target + 0.3 * torch.randn_like(target)).clamp(0, 1)
    masked = plain_ssim(noisy * hole, target * hole)
    assert weighted_ssim(noisy, target, hole) < masked - 0.02


@pytest.mark.parametrize("value", [0.0, 1e-30])
def test_nothing_static_means_no_loss(pictures, value):
    rendered, target, weight = pictures
    x = rendered.clone().requires_grad_()
    loss = dynamics_aware_loss(x, target, torch.full_like(weight, value))
    loss.backward()
    assert x.grad is not None
    assert abs(loss.item()) < 1e-12
    assert x.grad.abs().max() < 1e-12
    assert weighted_psnr(rendered, target, torch.zeros_like(weight)) == 0


def test_the_loss_is_normalised_by_the_weight(pictures):
    rendered, target, weight = pictures
    half = weight.clone()
    half[:, :26] = 0
    torch.testing.assert_close(
        dynamics_aware_loss(rendered, target, half, 0.0),
        dynamics_aware_loss(rendered[:, 26:], target[:, 26:], half[:, 26:], 0.0),
    )


def test_weighted_psnr_counts_static_pixels_only(pictures):
    rendered, target, weight = pictures
    hole = (weight > 0).float()
    error = (rendered - target).square()[(hole > 0).squeeze(-1)].mean()
    torch.testing.assert_close(weighted_psnr(rendered, target, hole), -10 * torch.log10(error))


@pytest.fixture
def official():
    """Pictures and numbers of the official code (see the reference folder's README)."""
    spec = importlib.util.spec_from_file_location("fill", REFERENCE / "fill.py")
    assert spec is not None and spec.loader is not None
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)

    def image(number: int) -> Tensor:
        return torch.as_tensor(fill.image(number, 48, 64)).float()

    target = image(0) * 0.5 + 0.5
    rendered = 0.85 * target + 0.15 * (image(1) * 0.5 + 0.5)
    staticness = (0.6 + 0.5 * image(2)[:1]).clamp(-0.05, 1.05)
    numbers = json.loads((REFERENCE / "gs_metrics.json").read_text())
    return *(x.permute(1, 2, 0) for x in (rendered, target, staticness)), numbers


def test_paper_loss_is_the_official_one(official):
    rendered, target, staticness, numbers = official
    staticness = staticness.clone().requires_grad_()
    loss = paper_loss(rendered, target, staticness)
    loss.backward()
    assert staticness.grad is not None
    expected = numbers["training"]
    assert loss.item() == pytest.approx(expected["loss"], rel=1e-4)
    assert plain_ssim(staticness * rendered, staticness * target).item() == pytest.approx(
        expected["ssim_mean"], rel=1e-5
    )
    assert paper_psnr(rendered, target, staticness.detach()).item() == pytest.approx(expected["psnr_gate"], abs=1e-3)
    assert staticness.grad.mean().item() == pytest.approx(expected["grad_static_mean"], rel=1e-2)
    for place, gradient in expected["grad_static_samples"].items():
        row, column = (int(part) for part in place.split(","))
        assert staticness.grad[row, column, 0].item() == pytest.approx(gradient, rel=2e-2)


def test_unweighted_ssim_is_the_official_one(official):
    rendered, target, _, numbers = official
    assert plain_ssim(rendered, target).item() == pytest.approx(numbers["evaluation"]["ssim_unweighted"], rel=1e-5)


def measured_depth(depth: float, confidence: float, height: int = 6, width: int = 8) -> Tensor:
    """The same depth and confidence everywhere."""
    return torch.tensor([depth, confidence]).expand(height, width, 2).half()


@pytest.mark.parametrize(
    ("ratio", "confidence", "expected"),
    [
        (1.0, 1.0, 0.0),
        (1.04, 1.0, 0.0),  # within the tolerance of 5 %
        (1.3, 0.0, 0.0),  # a guess says nothing
        (0.5, 1.0, 0.6931 - 0.05),
        (2.0, 1.0, 0.6931 - 0.05),
        (0.5, 0.6, 0.6931 - 0.15),
    ],
)
def test_depth_counts_beyond_its_tolerance(ratio, confidence, expected):
    rendered, weight = torch.full((6, 8, 1), 2.0 * ratio), torch.ones(6, 8, 1)
    loss = depth_loss(rendered, measured_depth(2.0, confidence), weight)
    assert loss.item() == pytest.approx(expected, abs=2e-3)


def test_depth_is_a_mean_over_what_is_static_and_measured():
    rendered, weight = torch.full((6, 8, 1), 2.0), torch.ones(6, 8, 1)
    rendered[:, :4] = 1.0  # wrong, but there something moves
    weight[:, :4] = 0.0
    rendered[0, 4:] = 0.0  # nothing is drawn there
    assert depth_loss(rendered, measured_depth(2.0, 1.0), weight).item() == 0.0
    rendered[3:] = 1.0
    # Of 20 static pixels with a depth 12 are off.
    expected = 12 / 20 * (torch.tensor(2.0).log().item() - 0.05)
    assert depth_loss(rendered, measured_depth(2.0, 1.0), weight).item() == pytest.approx(expected, abs=1e-3)


def test_depth_pulls_towards_what_was_measured_at_any_size():
    rendered = torch.full((6, 8, 1), 1.0, requires_grad=True)
    weight = torch.ones(6, 8, 1, requires_grad=True)
    loss = depth_loss(rendered, measured_depth(2.0, 1.0, 3, 4), weight)
    loss.backward()
    assert rendered.grad is not None and (rendered.grad < 0).all()  # further away
    assert weight.grad is None  # calling a pixel dynamic cannot win
    torch.testing.assert_close(rendered.grad, torch.full_like(rendered, -1 / 48))


def test_nothing_measured_is_no_loss():
    rendered = torch.full((6, 8, 1), 1.0, requires_grad=True)
    loss = depth_loss(rendered, measured_depth(2.0, 0.0), torch.ones(6, 8, 1))
    loss.backward()
    assert loss.item() == 0.0 and rendered.grad is not None and not rendered.grad.any()


def test_the_prior_of_the_cameras_counts_pixels_and_lets_go_of_what_is_far_off():
    focal, small, far = 400.0, torch.zeros(6), torch.zeros(6)
    small[4], far[1] = 0.05 / focal, 4.0 / focal  # a turn by a twentieth of a pixel, a shift by four
    assert camera_prior(small, focal).item() == pytest.approx(0.05**2, rel=0.01)
    assert camera_prior(far, focal).item() == pytest.approx(CAMERA_NOISE**2 * math.log(1 + (4 / CAMERA_NOISE) ** 2))

    def pull(pixels: float) -> float:
        correction = torch.tensor([pixels / focal, 0.0, 0.0, 0.0, 0.0, 0.0], requires_grad=True)
        camera_prior(correction, focal).backward()
        assert correction.grad is not None
        return correction.grad[0].item()

    assert pull(0.0) == 0.0 and pull(CAMERA_NOISE) > 3 * pull(5.0) > 0.0
