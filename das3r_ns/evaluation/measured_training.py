"""Trains a configuration in this process, to be measured."""

from __future__ import annotations

import torch
from nerfstudio.configs.base_config import LocalWriterConfig
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.pipelines.base_pipeline import Pipeline

from das3r_ns.evaluation.cost import Cost
from das3r_ns.rasterization.cpu_settings import cpu_settings


def train(config: TrainerConfig) -> tuple[Pipeline, dict[str, float]]:
    """Train without a viewer, evaluations or a word.

    Args:
        config: With its data and output folder; changed in place.

    Returns:
        The trained pipeline, and what the iterations alone have used.
    """
    config.timestamp = "run"
    config.vis = "tensorboard"
    config.logging.local_writer = LocalWriterConfig(enable=False)
    config.logging.profiler = "none"
    config.steps_per_eval_batch = config.steps_per_eval_image = config.steps_per_eval_all_images = 0
    config.steps_per_save = config.max_num_iterations
    torch.manual_seed(0)
    config.save_config()
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    cost = Cost()
    if trainer.device == "cpu":
        # das3r's trainer does so by itself; baselines shall not be slower for another reason than their own.
        with cpu_settings():
            trainer.train()
    else:
        trainer.train()
    return trainer.pipeline, cost.so_far()
