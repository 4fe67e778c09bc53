"""What das3r is compared with: nerfstudio's own splatfacto on das3r's cameras, plain, masked, and with a robust loss.

The models are splatfacto's as they are. Only the environment is changed, and only while a measurement runs
(:func:`splatfacto_anywhere`): das3r's rasteriser, which is gsplat's where its kernels are, and stand-ins for what
splatfacto cannot do without CUDA or a network.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from unittest import mock

import torch
import torch.nn.functional as F
import torchmetrics.image.lpip
from jaxtyping import Bool, Float
from nerfstudio.configs.method_configs import method_configs
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.models import splatfacto
from nerfstudio.models.splatfacto import SplatfactoModel, SplatfactoModelConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipelineConfig
from torch import Tensor, nn

from das3r_ns.data.dataset import Das3rDataManagerConfig
from das3r_ns.evaluation.bench_data import BenchDataParserConfig
from das3r_ns.presets import trainer_config
from das3r_ns.rasterization import rasterization
from das3r_ns.rasterization.backend import expected_obstacle
from das3r_ns.splats.camera import view_matrix

Baseline = Literal["splatfacto", "splatfacto-masks", "robust"]

SHARED = (
    *("num_downscales", "resolution_schedule", "sh_degree", "sh_degree_interval"),
    *("warmup_length", "refine_every", "stop_split_at"),
)
"""Fields in which the baseline follows das3r, so that both have the same resolution, colours and time to densify.
Splatfacto's defaults are made for 30,000 iterations: at 2,500 it would still train at a quarter of the resolution."""

SMOOTHED_VOTE, PATCH_VOTE = 0.5, 0.6
"""Shares of inliers above which the middle of 3 x 3 pixels, and of 16 x 16, becomes one too (RobustNeRF)."""
PATCH, SURROUNDINGS = 8, 16
"""Side of a patch and of the surroundings that vote on it, pixels (RobustNeRF)."""
MEMORY = 0.95
"""Share of the running threshold that is kept in each step: one picture a step is less than RobustNeRF's batch, which
takes its rays from all of them."""


@dataclass
class RobustSplatfactoModelConfig(SplatfactoModelConfig):
    """Splatfacto that leaves out what it cannot explain."""

    _target: type = field(default_factory=lambda: RobustSplatfactoModel)
    """target class to instantiate"""
    inlier_quantile: float = 0.5
    """Share of the pixels that are trusted however badly they fit."""


class RobustSplatfactoModel(SplatfactoModel):
    """Splatfacto with the trimmed residuals of RobustNeRF (Sabour et al., CVPR 2023) in place of masks."""

    config: RobustSplatfactoModelConfig

    def populate_modules(self) -> None:
        """Splatfacto's, and no threshold yet."""
        super().populate_modules()
        self.threshold: Tensor | None = None

    def get_loss_dict(
        self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any], metrics_dict: Any = None
    ) -> dict[str, Tensor]:
        """Splatfacto's loss under the mask of what fits."""
        if not self.training:
            return super().get_loss_dict(outputs, batch, metrics_dict)  # pyright: ignore[reportArgumentType]
        target = self.composite_with_background(self.get_gt_img(batch["image"]), outputs["background"])
        with torch.no_grad():
            residual = (outputs["rgb"] - target).square().mean(dim=-1)
            quantile = residual.flatten().kthvalue(max(1, int(self.config.inlier_quantile * residual.numel()))).values
            self.threshold = quantile if self.threshold is None else torch.lerp(quantile, self.threshold, MEMORY)
            mask = robust_mask(residual, self.threshold)
            size = batch["image"].shape[:2]  # splatfacto shrinks the mask itself while it trains at a lower resolution
            mask = F.interpolate(mask[None, None].float(), size=size, mode="nearest")[0, 0, :, :, None]
        return super().get_loss_dict(outputs, {**batch, "mask": mask}, metrics_dict)  # pyright: ignore[reportArgumentType]


