"""The frames of the video, as a viewer shows them beside the splats."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datasets.base_dataset import InputDataset
from torch import Tensor

from das3r_ns.splats.camera import scaled_intrinsics, view_matrix

_SAME_PLACE = 0.02
"""Distance of two places that count as one, in units of the distance of the scene."""


class ViewedModel(Protocol):
    """What the viewer asks of a model: :class:`das3r_ns.splats.model.Das3rModel`."""

    @property
    def device(self) -> torch.device: ...

    @property
    def means(self) -> Float[Tensor, "N 3"]: ...

    @property
    def staticness(self) -> Float[Tensor, "N 1"]: ...

    def view_matrix(self, camera: Cameras) -> Float[Tensor, "C 4 4"]: ...

    def given_static_weight(self, batch: Mapping[str, Any]) -> Float[Tensor, "H W 1"]: ...

    def evaluation_outputs(
        self, camera: Cameras, shown: Bool[Tensor, " N"] | None = None, raw: bool = False
    ) -> dict[str, Tensor]: ...


class Frames:
    """The training frames, as a viewer needs them: where they were taken, and what of them a camera sees.

    Args:
        model: Knows the refined poses.
        dataset: The training images.
    """

    def __init__(self, model: ViewedModel, dataset: InputDataset) -> None:
        self.model = model
        self.dataset = dataset
        self._latest: tuple[int, Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def camera(self, index: int) -> Cameras:
        """Camera of a frame, by whose metadata the model finds the pose it refined for it."""
        camera = self.dataset.cameras[index : index + 1].to(self.model.device)
        camera.metadata = {"cam_idx": index}
        return camera

    @cached_property
    def _all_cameras(self) -> Cameras:
        cameras = self.dataset.cameras.to(self.model.device)
        cameras.metadata = {"cam_idx": slice(0, len(self))}
        return cameras

    @torch.no_grad()
    def all_c2w_cv(self) -> Float[np.ndarray, "N 4 4"]:
        """:meth:`c2w_cv` of every frame, with a single wait for the device."""
        return np.linalg.inv(self.model.view_matrix(self._all_cameras).double().cpu().numpy())

    @torch.no_grad()
    def w2c_cv(self, index: int) -> Float[Tensor, "4 4"]:
        """Refined world-to-camera matrix of a frame, OpenCV axes."""
        return self.model.view_matrix(self.camera(index))[0]

    def c2w_cv(self, index: int) -> Float[np.ndarray, "4 4"]:
        """Refined camera-to-world matrix of a frame, OpenCV axes."""
        return np.linalg.inv(self.w2c_cv(index).double().cpu().numpy())

    @torch.no_grad()
    def distance(self, w2c_cv: Float[np.ndarray, "4 4"]) -> float:
        """Median distance of the Gaussians ahead of a camera, along its axis."""
        along = torch.from_numpy(w2c_cv[2]).to(self.model.means)
        ahead = self.model.means @ along[:3] + along[3]
        return float(ahead[ahead > 0].median()) if (ahead > 0).any() else 1.0

    def is_at(self, camera: Cameras, index: int) -> bool:
        """Whether a camera stands where a frame was taken, so nearly that the frame's pixels fit what it sees."""
        c2w_cv = self.c2w_cv(index)
        offset = np.linalg.norm(camera.camera_to_worlds[0, :, 3].cpu().numpy() - c2w_cv[:3, 3])
        return bool(offset < _SAME_PLACE * self.distance(np.linalg.inv(c2w_cv)))

    def picture(self, index: int) -> tuple[Float[Tensor, "H W 3"], Float[Tensor, "H W 1"]]:
        """A frame and its static weight; the last one asked for is kept."""
        latest = self._latest
        if latest is None or latest[0] != index:
            data = self.dataset[index]
            image = data["image"][..., :3].to(self.model.device)
            self._latest = latest = (index, image, self.model.given_static_weight(data))
        return latest[1:]

    @torch.no_grad()
    def seen_from(self, camera: Cameras, index: int) -> tuple[Float[Tensor, "H W 3"], Float[Tensor, "H W 1"], Tensor]:
        """A frame as a camera at the same place sees it, whichever way it looks and however far it is zoomed.

        From elsewhere the frame hangs at infinity: there is no true picture of it from there.

        Args:
            camera: One camera of the viewer.
            index: Number of the frame.

        Returns:
            The picture, its static weight, and where there is any of it, bool [H, W, 1].
        """
        image, weight = self.picture(index)
        k, width, height = scaled_intrinsics(camera, 1)
        frame_k = scaled_intrinsics(self.camera(index), 1)[0][0]
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        rays = torch.stack([x, y, torch.ones_like(x)], dim=-1).to(image) @ torch.linalg.inv(k[0]).T.to(image)
        turn = self.w2c_cv(index)[:3, :3] @ view_matrix(camera.camera_to_worlds)[0, :3, :3].T
        seen = rays @ turn.T @ frame_k.T.to(image)
        size = torch.tensor([image.shape[1], image.shape[0]]).to(image)
        grid = seen[..., :2] / seen[..., 2:].clamp_min(1e-6) / size * 2 - 1
        inside = (seen[..., 2:] > 0) & (grid.abs() <= 1).all(dim=-1, keepdim=True)
        sampled = F.grid_sample(
            torch.cat([image, weight], dim=-1).permute(2, 0, 1)[None],
            grid[None].clamp(-2, 2),
            padding_mode="border",
            align_corners=False,
        )[0].permute(1, 2, 0)
        return sampled[..., :3], sampled[..., 3:], inside
