"""Figures of merit: masks (J), cameras (ATE, focal) and renders (PSNR, in both conventions)."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float

from das3r_ns.frontend.geometry import umeyama_sim3

MAX_PSNR = 100.0
"""Reported where two pictures are equal, in dB, so that a mean over frames stays finite."""


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


def path_length(c2w: Float[np.ndarray, "N 4 4"]) -> float:
    """Length of the way the camera centre took, frame by frame, in world units."""
    return float(np.linalg.norm(np.diff(c2w[:, :3, 3], axis=0), axis=-1).sum())


def ate_rmse(estimated: Float[np.ndarray, "N 4 4"], truth: Float[np.ndarray, "N 4 4"]) -> float:
    """Absolute trajectory error: root mean square distance of camera centres after the best Sim(3) alignment.

    Sturm et al., "A Benchmark for the Evaluation of RGB-D SLAM Systems" (IROS 2012), eq. 6, with Umeyama's similarity
    in place of the rigid motion because the scale of a video cannot be known. In units of ``truth``.
    """
    source, target = estimated[:, :3, 3], truth[:, :3, 3]
    scale, rotation, translation = umeyama_sim3(source, target)
    residual = scale * source @ rotation.T + translation - target
    return float(np.sqrt((residual**2).sum(axis=-1).mean()))


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
