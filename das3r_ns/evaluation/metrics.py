"""Figures of merit: masks (J, F), cameras (ATE, RPE, focal) and renders (PSNR, in both conventions)."""

from __future__ import annotations

import math

import cv2
import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation
from skimage.morphology import disk

from das3r_ns.scene.geometry import invert_rigid, umeyama_sim3

MAX_PSNR = 100.0
"""Reported where two pictures are equal, in dB, so that a mean over frames stays finite."""
BOUNDARY_TOLERANCE = 0.008
"""How far apart two boundaries may lie and still agree, in shares of the picture's diagonal (DAVIS)."""
RECALLED = 0.5
"""J above which a frame counts as found (DAVIS)."""


def mask_iou(predicted: Bool[np.ndarray, "*frames H W"], truth: Bool[np.ndarray, "*frames H W"]) -> np.ndarray:
    """Intersection over union of dynamic masks, per frame.

    This is the region similarity J of Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object
    Segmentation" (CVPR 2016), section 4. A frame in which both masks are empty counts as 1.

    Returns:
        J of each frame, [*frames] float64.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"masks differ in shape: {predicted.shape} predicted, {truth.shape} truth")
    union = (predicted | truth).sum(axis=(-2, -1))
    intersection = (predicted & truth).sum(axis=(-2, -1))
    return np.where(union > 0, intersection / np.maximum(union, 1), 1.0)


def recall(scores: Float[np.ndarray, " frames"]) -> float:
    """Object recall of Perazzi et al. (CVPR 2016), section 4: the share of frames whose score lies above RECALLED."""
    return float((scores > RECALLED).mean())


def boundary_f(
    predicted: Bool[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"], tolerance: float = BOUNDARY_TOLERANCE
) -> float:
    """Contour accuracy F of one frame (Perazzi et al., CVPR 2016, section 4).

    F = 2 P R / (P + R), with P the share of the predicted boundary that lies within a tolerance of the true one, and R
    the reverse. As in the benchmark's own measure the matching is not one-to-one but done with boundaries grown by a
    disk, whose radius is ``tolerance`` of the diagonal, rounded up. Two masks without any boundary agree: 1; with a
    boundary in one of them only F is 0.

    Args:
        predicted: What was found to move.
        truth: What moves.
        tolerance: As a share of the diagonal.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"masks differ in shape: {predicted.shape} predicted, {truth.shape} truth")
    edges = boundary(predicted), boundary(truth)
    if not edges[0].any() and not edges[1].any():
        return 1.0
    near = np.asarray(disk(math.ceil(tolerance * math.hypot(*truth.shape)), dtype=np.uint8))
    grown = [cv2.dilate(edge.astype(np.uint8), near) > 0 for edge in edges]
    precision = (edges[0] & grown[1]).sum() / max(edges[0].sum(), 1)
    found = (edges[1] & grown[0]).sum() / max(edges[1].sum(), 1)
    return float(2 * precision * found / (precision + found)) if precision + found > 0 else 0.0


