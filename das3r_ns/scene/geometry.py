"""Pinhole projection and rigid motions in numpy.

Conventions throughout: OpenCV camera axes (x right, y down, z forward), camera-to-world matrices ``c2w`` (``_cv`` axes
are meant), depth = camera z, intrinsics in pixels with the centre of pixel (row 0, column 0) at (0.5, 0.5).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

MIN_DEPTH = 1e-6
"""Points nearer than this to the camera plane, or behind it, have no image."""


def pinhole(focal: float, width: float, height: float) -> Float[np.ndarray, "3 3"]:
    """Intrinsics of a camera with square pixels and the principal point at the centre of the picture."""
    return np.array([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])


def resize_intrinsics(
    intrinsics: Float[np.ndarray, "*batch 3 3"], old_size: tuple[int, int], new_size: tuple[int, int]
) -> Float[np.ndarray, "*batch 3 3"]:
    """Intrinsics of the same picture resized from ``old_size`` to ``new_size``, both (width, height).

    Pixel centres lie at +0.5, so the principal point scales like every other length.
    """
    scale = np.array([new_size[0] / old_size[0], new_size[1] / old_size[1], 1.0])
    return intrinsics * scale[:, None]


def pixel_centres(height: int, width: int) -> Float[np.ndarray, "H W 2"]:
    """Image coordinates (x, y) of every pixel centre, float32."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32) + 0.5, np.arange(height, dtype=np.float32) + 0.5)
    return np.stack([x, y], axis=-1)


def unproject(
    pixels: Float[np.ndarray, "*n 2"], depth: Float[np.ndarray, "*n"], intrinsics: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "*n 3"]:
    """Points in the camera frame of image coordinates ``pixels`` at camera z ``depth``."""
    x = (pixels[..., 0] - intrinsics[0, 2]) / intrinsics[0, 0] * depth
    y = (pixels[..., 1] - intrinsics[1, 2]) / intrinsics[1, 1] * depth
    return np.stack([x, y, np.broadcast_to(depth, x.shape)], axis=-1)


def project(
    points: Float[np.ndarray, "*n 3"], intrinsics: Float[np.ndarray, "3 3"]
) -> tuple[Float[np.ndarray, "*n 2"], Float[np.ndarray, "*n"]]:
    """Image coordinates and camera z of points in the camera frame; the coordinates mean nothing where z <= 0."""
    z = points[..., 2]
    safe = np.where(z > MIN_DEPTH, z, 1.0)
    x = points[..., 0] / safe * intrinsics[0, 0] + intrinsics[0, 2]
    y = points[..., 1] / safe * intrinsics[1, 1] + intrinsics[1, 2]
    return np.stack([x, y], axis=-1), z


def invert_rigid(pose: Float[np.ndarray, "*batch 4 4"]) -> Float[np.ndarray, "*batch 4 4"]:
    """Inverse of rigid motions, exact in the rotation."""
    rotation_t = np.swapaxes(pose[..., :3, :3], -1, -2)
    inverse = np.zeros_like(pose)
    inverse[..., :3, :3] = rotation_t
    inverse[..., :3, 3] = -np.einsum("...ij,...j->...i", rotation_t, pose[..., :3, 3])
    inverse[..., 3, 3] = 1.0
    return inverse


