"""The optimizers of each parameter group, and the gate that holds the cameras still while the picture is bad."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from nerfstudio.engine.optimizers import AdamOptimizerConfig, Optimizers
from torch import Tensor
from torch.nn import Parameter

from das3r_ns.splats.schedulers import PlainDecayConfig, SettlingConfig


@dataclass
class FusedAdamConfig(AdamOptimizerConfig):
    """Adam in one kernel per tensor where torch has one: six times quicker on a CPU, and the same steps."""

    def setup(self, params: Any) -> torch.optim.Optimizer:
        """The optimizer of a list of parameters."""
        on_cuda = all(parameter.is_cuda for parameter in params)
        on_cpu = all(parameter.device.type == "cpu" for parameter in params)
        fused = on_cuda or (on_cpu and torch.__version__ >= (2, 4))  # pyright: ignore[reportOperatorIssue]
        return self._target(params, lr=self.lr, eps=self.eps, weight_decay=self.weight_decay, fused=fused)


class FrameAdam(torch.optim.Optimizer):
    """Adam of a parameter with a row for each frame, of which a step sees one or a few.

    Adam goes on by its momentum in the steps that do not see a row: its camera moves on blindly after every look at it,
    with N frames by about the square root of N times the learning rate, noise or not, and noise does not average out.
    Here a row has its own count of steps and its moments move only where there is a gradient, as torch's SparseAdam has
    it, which would have to ask the device how many rows there are. ``found_inf``, where it is set, leaves out a step.

    Args:
        params: The parameters [N, ...].
        lr: Learning rate.
        betas: Decay of the moments, by looks at a row.
        eps: Added to the root of the second moment.
    """

    found_inf: Float[Tensor, ""] | None = None

    def __init__(
        self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-15
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Move the rows that have a gradient."""
        for group in self.param_groups:
            first, second = group["betas"]
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                seen = (gradient != 0).flatten(1).any(dim=1).view(-1, *[1] * (gradient.ndim - 1))
                if self.found_inf is not None:
                    seen = seen & (self.found_inf == 0)
                state = self.state[parameter]
                # Not "step": torch leaves what is called so on the CPU when a checkpoint is read.
                if "looks" not in state:
                    state["looks"] = torch.zeros_like(seen, dtype=torch.float32)
                    state["exp_avg"] = torch.zeros_like(parameter)
                    state["exp_avg_sq"] = torch.zeros_like(parameter)
                looks = state["looks"] + seen
                mean = torch.where(seen, state["exp_avg"].lerp(gradient, 1 - first), state["exp_avg"])
                square = torch.where(seen, state["exp_avg_sq"].lerp(gradient**2, 1 - second), state["exp_avg_sq"])
                state.update({"looks": looks, "exp_avg": mean, "exp_avg_sq": square})
                root = (square / (1 - second**looks)).sqrt() + group["eps"]
                parameter.sub_(torch.where(seen, group["lr"] * mean / (1 - first**looks) / root, 0.0))


@dataclass
class FrameAdamConfig(AdamOptimizerConfig):
    """:class:`FrameAdam`, for what has a row for each frame."""

    def setup(self, params: Any) -> torch.optim.Optimizer:
        """The optimizer of a list of parameters."""
        return FrameAdam(params, lr=self.lr, eps=self.eps)


Groups = dict[str, dict[str, Any]]
"""Parameter group -> its ``optimizer`` and ``scheduler`` (or None), as TrainerConfig.optimizers wants it."""


def _adam(lr: float, lr_final: float | None = None, steps: int = 0) -> dict[str, Any]:
    scheduler = None if lr_final is None else PlainDecayConfig(lr_final=lr_final, max_steps=steps)
    return {"optimizer": FusedAdamConfig(lr=lr, eps=1e-15), "scheduler": scheduler}


def das3r_optimizers(max_num_iterations: int = 0) -> Groups:
    """Parameter groups of ``das3r`` and ``das3r-light``.

    The learning rates are those of splatfacto, decayed over the actual length of the run. That of ``means`` is per unit
    of the scene's size (see :func:`scale_positions`).

    Args:
        max_num_iterations: Length of the run in steps; 0 for what it turns out to be when training starts.
    """
    n = max_num_iterations
    return {
        "means": _adam(1.6e-4, 1.6e-6, n),
        "features_dc": _adam(2.5e-3),
        "features_rest": _adam(2.5e-3 / 20),
        "opacities": _adam(0.05),
        "scales": _adam(5e-3),
        "quats": _adam(1e-3),
        "staticness": _adam(0.05),
        # Pixels of a picture 500 wide are within reach of a run as short as 1,500 steps; its last 40 % refine nothing,
        # so that the Gaussians settle where the cameras have come to rest.
        "camera_opt": {
            "optimizer": FrameAdamConfig(lr=6e-4, eps=1e-15),
            "scheduler": SettlingConfig(until=0.6, max_steps=n),
        },
        "bilateral_grid": _adam(2e-3, 1e-4, n),
        "light": _adam(2e-3, 2e-4, n),
    }