def boundary(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Pixels that differ from their neighbour to the right, below, or below to the right.

    This is a boundary one pixel wide; the border of the picture is none.
    """
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    return (mask != padded[:-1, 1:]) | (mask != padded[1:, :-1]) | (mask != padded[1:, 1:])


def path_length(c2w: Float[np.ndarray, "N 4 4"]) -> float:
    """Length of the way the camera centre took, frame by frame, in world units."""
    return float(np.linalg.norm(np.diff(c2w[:, :3, 3], axis=0), axis=-1).sum())


def ate_rmse(estimated: Float[np.ndarray, "N 4 4"], truth: Float[np.ndarray, "N 4 4"]) -> float:
    """Absolute trajectory error: root mean square distance of camera centres after the best Sim(3) alignment.

    Sturm et al., "A Benchmark for the Evaluation of RGB-D SLAM Systems" (IROS 2012), eq. 6, with Umeyama's similarity
    in place of the rigid motion because the scale of a video cannot be known. In units of ``truth``.
    """
    residual = aligned_sim3(estimated, truth)[:, :3, 3] - truth[:, :3, 3]
    return float(np.sqrt((residual**2).sum(axis=-1).mean()))


def aligned_sim3(
    estimated: Float[np.ndarray, "N 4 4"], truth: Float[np.ndarray, "N 4 4"]
) -> Float[np.ndarray, "N 4 4"]:
    """The estimated poses in the world frame and unit of the true ones, by the best Sim(3) between camera centres."""
    scale, rotation, translation = umeyama_sim3(estimated[:, :3, 3], truth[:, :3, 3])
    aligned = np.array(estimated, dtype=np.float64)
    aligned[:, :3, :3] = rotation @ estimated[:, :3, :3]
    aligned[:, :3, 3] = scale * estimated[:, :3, 3] @ rotation.T + translation
    return aligned


def rpe(estimated: Float[np.ndarray, "N 4 4"], truth: Float[np.ndarray, "N 4 4"]) -> tuple[float, float]:
    """Relative pose error from each frame to the next, after the Sim(3) alignment of :func:`ate_rmse`.

    Sturm et al. (IROS 2012), eq. 1-3, with a distance of one frame: the error of a step is the motion that takes the
    true step to the estimated one.

    Returns:
        Root mean square of its translation, in units of ``truth``, and of its rotation angle, in degrees.
    """
    aligned = aligned_sim3(estimated, truth)
    steps = [invert_rigid(poses[:-1]) @ poses[1:] for poses in (truth, aligned)]
    error = invert_rigid(steps[0]) @ steps[1]
    angle = np.degrees(Rotation.from_matrix(error[:, :3, :3]).magnitude())
    translation = np.linalg.norm(error[:, :3, 3], axis=-1)
    return float(np.sqrt((translation**2).mean())), float(np.sqrt((angle**2).mean()))


def ate_percent(estimated: Float[np.ndarray, "N 4 4"], truth: Float[np.ndarray, "N 4 4"]) -> float:
    """:func:`ate_rmse` in percent of the true :func:`path_length`; NaN where the true camera stood still."""
    length = path_length(truth)
    return 100.0 * ate_rmse(estimated, truth) / length if length > 0 else math.nan


def focal_error(
    estimated: Float[np.ndarray, "*n 3 3"],
    estimated_width: int,
    truth: Float[np.ndarray, "*m 3 3"],
    truth_width: int,
) -> float:
    """Relative error of the focal, mean over frames: 0.1 is ten percent. Widths bring both to the same resolution."""
    focal = float(np.mean(estimated[..., 0, 0])) / estimated_width
    focal_true = float(np.mean(truth[..., 0, 0])) / truth_width
    return abs(focal - focal_true) / focal_true


def _psnr(squared_error: Float[np.ndarray, "P 3"], count: int) -> float:
    """PSNR of errors summed over pixels and divided by ``count``: per channel, then the mean of the channels, in dB."""
    if count == 0:
        return math.nan
    mse = squared_error.sum(axis=0, dtype=np.float64) / count
    return float(np.minimum(-10.0 * np.log10(np.maximum(mse, 1e-30)), MAX_PSNR).mean())


def psnr_over(
    render: Float[np.ndarray, "H W 3"], target: Float[np.ndarray, "H W 3"], pixels: Bool[np.ndarray, "H W"]
) -> float:
    """PSNR over a set of pixels, in dB; NaN where the set is empty.

    Both pictures are clamped to [0, 1]. As in the paper's code the PSNR is taken per channel and the three are
    averaged. With the pixels under the ground-truth mask that some frame sees static, and the clean plate as target,
    this is the clean-plate PSNR.
    """
    error = np.clip(render[pixels], 0.0, 1.0) - np.clip(target[pixels], 0.0, 1.0)
    return _psnr(error**2, int(pixels.sum()))


def psnr_static(
    render: Float[np.ndarray, "H W 3"], target: Float[np.ndarray, "H W 3"], dynamic: Bool[np.ndarray, "H W"]
) -> float:
    """PSNR averaged over the static pixels only, in dB: the honest convention (see :func:`psnr_over`)."""
    return psnr_over(render, target, ~dynamic)


def psnr_paper(
    render: Float[np.ndarray, "H W 3"], target: Float[np.ndarray, "H W 3"], dynamic: Bool[np.ndarray, "H W"]
) -> float:
    """PSNR in the convention of the DAS3R paper, in dB.

    Both pictures are zeroed under the ground-truth mask and the error is averaged over ALL pixels, so that masked
    pixels count as exact. It lies above :func:`psnr_static` by 10 log10(1 / static fraction); print both, by these
    names.
    """
    error = np.clip(render[~dynamic], 0.0, 1.0) - np.clip(target[~dynamic], 0.0, 1.0)
    return _psnr(error**2, dynamic.size)
