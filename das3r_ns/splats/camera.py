"""Cameras as the rasteriser wants them.

A training step must not wait for the GPU. Nothing here copies to the device of the camera or from it, but the size of
its picture, and that only where the metadata do not name it (``size``, as the data manager does in training).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from nerfstudio.cameras.camera_optimizers import CameraOptimizer
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

SPLAT_VARIANCE = 0.3
"""What gsplat adds to the variance of every splat, in pixels squared, so that none falls between the pixels."""


def view_matrix(c2w_gl: Float[Tensor, "C 3 4"]) -> Float[Tensor, "C 4 4"]:
    """World-to-camera matrix, OpenCV axes, of a camera-to-world matrix with OpenGL axes.

    Differentiable. Rotations are inverted by transposition.
    """
    rotation = torch.cat([c2w_gl[:, :, :1], -c2w_gl[:, :, 1:3]], dim=2).transpose(1, 2)
    translation = -rotation @ c2w_gl[:, :, 3:]
    last = F.pad(c2w_gl.new_ones(len(c2w_gl), 1, 1), (3, 0))
    return torch.cat([torch.cat([rotation, translation], dim=2), last], dim=1)


def frames_of(camera: Cameras) -> slice | None:
    """Training frames that cameras are of, if the metadata name them (``cam_idx``: a number, or a slice of several)."""
    index = None if camera.metadata is None else camera.metadata.get("cam_idx")
    return index if index is None or isinstance(index, slice) else slice(index, index + 1)


def refined_c2w(optimizer: CameraOptimizer, camera: Cameras) -> Float[Tensor, "C 3 4"]:
    """Camera-to-world matrices (OpenGL), corrected if the metadata name the training frames.

    ``CameraOptimizer.apply_to_camera``, but for the index, which that copies to the device in every step.
    """
    frames, c2w = frames_of(camera), camera.camera_to_worlds
    if frames is None or optimizer.config.mode == "off":
        return c2w
    correction = optimizer(frames).to(c2w.device)  # pyright: ignore[reportArgumentType]
    rotation = torch.bmm(correction[..., :3], c2w[..., :3])
    return torch.cat([rotation, c2w[..., 3:] + correction[..., 3:]], dim=-1)


def scaled_intrinsics(camera: Cameras, factor: int) -> tuple[Float[Tensor, "1 3 3"], int, int]:
    """Intrinsics, width and height of a picture of which each pixel is the mean of ``factor`` x ``factor`` pixels."""
    k = torch.zeros(len(camera), 3, 3, device=camera.device)
    k[:, 0, :1], k[:, 0, 2:] = camera.fx, camera.cx
    k[:, 1, 1:2], k[:, 1, 2:] = camera.fy, camera.cy
    k[:, :2] /= factor
    k[:, 2, 2] = 1.0
    width, height = picture_size(camera)
    return k, width // factor, height // factor


def picture_size(camera: Cameras) -> tuple[int, int]:
    """Width and height of one camera's picture; the device is not asked where the metadata name them (``size``)."""
    if camera.metadata is not None and "size" in camera.metadata:
        return camera.metadata["size"]
    return int(camera.width.item()), int(camera.height.item())


def splat_variance(focal: float, trained_focal: float | None) -> float:
    """Variance in pixels squared to add to every splat of a picture.

    In a picture larger than those of the training :data:`SPLAT_VARIANCE` would cover less of the scene than the
    Gaussians were fitted with: fine ones turn into needles with gaps between them (Yu et al., "Mip-Splatting", CVPR
    2024, section 3). It grows with the picture, then.

    Args:
        focal: Of the picture, in its pixels.
        trained_focal: Of the training pictures, in theirs; None where it is not known.
    """
    return SPLAT_VARIANCE if trained_focal is None else SPLAT_VARIANCE * max(focal / trained_focal, 1.0) ** 2
