"""The baseline: nerfstudio's own splatfacto, as it is, on das3r's cameras and without its masks.

Only the environment is changed, and only in the process of the measurement: das3r's rasteriser, which is gsplat's where
there is CUDA, and stand-ins for what splatfacto cannot do without CUDA or a network.
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass, field
from typing import Any

import torch
import torchmetrics.image.lpip
from nerfstudio.configs.method_configs import method_configs
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.models import splatfacto
from nerfstudio.pipelines.base_pipeline import VanillaPipelineConfig
from torch import Tensor, nn

from das3r_ns.camera import view_matrix
from das3r_ns.dataparser import Das3rVideoDataParser, Das3rVideoDataParserConfig
from das3r_ns.dataset import Das3rDataManagerConfig
from das3r_ns.presets import trainer_config
from das3r_ns.rasterization import rasterization

SHARED = ("num_downscales", "sh_degree", "sh_degree_interval", "warmup_length", "refine_every", "stop_split_at")
"""Fields in which the baseline follows das3r, so that both have the same resolution, colours and time to densify.
Splatfacto's defaults are made for 30,000 iterations: at 2,500 it would still train at a quarter of the resolution."""


@dataclass
class MasklessConfig(Das3rVideoDataParserConfig):
    """das3r's cameras and seeds, those on movers too, without its masks."""

    _target: type = field(default_factory=lambda: MasklessDataParser)


class MasklessDataParser(Das3rVideoDataParser):
    """Leaves the masks out."""

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs: Any) -> DataparserOutputs:
        outputs = super()._generate_dataparser_outputs(split, **kwargs)
        return dataclasses.replace(outputs, mask_filenames=None)


class NoMetric(nn.Module):
    """Stands in for LPIPS, whose constructor downloads weights and which is not measured here."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__()


def allow_without_cuda() -> None:
    """Let splatfacto run in this process on the device there is."""
    splatfacto.rasterization = rasterization  # pyright: ignore[reportPrivateImportUsage]
    splatfacto.get_viewmat = view_matrix
    torchmetrics.image.lpip.LearnedPerceptualImagePatchSimilarity = NoMetric
    if not torch.cuda.is_available():
        Tensor.cuda = lambda self, *args, **kwargs: self


def plain_config(name: str) -> TrainerConfig:
    """Configuration of plain splatfacto in step with the preset ``name``.

    Args:
        name: ``das3r`` or ``das3r-light``: gives iterations, resolution, number of seeds and SHARED.
    """
    allow_without_cuda()
    preset = trainer_config(name)
    pipeline = preset.pipeline
    assert isinstance(pipeline, VanillaPipelineConfig) and isinstance(pipeline.datamanager, Das3rDataManagerConfig)
    parser = pipeline.datamanager.dataparser
    settings = {f.name: getattr(parser, f.name) for f in dataclasses.fields(parser) if f.name != "_target"}
    parser = MasklessConfig(**{**settings, "keep_dynamic_points": True})
    original = method_configs["splatfacto"]
    assert isinstance(original, TrainerConfig)
    model = splatfacto.SplatfactoModelConfig(**{name: getattr(pipeline.model, name) for name in SHARED})
    return TrainerConfig(
        method_name="splatfacto",
        max_num_iterations=preset.max_num_iterations,
        steps_per_eval_batch=0,
        steps_per_eval_image=0,
        steps_per_eval_all_images=0,
        mixed_precision=False,
        machine=preset.machine,
        pipeline=VanillaPipelineConfig(
            datamanager=dataclasses.replace(pipeline.datamanager, dataparser=parser), model=model
        ),
        optimizers=_decaying_over(preset.max_num_iterations, original.optimizers),
    )


def _decaying_over(iterations: int, groups: dict[str, Any]) -> dict[str, Any]:
    """The same optimizers with learning rates that reach their end when the run does."""
    groups = copy.deepcopy(groups)
    for group in groups.values():
        if group["scheduler"] is not None:
            group["scheduler"].max_steps = iterations
    return groups
