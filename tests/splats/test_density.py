"""Growing and pruning of Gaussians by what they are drawn with."""

from __future__ import annotations

import torch
from gsplat.strategy import DefaultStrategy
from torch import nn

from das3r_ns.splats.density import StaticSceneStrategy


def gaussians(count: int) -> tuple[nn.ParameterDict, dict[str, torch.optim.Optimizer]]:
    """Opaque static Gaussians one unit away, with an optimizer each that has made one step."""
    values = {
        "means": torch.tensor([1.0, 0, 0]).repeat(count, 1),
        "scales": torch.full((count, 3), -5.0),
        "quats": torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        "opacities": torch.full((count, 1), 3.0),
        "staticness": torch.full((count, 1), 3.0),
    }
    params = nn.ParameterDict({name: nn.Parameter(value) for name, value in values.items()})
    optimizers: dict[str, torch.optim.Optimizer] = {
        name: torch.optim.Adam([parameter], lr=0.0) for name, parameter in params.items()
    }
    for name, parameter in params.items():
        parameter.grad = torch.ones_like(parameter)
        optimizers[name].step()
    return params, optimizers


def test_pruning_looks_at_the_effective_opacity():
    params, optimizers = gaussians(4)
    params["opacities"].data[0] = -7.0  # transparent
    params["staticness"].data[1] = -7.0  # opaque, but a mover
    params["scales"].data[2] = 1.0  # larger than the scene
    strategy = StaticSceneStrategy(prune_opa=0.01, prune_scale3d=0.5, refine_start_iter=0, refine_every=1, grow=False)
    strategy.step_post_backward(params, optimizers, strategy.initialize_state(1.0), 1, {})
    assert len(params["means"]) == 1
    assert params["staticness"].item() == 3.0
    assert len(optimizers["staticness"].state[params["staticness"]]["exp_avg"]) == 1


def test_large_gaussians_may_be_far_away():
    params, _ = gaussians(2)
    params["scales"].data[:] = 0.0
    params["means"].data[1] = 30.0
    strategy = StaticSceneStrategy(prune_scale3d=0.5)
    assert strategy.doomed(params, strategy.initialize_state(1.0), 1).tolist() == [True, False]


def test_movers_are_pruned_from_a_step_on():
    params, _ = gaussians(2)
    params["staticness"].data[0] = -3.0
    strategy = StaticSceneStrategy(prune_opa=0.0, prune_scale3d=1e9, prune_staticness=0.1, prune_staticness_from=100)
    state = strategy.initialize_state(1.0)
    assert strategy.doomed(params, state, 99).tolist() == [False, False]
    assert strategy.doomed(params, state, 100).tolist() == [True, False]


def test_a_scene_is_never_emptied():
    params, optimizers = gaussians(3)
    params["opacities"].data[:] = -9.0
    strategy = StaticSceneStrategy(prune_opa=0.01, refine_start_iter=0, refine_every=1, grow=False)
    strategy.step_post_backward(params, optimizers, strategy.initialize_state(1.0), 1, {})
    assert len(params["means"]) == 3


def test_gradients_are_added_up_as_in_gsplat():
    """But for its boolean selection."""
    generator = torch.Generator().manual_seed(0)
    ours, theirs = StaticSceneStrategy(absgrad=False), DefaultStrategy(absgrad=False)
    states = [ours.initialize_state(1.0), theirs.initialize_state(1.0)]
    params, _ = gaussians(50)
    for _ in range(3):
        means2d = torch.zeros(2, 50, 2)
        means2d.grad = torch.randn(2, 50, 2, generator=generator)
        radii = torch.randint(-1, 2, (2, 50), generator=generator).clamp_min(0)
        info = {"width": 64, "height": 48, "n_cameras": 2, "radii": radii, "gaussian_ids": None, "means2d": means2d}
        for strategy, state in zip((ours, theirs), states, strict=True):
            strategy._update_state(params, state, info)
    for name in ("grad2d", "count"):
        torch.testing.assert_close(states[0][name], states[1][name])
    assert 0 < (states[0]["count"] == 0).sum() < 50


def test_growth_stops_at_the_limit_strongest_first():
    params, optimizers = gaussians(10)
    strategy = StaticSceneStrategy(max_gaussians=13, grow_grad2d=0.5, grow_scale3d=0.1)
    state = strategy.initialize_state(1.0) | {"grad2d": torch.arange(10.0), "count": torch.ones(10)}
    params["features"] = nn.Parameter(torch.arange(10.0)[:, None])
    optimizers["features"] = torch.optim.Adam([params["features"]], lr=0.0)
    params["features"].grad = torch.ones(10, 1)
    optimizers["features"].step()
    strategy._grow_gs(params, optimizers, state, 1)
    assert len(params["means"]) == 13
    assert sorted(params["features"].flatten().tolist()[10:]) == [7.0, 8.0, 9.0]
    strategy._grow_gs(params, optimizers, state, 2)
    assert len(params["means"]) == 13
