"""Images with their soft static weight, and the data manager that feeds them to the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager, FullImageDatamanagerConfig
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.data.utils.dataloaders import FixedIndicesEvalDataloader
from torch import Tensor

from das3r_ns.data.dataparser import Das3rVideoDataParserConfig
from das3r_ns.scene.static_weight import read_static_weight


class StaticWeightDataset(InputDataset):
    """Adds ``static_weight``, uint8 [H, W, 1] (255 = static), to every image.

    Training images also get ``measured_depth`` [h, w, 2], float16 at the working resolution: the front end's depth in
    the unit of the scene, and its confidence.
    """

    def __init__(self, dataparser_outputs: DataparserOutputs, scale_factor: float = 1.0) -> None:
        super().__init__(dataparser_outputs, scale_factor)
        self.static_weight_filenames: list[Path] = self.metadata["static_weight_filenames"]

    def get_metadata(self, data: dict) -> dict:
        """What is added to the image in ``data``."""
        height, width = data["image"].shape[:2]
        index = data["image_idx"]
        weight = read_static_weight(self.static_weight_filenames[index], (width, height))
        # As images are kept: at the size of a phone's video four bytes a pixel would be more than all else together.
        added = {"static_weight": torch.from_numpy(np.rint(255 * weight).astype(np.uint8))[..., None]}
        if "measured_depth" in self.metadata:
            added["measured_depth"] = self.metadata["measured_depth"][index]
        return added


@dataclass
class Das3rDataManagerConfig(FullImageDatamanagerConfig):
    """Data manager of whole images with static weights."""

    _target: type = field(default_factory=lambda: Das3rDataManager)
    """target class to instantiate"""
    # One dataparser, not nerfstudio's choice of subcommands: its options are then part of `ns-train das3r --help`.
    dataparser: Das3rVideoDataParserConfig = field(default_factory=Das3rVideoDataParserConfig)  # pyright: ignore[reportIncompatibleVariableOverride]
    """The video and its front end."""


class _ForSpiral(VanillaDataManager[StaticWeightDataset]):
    """A VanillaDataManager by name: `ns-render spiral` asks for one, though all it takes is a camera."""

    def __init__(self) -> None:
        super(VanillaDataManager, self).__init__()

    @property
    def eval_dataloader(self) -> FixedIndicesEvalDataloader:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Where `ns-render spiral` takes its first camera from."""
        return FixedIndicesEvalDataloader(self.eval_dataset, device=self.device)


class Das3rDataManager(FullImageDatamanager[StaticWeightDataset], _ForSpiral):
    """Full images with static weights; opening a checkpoint never runs the front end."""

    config: Das3rDataManagerConfig

    def __init__(
        self,
        config: Das3rDataManagerConfig,
        device: torch.device | str = "cpu",
        test_mode: Literal["test", "val", "inference"] = "val",
        world_size: int = 1,
        local_rank: int = 0,
        **kwargs: object,
    ) -> None:
        # Only training uses "val"; ns-viewer, ns-eval, ns-export and ns-render must answer at once or say why not.
        config.dataparser.require_cache |= test_mode != "val"
        super().__init__(config, device, test_mode, world_size, local_rank, **kwargs)
        self.train_dataset.metadata["checkpoint_follows"] = test_mode != "val"

    def _load_images(
        self, split: Literal["train", "eval"], cache_images_device: Literal["cpu", "gpu"]
    ) -> list[dict[str, Tensor]]:
        if split == "eval" and self.config.dataparser.eval_split == "none":
            return self.cached_train  # the same pictures, which need not lie there twice
        # "cpu" (forced by nerfstudio above 500 images) pins memory, which needs an accelerator; "gpu" means our device.
        if not torch.cuda.is_available():
            cache_images_device = "gpu"
        loaded = super()._load_images(split, cache_images_device)
        for data in loaded:
            for name in data.keys() & {"static_weight", "measured_depth"}:
                data[name] = data[name].to(self.device) if cache_images_device == "gpu" else data[name].pin_memory()
        self.train_cameras = self.train_dataset.cameras.to(self.device)
        self._single_cameras = self._singly(self.train_cameras)
        return loaded

    def _singly(self, cameras: Cameras) -> list[Cameras]:
        """Each training camera by itself, made once: nerfstudio's indexing takes half a millisecond of every step.

        The metadata spare the model what it would have to ask the device for, or compute anew.
        """
        known = self.train_dataset.cameras  # sizes lie on the host
        k = cameras.get_intrinsics_matrices().to(cameras.device)  # nerfstudio makes them on the host
        singly = []
        for index in range(len(cameras)):
            camera = cameras[index : index + 1]
            size = int(known.width[index]), int(known.height[index])
            camera.metadata = {"cam_idx": index, "size": size, "intrinsics": k[index : index + 1]}
            singly.append(camera)
        return singly

    def next_train(self, step: int) -> tuple[Cameras, dict]:
        """The next training image with its camera, without a wait for the device."""
        del step
        index = self.train_unseen_cameras.pop(0)
        if not self.train_unseen_cameras:
            self.train_unseen_cameras = self.sample_train_cameras()
        data = dict(self.cached_train[index])
        for name in data.keys() & {"image", "static_weight", "measured_depth"}:
            data[name] = data[name].to(self.device, non_blocking=True)
        return self._single_cameras[index], data

    @property
    def fixed_indices_eval_dataloader(self) -> list[tuple[Cameras, dict]]:
        """All evaluation images with their cameras."""
        return [(self._as_trained(camera, data), data) for camera, data in super().fixed_indices_eval_dataloader]

    def next_eval_image(self, step: int) -> tuple[Cameras, dict]:
        """One evaluation image with its camera."""
        camera, data = super().next_eval_image(step)
        return self._as_trained(camera, data), data

    def _as_trained(self, camera: Cameras, data: dict) -> Cameras:
        # Without a split the evaluation images are the training images, whose poses have been refined: nerfstudio would
        # measure the misalignment of the original pose instead of the picture.
        if self.config.dataparser.eval_split == "none":
            camera.metadata = {"cam_idx": data["image_idx"]}
        else:  # a frame that was held out has the light of those beside it
            camera.metadata = {"frame": int(self.eval_dataset.metadata["frame_indices"][data["image_idx"]])}
        return camera
