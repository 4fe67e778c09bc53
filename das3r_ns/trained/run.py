"""Opens a trained run and renders its training views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import yaml
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.pipelines.base_pipeline import Pipeline
from nerfstudio.utils.eval_utils import eval_setup

from das3r_ns.errors import Das3rError
from das3r_ns.splats.trainer import KEPT


def open_run(config_path: Path) -> Pipeline:
    """Pipeline of a run with its latest checkpoint, ready to render.

    Args:
        config_path: The ``config.yml`` that ``ns-train`` wrote.

    The run may lie elsewhere than where it was trained, or its output folder be relative to another one: what lies
    beside the ``config.yml`` is taken then.

    Raises:
        Das3rError: There is no such file, it is no configuration, or its run has no checkpoint yet.
    """
    if not config_path.is_file():
        raise Das3rError(f"{config_path} is not a file. Name the config.yml of a run that ns-train finished.")

    def locate(config: TrainerConfig) -> TrainerConfig:
        if not config.get_checkpoint_dir().is_dir():
            config.output_dir = config_path.resolve().parents[3]
            parser = getattr(config.pipeline.datamanager, "dataparser", None)
            if parser is not None and hasattr(parser, "kept") and not parser.kept.is_dir():
                parser.kept = config.get_base_dir() / KEPT
        if not any(config.get_checkpoint_dir().glob("step-*.ckpt")):
            raise Das3rError(
                f"The run of {config_path} has no checkpoint in {config.get_checkpoint_dir()}. It ended before it "
                "saved one: train again."
            )
        return config

    try:
        return eval_setup(config_path, test_mode="inference", update_config_callback=locate)[1]
    except (yaml.YAMLError, UnicodeDecodeError, AssertionError) as error:
        raise Das3rError(
            f"{config_path} is no configuration of a run ({error or 'something else'}). Name the config.yml that "
            "ns-train wrote."
        ) from error


def training_images(pipeline: Pipeline) -> InputDataset:
    """The images, masks and cameras that a run is trained on."""
    dataset = pipeline.datamanager.train_dataset
    assert dataset is not None
    return dataset


def render_training_view(pipeline: Pipeline, index: int) -> dict[str, Float[np.ndarray, "H W C"]]:
    """Every output of the model at the camera of a training image, as float32 arrays.

    Args:
        pipeline: A das3r pipeline, trained or opened.
        index: Number of the training image.
    """
    camera = training_images(pipeline).cameras[index : index + 1]
    # What the data manager adds in training: by it the model finds the pose it refined for this image.
    camera.metadata = {"cam_idx": index}
    return render_camera(pipeline, camera)


@torch.no_grad()
def render_camera(pipeline: Pipeline, camera: Cameras) -> dict[str, Float[np.ndarray, "H W C"]]:
    """Every picture that the model makes of one camera, as float32 arrays."""
    pipeline.model.eval()
    outputs = pipeline.model.get_outputs_for_camera(camera.to(pipeline.device))
    return {key: value.float().cpu().numpy() for key, value in outputs.items() if value.ndim == 3}
