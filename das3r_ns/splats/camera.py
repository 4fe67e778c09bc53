"""Cameras as the rasteriser wants them.

A training step must not wait for the GPU. Nothing here copies to the device of the camera or from it, but the size of
its picture, and that only where the metadata do not name it (``size``, as the data manager does in training, which
also names the ``intrinsics``).
"""

from __future__ import annotations

import functools
import math

import torch
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
    flip, last = _constants(c2w_gl.device, c2w_gl.dtype)[2:]
    rotation, centre = c2w_gl.split((3, 1), dim=2)
    rotation = (rotation * flip).transpose(1, 2)
    translation = -rotation @ centre
    return torch.cat([torch.cat([rotation, translation], dim=2), last.expand(len(c2w_gl), 1, 4)], dim=1)


def frames_of(camera: Cameras) -> slice | None:
    """Training frames that cameras are of, if the metadata name them (``cam_idx``: a number, or a slice of several)."""
    index = None if camera.metadata is None else camera.metadata.get("cam_idx")
    return index if index is None or isinstance(index, slice) else slice(index, index + 1)


def refined_c2w(optimizer: CameraOptimizer, camera: Cameras) -> Float[Tensor, "C 3 4"]:
    """Camera-to-world matrices (OpenGL), corrected if the metadata name the training frames.

    ``CameraOptimizer.apply_to_camera``, but for the index, which that copies to the device in every step, and for its
    many small operations (see :func:`rotations`).
    """
    frames, c2w = frames_of(camera), camera.camera_to_worlds
    if frames is None or optimizer.config.mode == "off":
        return c2w
    if optimizer.config.mode == "SO3xR3" and optimizer.non_trainable_camera_indices is None:
        shift, turn = optimizer.pose_adjustment[frames].to(c2w.device).split(3, dim=-1)
        rotation, translation = rotations(turn), shift[..., None]
    else:
        rotation, translation = optimizer(frames).to(c2w.device).split((3, 1), dim=-1)  # pyright: ignore[reportArgumentType]
    return torch.cat([torch.bmm(rotation, c2w[..., :3]), c2w[..., 3:] + translation], dim=-1)


@torch.no_grad()
def keep_world(optimizer: CameraOptimizer) -> None:
    """Take off what the corrections of all cameras have in common.

    Cameras and scene that move together look the same, so nothing else holds them where the front end has put the
    world, in which its depth and the cameras of held-out frames are.
    """
    if optimizer.config.mode == "SO3xR3":
        optimizer.pose_adjustment.sub_(optimizer.pose_adjustment.mean(dim=0))


def rotations(vectors: Float[Tensor, "C 3"]) -> Float[Tensor, "C 3 3"]:
    """Rotation matrices of rotation vectors (axis times angle in radians). Differentiable once.

    What nerfstudio's ``exp_map_SO3xR3`` computes in thirty operations and a hundred more for the gradient: with so few
    numbers a GPU waits for each of them to be launched.
    """
    return _Rotations.apply(vectors)  # type: ignore[return-value]


class _Rotations(torch.autograd.Function):
    """Rodrigues' formula; its gradient by the left Jacobian (Sola et al., "A micro Lie theory", 2018, eq. 145)."""

    @staticmethod
    def forward(ctx, vectors):
        identity, generators = _constants(vectors.device, vectors.dtype)[:2]
        skew = (vectors @ generators).view(-1, 3, 3)
        square = skew @ skew
        angle = vectors.norm(dim=-1)[:, None, None]
        first, second = torch.sinc(angle / math.pi), 0.5 * torch.sinc(angle / (2 * math.pi)).square()
        matrices = identity + first * skew + second * square
        ctx.save_for_backward(matrices, skew, square, angle, first, second)
        return matrices

    @staticmethod
    def backward(ctx, *grad_outputs):
        matrices, skew, square, angle, first, second = ctx.saved_tensors
        identity, generators = _constants(matrices.device, matrices.dtype)[:2]
        # d matrices = [jacobian @ d vector]x matrices, and the square takes up what the angle's square divides by.
        third = (1 - first) / angle.square().clamp_min(1e-12)
        jacobian = identity + second * skew + third * square
        turn = (grad_outputs[0] @ matrices.mT).view(-1, 1, 9) @ generators.T
        return (turn @ jacobian)[:, 0]


@functools.cache
def _constants(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """On the device: identity, generators of rotations [3, 9], OpenGL's axes by OpenCV's, the last row of a pose."""
    identity = torch.eye(3, dtype=dtype)
    generators = -torch.linalg.cross(identity[:, None].expand(3, 3, 3), identity.expand(3, 3, 3)).reshape(3, 9)
    flip, last = torch.tensor([1.0, -1.0, -1.0], dtype=dtype), torch.tensor([[[0.0, 0.0, 0.0, 1.0]]], dtype=dtype)
    return identity.to(device), generators.to(device), flip.to(device), last.to(device)


@functools.cache
def _shrinking(factor: int, device: torch.device) -> Float[Tensor, "3 1"]:
    """What intrinsics are multiplied by where pixels are put together."""
    return torch.tensor([[1 / factor], [1 / factor], [1.0]]).to(device)


def scaled_intrinsics(camera: Cameras, factor: int) -> tuple[Float[Tensor, "1 3 3"], int, int]:
    """Intrinsics, width and height of a picture of which each pixel is the mean of ``factor`` x ``factor`` pixels."""
    k = (camera.metadata or {}).get("intrinsics")
    if k is None:
        k = torch.zeros(len(camera), 3, 3, device=camera.device)
        k[:, 0, :1], k[:, 0, 2:] = camera.fx, camera.cx
        k[:, 1, 1:2], k[:, 1, 2:] = camera.fy, camera.cy
        k[:, 2, 2] = 1.0
    width, height = picture_size(camera)
    return k if factor == 1 else k * _shrinking(factor, k.device), width // factor, height // factor


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
