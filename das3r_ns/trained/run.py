"""Opens a trained run and renders its training views."""

from __future__ import annotations

import zipfile
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

    The run may lie elsewhere than where it was trained, under any name: what lies beside the ``config.yml`` is taken,
    and only where nothing does what lies where it was trained.

    Args:
        config_path: The ``config.yml`` that ``ns-train`` wrote.

    Raises:
        Das3rError: There is no such file, it is no configuration, or its run has no checkpoint yet or a damaged one.
    """
    if not config_path.is_file():
        raise Das3rError(f"{config_path} is not a file. Name the config.yml of a run that ns-train finished.")

    def locate(config: TrainerConfig) -> TrainerConfig:
        run = config_path.resolve().parent
        if (run / config.relative_model_dir).is_dir():
            config.relative_model_dir = run / config.relative_model_dir  # being absolute, wherever the run was trained
        parser = getattr(config.pipeline.datamanager, "dataparser", None)
        if hasattr(parser, "kept") and (run / KEPT).is_dir():
            parser.kept = run / KEPT  # pyright: ignore[reportOptionalMemberAccess]
        checkpoints = sorted(config.get_checkpoint_dir().glob("step-*.ckpt"))
        if not checkpoints:
            raise Das3rError(
                f"The run of {config_path} has no checkpoint in {config.get_checkpoint_dir()}. It ended before it "
                "saved one: train again. If it was moved, move its whole folder."
            )
        if not zipfile.is_zipfile(checkpoints[-1]):  # as which torch writes them
            raise Das3rError(
                f"The checkpoint {checkpoints[-1]} is damaged or cut off. Copy it anew, or delete it where an earlier "
                "one lies beside it; else train again."
            )
        # Else nerfstudio takes that which a resumed training began with, or stumbles over any other file there.
        config.load_step = int(checkpoints[-1].stem.removeprefix("step-"))
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
