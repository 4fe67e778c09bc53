"""Cameras as the rasteriser wants them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

SPLAT_VARIANCE = 0.3
"""What gsplat adds to the variance of every splat, in pixels squared, so that none falls between the pixels."""


def view_matrix(c2w_gl: Float[Tensor, "C 3 4"]) -> Float[Tensor, "C 4 4"]:
    """World-to-camera matrix, OpenCV axes, of a camera-to-world matrix with OpenGL axes.

    Differentiable. Rotations are inverted by transposition.
    """
    flip = c2w_gl.new_tensor([1.0, -1.0, -1.0])
    rotation = (c2w_gl[:, :, :3] * flip).transpose(1, 2)
    translation = -rotation @ c2w_gl[:, :, 3:]
    last = c2w_gl.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(c2w_gl), 1, 4)
    return torch.cat([torch.cat([rotation, translation], dim=2), last], dim=1)


def scaled_intrinsics(camera: Cameras, factor: int) -> tuple[Float[Tensor, "1 3 3"], int, int]:
    """Intrinsics, width and height of a picture of which each pixel is the mean of ``factor`` x ``factor`` pixels."""
    k = camera.get_intrinsics_matrices()[:, :3, :3].clone()
    k[:, :2] /= factor
    return k, int(camera.width.item()) // factor, int(camera.height.item()) // factor


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
