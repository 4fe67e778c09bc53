"""``das3r-paper``: the Gaussian stage of DAS3R (Xu et al. 2024), as published, for comparison.

One Gaussian per confident pixel of every training frame; a staticness per *pixel*, tied to the Gaussian born there and
used both in its opacity and as a multiplier of render and frame in the loss; no densification, pruning or reset; poses
refined as world-to-camera quaternion and translation while the frame's PSNR is above 26 dB.

What differs, and why:

- The staticness is unbounded in the paper too, but the effective opacity is clamped to (0, 1) before it is drawn or
  turned into a logit, where anything else would be NaN. Its gradient is cut there.
- Spherical harmonics are evaluated in the world frame. The official code moves the Gaussians into the camera frame
  first, so that its colours turn with the camera and its PLY shows others in a viewer; only the last quarter of the
  run, when degree 1 is on, can tell.
- The seeds lie at pixel centres; the official unprojection is half a pixel off against its own rasteriser.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from gsplat.utils import normalized_quat_to_rotmat
from jaxtyping import Float, Int
from nerfstudio.cameras.cameras import Cameras
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from das3r_ns.errors import Das3rExit
from das3r_ns.scene.static_weight import read_static_weight
from das3r_ns.splats.camera import frames_of
from das3r_ns.splats.config import PaperModelConfig
from das3r_ns.splats.density import StaticSceneStrategy
from das3r_ns.splats.losses import paper_loss, paper_psnr
from das3r_ns.splats.model import Das3rModel

_OPACITY_BOUND = 1e-6


class PaperModel(Das3rModel):
    """Gaussians with tied per-pixel staticness (``static_maps`` [N, H, W], raw values, no sigmoid)."""

    config: PaperModelConfig
    birth: Int[Tensor, " N"]
    """Of each Gaussian, the pixel it was born at: index into the flattened ``static_maps``."""

    def populate_modules(self) -> None:
        """Build one Gaussian per seed, the static maps and the pose corrections.

        Raises:
            Das3rExit: The data parser did not seed per pixel.
        """
        metadata: Mapping[str, Any] = self.kwargs.get("metadata") or {}
        pixel = metadata.get("points3D_pixel")
        if pixel is None or self.seed_points is None:
            raise Das3rExit(
                "das3r-paper needs one seed point per pixel, and this data has none. Train it on a video with the "
                "das3r-video data parser and --pipeline.datamanager.dataparser.seeds paper."
            )
        if metadata.get("enlarged", 1.0) != 1.0:
            raise Das3rExit(
                "das3r-paper ties a Gaussian to every pixel of the front end, and so trains at its size: leave the "
                "data parser's train-size at 'working'."
            )
        super().populate_modules()
        self.static_maps = nn.Parameter(
            torch.from_numpy(np.stack([read_static_weight(name) for name in metadata["static_weight_filenames"]]))
        )
        # Follows the model to its device; the checkpoint need not hold it.
        self.register_buffer("birth", _birth_index(pixel, self.static_maps.shape), persistent=False)
        if self.config.refine_poses:
            # Corrections to quaternion and translation: under Adam the same as optimising the values themselves.
            self.pose_quat = nn.Parameter(torch.zeros(self.num_train_data, 4))
            self.pose_trans = nn.Parameter(torch.zeros(self.num_train_data, 3))

    def initial_opacities(self, count: int, staticness: Float[Tensor, "N 1"] | None) -> dict[str, Tensor]:
        """Raw opacity logits: 1 / (number of training frames) for all."""
        del staticness  # it lives in static_maps
        return {"opacities": torch.logit(torch.full((count, 1), 1.0 / self.num_train_data), eps=_OPACITY_BOUND)}

    def build_strategy(self) -> StaticSceneStrategy:
        """A strategy that never acts."""
        return replace(super().build_strategy(), grow=False, refine_start_iter=sys.maxsize)

    @property
    def staticness(self) -> Float[Tensor, "N 1"]:
        """Raw staticness of the pixel each Gaussian was born at; may leave [0, 1]."""
        return self.static_maps.flatten()[self.birth][:, None]

    def effective_opacity(self) -> Float[Tensor, "N 1"]:
        """sigmoid(opacity) * staticness, clamped to what can be drawn."""
        effective = torch.sigmoid(self.gauss_params["opacities"]) * self.staticness
        return effective.clamp(_OPACITY_BOUND, 1 - _OPACITY_BOUND)

    @property
    def opacities(self) -> Float[Tensor, "N 1"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Logit of sigmoid(opacity) * staticness."""
        return torch.logit(self.effective_opacity())

    def get_param_groups(self) -> dict[str, list[nn.Parameter]]:
        """Splatfacto's groups, ``static_maps`` and, with pose refinement, ``camera_opt``."""
        groups = super().get_param_groups()
        groups["static_maps"] = [self.static_maps]
        if self.config.refine_poses:
            groups["camera_opt"] = [self.pose_quat, self.pose_trans]
        return groups

    def position_scale(self, cameras: Cameras) -> float:
        """DAS3R's extent: 1.1 times the largest distance of a training camera from their mean."""
        centres = cameras.camera_to_worlds[..., 3]
        extent = 1.1 * float((centres - centres.mean(dim=0)).norm(dim=-1).max())
        # On a tripod the extent is 0 and the official code never moves a Gaussian.
        return extent if extent > 1e-6 else self.scene_scale

    def view_matrix(self, camera: Cameras) -> Float[Tensor, "C 4 4"]:
        """World-to-camera matrix, refined for training frames."""
        matrix, frames = super().view_matrix(camera), frames_of(camera)
        if frames is None or not self.config.refine_poses:
            return matrix
        quat = matrix_to_quaternion(matrix[:, :3, :3]) + self.pose_quat[frames]
        rotation = normalized_quat_to_rotmat(F.normalize(quat, dim=-1))
        translation = matrix[:, :3, 3:] + self.pose_trans[frames][..., None]
        return torch.cat([torch.cat([rotation, translation], dim=2), matrix[:, 3:]], dim=1)

    def static_weight(self, batch: Mapping[str, Any]) -> Float[Tensor, "H W 1"]:
        """The learnt map of a training frame; the given one of an evaluation frame."""
        if not self.training:
            return super().static_weight(batch)
        return self._downscale_if_required(self.static_maps[batch["image_idx"]][..., None])

    def get_metrics_dict(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> dict[str, Any]:
        """As in das3r, with the PSNR that gates the poses in the paper."""
        with torch.no_grad():
            metrics = super().get_metrics_dict(outputs, batch)
            psnr = paper_psnr(outputs["rgb"], self.get_gt_img(batch["image"]), self.static_weight(batch))
        if self.training:
            self.static_psnr = psnr
        return metrics | {"psnr": psnr}

    def get_loss_dict(
        self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any], metrics_dict: Any = None
    ) -> dict[str, Tensor]:
        """The paper's loss, averaged over the picture."""
        del metrics_dict
        target = self.get_gt_img(batch["image"])
        return {"main_loss": paper_loss(outputs["rgb"], target, self.static_weight(batch), self.config.ssim_lambda)}


def _birth_index(pixel: Int[Tensor, "M 3"], shape: torch.Size) -> Int[Tensor, " M"]:
    """Index into the flattened maps of each seed's (frame, row, column).

    Raises:
        Das3rExit: The maps have another size than the frames the seeds come from.
    """
    frame, row, column = pixel.long().unbind(dim=1)
    if any(int(index.max()) >= size for index, size in zip((frame, row, column), shape, strict=True)):
        raise Das3rExit(
            f"The seeds' pixels do not lie inside the {tuple(shape)} static maps (frames, rows, columns). das3r-paper "
            "trains at the size of the front end: leave the data parser's train-size at 'working'."
        )
    return (frame * shape[1] + row) * shape[2] + column


def matrix_to_quaternion(rotation: Float[Tensor, "*C 3 3"]) -> Float[Tensor, "*C 4"]:
    """Unit quaternion (w, x, y, z) of a rotation matrix, by way of scipy: poses are data here, without a gradient."""
    xyzw = Rotation.from_matrix(rotation.detach().double().cpu().numpy()).as_quat()
    return torch.from_numpy(np.roll(xyzw, 1, axis=-1)).to(rotation)
