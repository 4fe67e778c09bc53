"""When Gaussians are added and removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from gsplat.strategy import DefaultStrategy
from gsplat.strategy.ops import remove
from jaxtyping import Bool
from torch import Tensor

from das3r_ns.splats.staticness import effective_opacity_logit


@dataclass
class StaticSceneStrategy(DefaultStrategy):
    """gsplat's densification, with pruning by *effective* opacity and by staticness.

    Differences from gsplat's DefaultStrategy:

    - A Gaussian is pruned for the opacity it is drawn with, not for the raw one: a mover whose staticness fell is gone.
    - Pruning does not stop with growth: staticness keeps falling, and what it leaves behind would reach the PLY.
    - Opacities are never reset. The reset exists to clear floaters out of a sparse, wrong initialisation over tens of
      thousands of steps; it costs some 500 steps of recovery, and for as long as it lasts every Gaussian looks
      contradicted, which would be read as evidence of motion.
    - Growth stops at a number of Gaussians, the strongest gradients first: time and memory are known beforehand.
    """

    grow: bool = True
    """Whether Gaussians are added at all."""
    max_gaussians: int = 1_000_000
    """No growth beyond this number."""
    prune_staticness: float = 0.0
    """Gaussians of lower staticness are removed; 0 keeps them."""
    prune_staticness_from: int = 0
    """Step from which on they are."""

    def step_post_backward(
        self,
        params: Any,
        optimizers: dict[str, torch.optim.Optimizer],
        state: dict[str, Any],
        step: int,
        info: dict[str, Any],
        packed: bool = False,
    ) -> None:
        """Grow and prune, every ``refine_every`` steps after ``refine_start_iter``; arguments as in gsplat."""
        growing = self.grow and step < self.refine_stop_iter
        if growing:
            self._update_state(params, state, info, packed=packed)
        if step <= self.refine_start_iter or step % self.refine_every != 0:
            return
        if growing:
            self._grow_gs(params, optimizers, state, step)
        self._prune_gs(params, optimizers, state, step)
        if growing:
            for name in ("grad2d", "count", "radii"):
                if state.get(name) is not None:
                    state[name].zero_()

    @torch.no_grad()
    def _update_state(self, params: Any, state: dict[str, Any], info: dict[str, Any], packed: bool = False) -> None:
        """Add up the gradients of the Gaussians seen, as gsplat does but for its selection, which waits for the GPU."""
        if packed or self.refine_scale2d_stop_iter > 0:
            super()._update_state(params, state, info, packed=packed)
            return
        means2d = info[self.key_for_gradient]
        gradient = (means2d.absgrad if self.absgrad else means2d.grad).clone()
        gradient[..., 0] *= info["width"] / 2.0 * info["n_cameras"]
        gradient[..., 1] *= info["height"] / 2.0 * info["n_cameras"]
        seen = info["radii"] > 0
        size = torch.where(seen, gradient.norm(dim=-1), 0.0).sum(dim=0)
        for name, added in (("grad2d", size), ("count", seen.sum(dim=0))):
            state[name] = added.float() if state[name] is None else state[name].add_(added)

    @torch.no_grad()
    def _grow_gs(
        self, params: Any, optimizers: dict[str, torch.optim.Optimizer], state: dict[str, Any], step: int
    ) -> tuple[int, int]:
        room = self.max_gaussians - len(params["means"])
        if room <= 0:
            return 0, 0
        # Splitting and duplicating both add one Gaussian for each chosen.
        gradient = state["grad2d"] / state["count"].clamp_min(1)
        if int((gradient > self.grow_grad2d).sum()) > room:
            state["grad2d"] = torch.where(gradient >= gradient.topk(room).values[-1], state["grad2d"], 0.0)
        return super()._grow_gs(params, optimizers, state, step)

    @torch.no_grad()
    def _prune_gs(
        self, params: Any, optimizers: dict[str, torch.optim.Optimizer], state: dict[str, Any], step: int
    ) -> int:
        doomed = self.doomed(params, state, step)
        count = int(doomed.sum())
        # An empty scene can neither be rendered nor exported.
        if 0 < count < len(doomed):
            remove(params=params, optimizers=optimizers, state=state, mask=doomed)
        return count

    def doomed(self, params: Any, state: dict[str, Any], step: int) -> Bool[Tensor, " N"]:
        """Gaussians to remove at this step: transparent, moving, or too large.

        Args:
            params: The Gaussians' parameters.
            state: Holds ``scene_scale``.
            step: Training step.
        """
        opacity = torch.sigmoid(effective_opacity_logit(params["opacities"], params["staticness"])).flatten()
        doomed = opacity < self.prune_opa
        if self.prune_staticness > 0 and step >= self.prune_staticness_from:
            doomed |= torch.sigmoid(params["staticness"]).flatten() < self.prune_staticness
        # Far away (sky, hills) large Gaussians are right: their size is judged by their distance.
        distance = params["means"].norm(dim=-1).clamp_min(state["scene_scale"])
        return doomed | (params["scales"].amax(dim=-1).exp() > self.prune_scale3d * distance)