def robust_mask(residual: Float[Tensor, "H W"], threshold: Float[Tensor, ""] | float) -> Bool[Tensor, "H W"]:
    """Pixels that train, by RobustNeRF (section 4): those that fit, are surrounded by such, or lie in a patch of such.

    A pixel is an inlier if its residual is at most ``threshold``. Where more than half of its 3 x 3 neighbourhood are
    inliers it becomes one (fine structure that is not yet learnt is thin, what moves is not), and so does each patch of
    8 x 8 where more than 0.6 of the 16 x 16 pixels round it are.
    """
    inlier = (residual <= threshold).float()[None, None]
    smoothed = F.avg_pool2d(inlier, 3, stride=1, padding=1, count_include_pad=False) > SMOOTHED_VOTE
    margin = (SURROUNDINGS - PATCH) // 2
    height, width = residual.shape
    # Whole patches only; what is left over at the right and at the bottom goes with the last ones.
    votes = F.avg_pool2d(inlier, SURROUNDINGS, stride=PATCH, padding=margin, ceil_mode=True, count_include_pad=False)
    patches = F.interpolate((votes > PATCH_VOTE).float(), scale_factor=PATCH, mode="nearest")[..., :height, :width]
    rest = (0, width - patches.shape[-1], 0, height - patches.shape[-2])
    patches = F.pad(patches, rest, mode="replicate") > 0
    return ((inlier > 0) | smoothed | patches)[0, 0]


class _NoMetric(nn.Module):
    """Stands in for LPIPS, whose constructor downloads weights; the benchmark measures it itself."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__()


@contextmanager
def splatfacto_anywhere() -> Iterator[None]:
    """Let splatfacto run on the device there is while the block lasts."""
    patches = [
        mock.patch.object(splatfacto, "rasterization", rasterization),
        mock.patch.object(splatfacto, "get_viewmat", view_matrix),
        mock.patch.object(torchmetrics.image.lpip, "LearnedPerceptualImagePatchSimilarity", _NoMetric),
    ]
    if expected_obstacle() is not None:  # the baselines train where das3r's default machine does: on the CPU
        patches.append(mock.patch.object(Tensor, "cuda", lambda self, *args, **kwargs: self))
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in reversed(patches):
            patch.stop()


def baseline_config(baseline: Baseline, preset: str, iterations: int | None = None) -> TrainerConfig:
    """Configuration of a baseline in step with a preset of das3r; train and render it in splatfacto_anywhere().

    Args:
        baseline: ``splatfacto`` trains on every pixel; ``splatfacto-masks`` leaves out what das3r's front end found to
            move, by splatfacto's own hard masks; ``robust`` has no masks but :class:`RobustSplatfactoModel`'s loss.
        preset: ``das3r`` or ``das3r-light``: gives resolution, number of seeds, SHARED and, unless named, the
            iterations.
        iterations: Length of the run.
    """
    followed = trainer_config(preset)
    iterations = iterations or followed.max_num_iterations
    pipeline = followed.pipeline
    assert isinstance(pipeline, VanillaPipelineConfig) and isinstance(pipeline.datamanager, Das3rDataManagerConfig)
    masked = baseline == "splatfacto-masks"
    # Without masks nothing tells a point that others contradict from one on a mover, so both are seeds.
    parser = BenchDataParserConfig.like(
        pipeline.datamanager.dataparser, use_masks=masked, keep_dynamic_points=not masked
    )
    original = method_configs["splatfacto"]
    assert isinstance(original, TrainerConfig)
    kind = RobustSplatfactoModelConfig if baseline == "robust" else SplatfactoModelConfig
    return TrainerConfig(
        method_name=baseline,
        max_num_iterations=iterations,
        steps_per_eval_batch=0,
        steps_per_eval_image=0,
        steps_per_eval_all_images=0,
        mixed_precision=False,
        machine=followed.machine,
        pipeline=VanillaPipelineConfig(
            datamanager=dataclasses.replace(pipeline.datamanager, dataparser=parser),
            model=kind(**{name: getattr(pipeline.model, name) for name in SHARED}),
        ),
        optimizers=_decaying_over(iterations, original.optimizers),
    )


def _decaying_over(iterations: int, groups: dict[str, Any]) -> dict[str, Any]:
    """The same optimizers with learning rates that reach their end when the run does."""
    groups = copy.deepcopy(groups)
    for group in groups.values():
        if group["scheduler"] is not None:
            group["scheduler"].max_steps = iterations
    return groups