def paper_optimizers(max_num_iterations: int = 0) -> Groups:
    """Parameter groups of ``das3r-paper``: DAS3R's learning rates and schedules.

    That of ``means`` is per unit of the camera path's extent; its decay is laid out over 30000 steps however short the
    run, as is that of the cameras over 1000.

    Args:
        max_num_iterations: Length of the run in steps, over which the rate of the staticness decays; 0 for what it
            turns out to be when training starts.
    """
    return {
        "means": _adam(1.6e-4, 1.6e-6, 30000),
        "features_dc": _adam(2.5e-3),
        "features_rest": _adam(2.5e-3 / 20),
        "opacities": _adam(0.05),
        "scales": _adam(5e-3),
        "quats": _adam(1e-3),
        "static_maps": _adam(3e-3, 3e-4, max_num_iterations),
        "camera_opt": _adam(3e-5, 3e-6, 1000),
    }


def fit_schedules(groups: Mapping[str, dict[str, Any]], max_num_iterations: int) -> Groups:
    """The same groups with schedules "of the length of the run" given that length.

    Args:
        groups: As given by :func:`das3r_optimizers`; left untouched.
        max_num_iterations: Length of the run in steps.
    """

    def fitted(group: dict[str, Any]) -> dict[str, Any]:
        scheduler = group["scheduler"]
        if isinstance(scheduler, PlainDecayConfig | SettlingConfig) and scheduler.max_steps == 0:
            return group | {"scheduler": replace(scheduler, max_steps=max_num_iterations)}
        return group

    return {name: fitted(group) for name, group in groups.items()}


def scale_positions(groups: Mapping[str, dict[str, Any]], scale: float) -> Groups:
    """The same groups with the learning rate of ``means`` multiplied by the size of the scene.

    Adam's steps have the length of the learning rate whatever the gradient, so it must be a length of the scene.

    Args:
        groups: As given by :func:`das3r_optimizers`; left untouched.
        scale: Size of the scene in nerfstudio's units.
    """
    scaled = dict(groups)
    optimizer, scheduler = groups["means"]["optimizer"], groups["means"]["scheduler"]
    if isinstance(scheduler, PlainDecayConfig):
        scheduler = replace(scheduler, lr_final=scheduler.lr_final * scale)
    scaled["means"] = {"optimizer": replace(optimizer, lr=optimizer.lr * scale), "scheduler": scheduler}
    return scaled


class GatedOptimizers(Optimizers):
    """Optimizers of which some step only while their gate is open.

    A closed gate drops the gradient. Zeroing it would not do: Adam would still move the group by its momentum.

    On a GPU the gate is not looked at, which would wait for the render: the fused Adam has a switch of its own on the
    device (``found_inf``, by which mixed precision leaves out a step), and a closed gate throws it.

    Args:
        config: Optimizer and scheduler of each group.
        param_groups: Parameters of each group.
        gates: Group -> whether it may step now; groups not named always may.
    """

    def __init__(
        self,
        config: dict[str, Any],
        param_groups: dict[str, list[Parameter]],
        gates: Mapping[str, Callable[[], bool | Bool[Tensor, ""]]],
    ) -> None:
        super().__init__(config, param_groups)
        self._gates = gates

    def zero_grad_some(self, param_groups: list[str]) -> None:
        """Drop the gradients of the named groups, and the parameters that a densification has replaced."""
        super().zero_grad_some(param_groups)
        # gsplat gives its new ones to the optimizers alone: the first would live as long as the run, gradients and all.
        for group in param_groups:
            self.parameters[group] = [p for part in self.optimizers[group].param_groups for p in part["params"]]

    def optimizer_scaler_step_some(self, grad_scaler: Any, param_groups: list[str]) -> None:
        """Step the named groups whose gate is open."""
        for group in self._gates.keys() & set(param_groups):
            is_open, optimizer = self._gates[group](), self.optimizers[group]
            can_skip = isinstance(optimizer, FrameAdam) or optimizer.defaults.get("fused")
            if isinstance(is_open, Tensor) and is_open.is_cuda and can_skip:
                optimizer.found_inf = (~is_open).float()  # pyright: ignore[reportAttributeAccessIssue]
            elif not is_open:
                optimizer.zero_grad()
                # Without gradients this moves nothing; it tells torch's schedulers that the optimizer is in use.
                optimizer.step()
        super().optimizer_scaler_step_some(grad_scaler, param_groups)
