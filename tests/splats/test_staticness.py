"""Staticness: exact effective opacity, a prior with a memory, and a posterior that cannot collapse."""

from __future__ import annotations

import pytest
import torch

from das3r_ns.splats.staticness import (
    WELL,
    effective_opacity,
    effective_opacity_logit,
    seed_staticness_logit,
    static_weight_posterior,
    staticness_prior,
)


def test_effective_opacity_logit_is_exact_at_any_size():
    a = torch.tensor([0.0, 5.0, 40.0, -40.0, 90.0, -90.0, 30.0])[:, None]
    s = torch.tensor([0.0, -3.0, 40.0, 40.0, -90.0, -90.0, 25.0])[:, None]
    logit = effective_opacity_logit(a, s)
    product = torch.sigmoid(a.double()) * torch.sigmoid(s.double())
    expected = torch.log(product) - torch.log(-torch.expm1(torch.log(product)))
    assert torch.isfinite(logit).all()
    torch.testing.assert_close(logit[[0, 1, 3, 4, 5]], expected[[0, 1, 3, 4, 5]].float(), rtol=1e-5, atol=1e-5)
    assert logit[2] > 38 and logit[6] > 24  # where the product rounds to 1 even in float64
    torch.testing.assert_close(torch.sigmoid(logit), effective_opacity(a, s))


def test_a_silenced_gaussian_still_gives_evidence():
    a = torch.tensor([[-8.0]], requires_grad=True)
    s = torch.tensor([[0.0]], requires_grad=True)
    effective_opacity(a, s).sum().backward()
    assert a.grad is not None and s.grad is not None
    assert a.grad.item() < 1e-3
    assert s.grad.item() == pytest.approx(0.25)


def test_seed_logits_stay_between_the_wells():
    logit = seed_staticness_logit(torch.tensor([[0.0], [0.5], [1.0]]))
    torch.testing.assert_close(logit, torch.tensor([[-WELL], [0.0], [WELL]]))


@pytest.mark.parametrize(("start", "end"), [(1.0, 1.0), (0.5, 1.0), (0.2, 0.0), (0.0, 0.0)])
def test_the_prior_remembers_and_favours_static(start, end):
    s = seed_staticness_logit(torch.tensor([[start]])).requires_grad_()
    optimizer = torch.optim.Adam([s], lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        staticness_prior(s).backward()
        optimizer.step()
    assert abs(torch.sigmoid(s).item() - end) < 0.05


def test_noise_does_not_wear_the_prior_down():
    generator = torch.Generator().manual_seed(0)
    s = torch.full((500, 1), WELL, requires_grad=True)
    optimizer = torch.optim.Adam([s], lr=0.02, eps=1e-15)
    for _ in range(600):
        optimizer.zero_grad()
        noise = torch.randn(500, 1, generator=generator) * torch.sigmoid(s) * (1 - torch.sigmoid(s))
        (10 * staticness_prior(s) + (noise.detach() * s).mean()).backward()
        optimizer.step()
    assert torch.sigmoid(s).mean() > 0.95


@pytest.fixture
def scene():
    """A frame, a good render of it and a mover that the render lacks."""
    generator = torch.Generator().manual_seed(0)
    rendered = torch.rand(60, 80, 3, generator=generator)
    target = (rendered + 0.02 * torch.randn(60, 80, 3, generator=generator)).clamp(0, 1)
    mover = torch.zeros(60, 80, 1, dtype=torch.bool)
    mover[20:40, 30:50] = True
    with_mover = torch.where(mover, (target + 0.5) % 1, target)
    return rendered, target, with_mover, mover


def test_a_static_video_stays_static(scene):
    rendered, target, _, mover = scene
    weight = static_weight_posterior(torch.full_like(mover, 0.98, dtype=torch.float32), rendered, target)
    assert weight.mean() > 0.95


@pytest.mark.parametrize("prior", [0.98, 0.6])
def test_a_missed_mover_is_found(scene, prior):
    rendered, _, with_mover, mover = scene
    weight = static_weight_posterior(torch.full_like(mover, prior, dtype=torch.float32), rendered, with_mover)
    assert weight[25:35, 35:45].mean() < 0.2
    assert weight[:15].mean() > 0.95


def test_with_play_fine_texture_beside_its_place_stays_and_a_missed_mover_goes():
    frame = torch.full((60, 80, 3), 0.3)
    frame[:15, 1::4] = frame[:15, 2::4] = 0.9
    rendered = frame.roll(1, dims=1)
    frame[40:55, 30:50] = 0.9
    prior = torch.full((60, 80, 1), 0.98)
    strict, allowed = (static_weight_posterior(prior, rendered, frame, play=play) for play in (0, 1))
    assert strict[3:12, 5:-5].mean() < 0.1
    assert allowed[3:12, 5:-5].mean() > 0.95
    assert allowed[43:52, 33:47].mean() < 0.1
    assert (allowed >= strict).all()


def test_a_static_part_called_moving_comes_back(scene):
    rendered, target, _, mover = scene
    prior = torch.where(mover, 0.2, 0.98)
    assert static_weight_posterior(prior, rendered, target)[mover].mean() > 0.6


@pytest.mark.parametrize("grey", [0.0, 0.5])
def test_a_bad_render_cannot_blame_the_video(scene, grey):
    _, target, _, _ = scene
    prior = torch.full((60, 80, 1), 0.9)
    weight = static_weight_posterior(prior, torch.full_like(target, grey), target)
    assert weight.mean() > 0.85
