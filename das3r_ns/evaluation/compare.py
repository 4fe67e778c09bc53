"""A front end's estimate against ground truth, as far as there is any, and what of it could not be used."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool

from das3r_ns.errors import Das3rError
from das3r_ns.evaluation.ground_truth import GroundTruth
from das3r_ns.evaluation.metrics import (
    aligned_sim3,
    ate_percent,
    ate_rmse,
    boundary_f,
    focal_error,
    mask_iou,
    recall,
    rpe,
)
from das3r_ns.scene.binary_masks import MOVES
from das3r_ns.scene.estimate import SceneEstimate


def compare(estimate: SceneEstimate, truth: GroundTruth, problems: list[str]) -> dict[str, Any]:
    """Figures of an estimate: J, F and recall of its masks, ATE and RPE of its cameras, error of its focal.

    Args:
        estimate: Of all frames or some; they are found by name.
        truth: Of the same video.
        problems: Gets a line for everything in the ground truth that is missing or cannot be used.
    """
    return {**compare_masks(estimate, truth, problems), **compare_cameras(estimate, truth, problems)}


def usable_masks(truth: GroundTruth, indices: list[int], problems: list[str]) -> dict[int, Bool[np.ndarray, "H W"]]:
    """Frame -> its mask, for the frames that have one of the frames' own size; the rest goes to ``problems``."""
    masks: dict[int, np.ndarray] = {}
    wrong: list[str] = []
    width, height = truth.size
    for index in indices:
        try:
            mask = truth.mask(index)
            if mask.shape != (height, width):
                name = truth.frame_paths[index].stem
                raise Das3rError(
                    f"the mask of frame {name} is {mask.shape[1]} x {mask.shape[0]}, the frames are {width} x {height}."
                )
            masks[index] = mask
        except Das3rError as error:
            wrong.append(str(error))
    if wrong:
        problems.append(f"masks: {len(wrong)} of {len(indices)} frames have none that can be used; {wrong[0]}")
    return masks


def compare_masks(estimate: SceneEstimate, truth: GroundTruth, problems: list[str]) -> dict[str, float]:
    """J, F, recall and false alarms (share of the picture) where there are true masks; nothing where there are none."""
    if not truth.has("masks"):
        return {}
    indices = truth.indices(estimate.frame_names)
    masks = usable_masks(truth, indices, problems)
    if not masks:
        return {}
    # As `das3r masks` writes them: the probability at the size and in the geometry of the video, then the threshold.
    lens = None if estimate.lens is None else estimate.lens.at(truth.size)
    level, shutter = estimate.dynamic_probability, estimate.shutter
    rolled = level if shutter is None else [shutter.filmed_picture(p, i) for i, p in enumerate(level)]
    filmed = [
        cv2.resize(p, truth.size, interpolation=cv2.INTER_LINEAR) if lens is None else lens.distorted_picture(p)
        for p in rolled
    ]
    predicted = {i: p >= MOVES for i, p in zip(indices, filmed, strict=True)}
    j = np.array([float(mask_iou(predicted[i], mask)) for i, mask in masks.items()])
    f = [boundary_f(predicted[i], mask) for i, mask in masks.items()]
    false_alarms = float(np.mean([(predicted[i] & ~mask).mean() for i, mask in masks.items()]))
    return {"J": float(j.mean()), "F": float(np.mean(f)), "recall": recall(j), "false_alarms": false_alarms}


def compare_cameras(estimate: SceneEstimate, truth: GroundTruth, problems: list[str]) -> dict[str, Any]:
    """ATE, RPE and the two trajectories (aligned), and the error of the focal; nothing of what has no ground truth."""
    indices = truth.indices(estimate.frame_names)
    figures: dict[str, Any] = {}
    if truth.has("poses.txt"):
        try:
            poses = truth.c2w_cv[indices]
            known = np.isfinite(poses).all(axis=(1, 2))
            if known.sum() < 3:
                raise Das3rError(f"only {known.sum()} of {len(indices)} frames have a true pose; 3 are needed.")
            if not known.all():
                problems.append(f"poses: {(~known).sum()} of {len(indices)} frames have no true pose.")
            pair = estimate.c2w_cv[known], poses[known]
            figures["ate"] = ate_rmse(*pair)
            figures["ate_percent"] = ate_percent(*pair)
            # Over gaps the step is longer, for both alike.
            figures["rpe_t"], figures["rpe_r"] = rpe(*pair)
            figures["trajectory"] = {
                "estimated": np.round(aligned_sim3(*pair)[:, :3, 3], 6).tolist(),
                "truth": np.round(pair[1][:, :3, 3], 6).tolist(),
            }
        except Das3rError as error:
            problems.append(f"poses: {error}")
    if truth.has("intrinsics.json"):
        try:
            lenses = estimate.lenses(truth.size)
            matrices = estimate.intrinsics if lenses is None else np.stack([lens.matrix for lens in lenses])
            own_width = estimate.width if lenses is None else truth.size[0]
            figures["focal_error"] = focal_error(matrices, own_width, truth.intrinsics, truth.size[0])
        except Das3rError as error:
            problems.append(f"intrinsics: {error}")
    return figures