def transform_points(pose: Float[np.ndarray, "4 4"], points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Apply one rigid motion to points."""
    return points @ pose[:3, :3].T + pose[:3, 3]


def rigid_flow(
    depth: Float[np.ndarray, "H W"],
    intrinsics_i: Float[np.ndarray, "3 3"],
    intrinsics_j: Float[np.ndarray, "3 3"],
    c2w_i: Float[np.ndarray, "4 4"],
    c2w_j: Float[np.ndarray, "4 4"],
    step: int = 1,
) -> tuple[Float[np.ndarray, "h w 2"], Bool[np.ndarray, "h w"]]:
    """Flow that a static world would show from frame i to frame j.

    Args:
        depth: Camera z of every pixel of frame i.
        intrinsics_i: Pinhole matrix of frame i, in pixels of ``depth``.
        intrinsics_j: Pinhole matrix of frame j, at the same resolution.
        c2w_i: Camera-to-world of frame i.
        c2w_j: Camera-to-world of frame j.
        step: Look at every so many rows and columns only.

    Returns:
        flow: Displacement (x, y) in pixels, float32; zero where the point lies behind camera j.
        valid: Whether the point is in front of camera j and inside its picture.
    """
    from das3r_ns.scene import geometry_kernels as kernels  # here, for what only reads a cache needs no numba

    height, width = depth.shape
    relative = invert_rigid(np.asarray(c2w_j, dtype=np.float64)) @ c2w_i
    # One homography for the direction of the ray and one vector for the parallax: x_j ~ A x_i z + b.
    k_j = np.asarray(intrinsics_j, dtype=np.float64)
    homography = (k_j @ relative[:3, :3] @ np.linalg.inv(intrinsics_i)).astype(np.float32)
    parallax = (k_j @ relative[:3, 3]).astype(np.float32)
    seen = np.ascontiguousarray(depth[::step, ::step], dtype=np.float32)
    return kernels.rigid_flow(seen, homography, parallax, step, (width, height), MIN_DEPTH)


def skew(vector: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """Matrix of the cross product with ``vector``."""
    x, y, z = np.moveaxis(vector, -1, 0)
    zero = np.zeros_like(x)
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*vector.shape[:-1], 3, 3)


def _left_jacobian(omega: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """Left Jacobian of SO(3) (Sola, Deray, Atchuthan, "A micro Lie theory", eq. 145)."""
    theta = np.linalg.norm(omega, axis=-1)[..., None, None]
    small = theta < 1e-4
    safe = np.where(small, 1.0, theta)
    # The series are good to 1e-16 below the bound, where the closed forms would cancel.
    a = np.where(small, 0.5 - theta**2 / 24, (1 - np.cos(safe)) / safe**2)
    b = np.where(small, 1 / 6 - theta**2 / 120, (safe - np.sin(safe)) / safe**3)
    hat = skew(omega)
    return np.eye(3) + a * hat + b * (hat @ hat)


def se3_exp(tangent: Float[np.ndarray, "*batch 6"]) -> Float[np.ndarray, "*batch 4 4"]:
    """Rigid motions of tangent vectors (translation first, then rotation vector), float64.

    Sola, Deray, Atchuthan, "A micro Lie theory", eq. 172.
    """
    from scipy.spatial.transform import Rotation  # here, for what only reads a cache needs no scipy

    tangent = np.asarray(tangent, dtype=np.float64)
    rho, omega = tangent[..., :3], tangent[..., 3:]
    pose = np.zeros((*tangent.shape[:-1], 4, 4))
    rotation = Rotation.from_rotvec(omega.reshape(-1, 3)).as_matrix()
    pose[..., :3, :3] = rotation.reshape(*tangent.shape[:-1], 3, 3)
    pose[..., :3, 3] = np.einsum("...ij,...j->...i", _left_jacobian(omega), rho)
    pose[..., 3, 3] = 1.0
    return pose


def se3_log(pose: Float[np.ndarray, "*batch 4 4"]) -> Float[np.ndarray, "*batch 6"]:
    """Tangent vectors of rigid motions, the inverse of :func:`se3_exp` for rotations below pi."""
    from scipy.spatial.transform import Rotation  # here, for what only reads a cache needs no scipy

    batch = pose.shape[:-2]
    omega = Rotation.from_matrix(pose[..., :3, :3].reshape(-1, 3, 3)).as_rotvec().reshape(*batch, 3)
    rho = np.linalg.solve(_left_jacobian(omega), pose[..., :3, 3, None])[..., 0]
    return np.concatenate([rho, omega], axis=-1)


def umeyama_sim3(
    source: Float[np.ndarray, "*batch N 3"],
    target: Float[np.ndarray, "*batch N 3"],
    weights: Float[np.ndarray, "*batch N"] | None = None,
) -> tuple[Float[np.ndarray, "*batch"], Float[np.ndarray, "*batch 3 3"], Float[np.ndarray, "*batch 3"]]:
    """Similarity that takes ``source`` to ``target`` with the least squared error (Umeyama, PAMI 1991, eq. 40-43).

    Args:
        source: Points.
        target: The same points elsewhere.
        weights: Weight of each point, none negative; all alike if None, or where all are zero.

    Returns:
        Scale, rotation and translation: target ~ scale * rotation @ source + translation. Where all source points
        coincide the scale is 1.
    """
    weights = np.ones(source.shape[:-1]) if weights is None else weights
    total = weights.sum(axis=-1, keepdims=True)
    weights = np.where(total > 0, weights / np.where(total > 0, total, 1.0), 1.0 / source.shape[-2])[..., None]
    mean_source, mean_target = (weights * source).sum(axis=-2), (weights * target).sum(axis=-2)
    centred_source, centred_target = source - mean_source[..., None, :], target - mean_target[..., None, :]
    u, singular, vt = np.linalg.svd(np.swapaxes(weights * centred_target, -1, -2) @ centred_source)
    sign = np.ones_like(singular)
    sign[..., 2] = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    rotation = (u * sign[..., None, :]) @ vt
    variance = (weights * centred_source**2).sum(axis=(-2, -1))
    scale = np.where(variance > 0, (singular * sign).sum(axis=-1) / np.where(variance > 0, variance, 1.0), 1.0)
    moved = np.einsum("...ij,...j->...i", rotation, mean_source)
    return scale, rotation, mean_target - scale[..., None] * moved
