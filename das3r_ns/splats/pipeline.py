"""nerfstudio's pipeline, whose evaluation knows what training corrected round a held-out frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.pipelines.base_pipeline import VanillaPipeline

from das3r_ns.splats.held_out_cameras import corrected_poses

CORRECTED = "corrected"
"""Part of the names of what is measured with corrected cameras."""
SPEED = ("num_rays_per_sec", "fps")
"""What nerfstudio measures besides, which has nothing to do with the cameras."""


class Das3rPipeline(VanillaPipeline):
    """Pipeline that evaluates held-out frames with two cameras each: as the front end gave it, and corrected."""

    def get_average_eval_image_metrics(
        self, step: int | None = None, output_path: Path | None = None, get_std: bool = False
    ) -> dict[str, float]:
        """Mean metrics of the evaluation images; what `ns-eval` writes.

        Where frames are held out, every metric is there once by the cameras as the front end gave them (``psnr``, as
        any method of nerfstudio's has it), and once with the corrections of the training frames beside them
        (``psnr_corrected``): `das3r bench` measures by those. Without a split the frames are those of the training,
        with their own corrections, and there is nothing else to measure.

        Args:
            step: Of the training, if it runs.
            output_path: Where pictures go, if anywhere: ``eval_img_0000.png``, ``corrected_img_0000.png``, ...
            get_std: Whether standard deviations are wanted too (``psnr_std``, ``psnr_corrected_std``).
        """
        metrics: dict[str, float] = super().get_average_eval_image_metrics(step, output_path, get_std)
        train_set, eval_set = self.datamanager.train_dataset, self.datamanager.eval_dataset
        assert train_set is not None and eval_set is not None
        if torch.isin(eval_set.metadata["frame_indices"], train_set.metadata["frame_indices"]).any():
            return metrics
        corrected = self.get_average_image_metrics(self._corrected(), CORRECTED, step, output_path, get_std)
        return metrics | {_named(name): value for name, value in corrected.items() if not name.startswith(SPEED)}

    def _corrected(self) -> list[tuple[Cameras, dict[str, Any]]]:
        """The evaluation images with their cameras where the correction of those beside them puts them."""
        manager = self.datamanager
        poses = corrected_poses(self.model, manager.train_dataset, manager.eval_dataset)  # pyright: ignore[reportArgumentType]
        images: Any = manager.fixed_indices_eval_dataloader  # pyright: ignore[reportAttributeAccessIssue]
        for camera, data in images:
            index = data["image_idx"]
            camera.camera_to_worlds = torch.from_numpy(poses[index : index + 1]).to(camera.camera_to_worlds)
        return images


def _named(metric: str) -> str:
    name = metric.removesuffix("_std")
    return f"{name}_{CORRECTED}{metric[len(name) :]}"
