"""One adjustment of all cameras of a clip to its optical flow, started from an alignment."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import Float

from das3r_ns.frontend.geometric.bundle.adjustment import bundle_adjust
from das3r_ns.frontend.geometric.bundle.result import BundleResult
from das3r_ns.frontend.geometric.pair_flows import AGREEMENT, PairFlows
from das3r_ns.frontend.network.alignment import AlignmentResult
from das3r_ns.frontend.weighted_median import weighted_median
from das3r_ns.scene import geometry as geo

GRID = 40
"""Points along the longer side of the picture at which the adjustment starts from the alignment's depth."""

JUDGED = 60
"""Pairs of frames, fewer than twice as many, by whose flow it is judged whether the adjustment has helped."""

STEP = 8
"""Pixels between the places at which flow is compared."""

MISSED = 0.02
"""Share of the longer side of the picture by which, besides AGREEMENT, a flow may miss its start on the way back; one
that misses it by more says nothing of the cameras."""


def refine_with_flow(
    aligned: AlignmentResult,
    flows: PairFlows,
    static_weight: Float[np.ndarray, "N H W"] | None = None,
    known_focal: float | None = None,
) -> AlignmentResult:
    """Dense bundle adjustment of the whole clip from where the alignment has it: what joins windows errs at the seams.

    The adjustment moves cameras, the focal and a coarse depth; the depth of each frame is scaled to it and keeps its
    detail. Kept only where flow of static pixels fits better than before.

    Args:
        aligned: Cameras and depth, in pixels of the predictions.
        flows: Optical flow of the same field of view, at any resolution.
        static_weight: Probability that a pixel is static, at the resolution of the flow.
        known_focal: Focal in pixels of the predictions that is to be kept.
    """
    height, width = aligned.depth.shape[1:]
    unit = float(np.median(aligned.depth))  # the adjustment has the median inverse depth at 1
    shape = (max(2, round(GRID * width / max(width, height))), max(2, round(GRID * height / max(width, height))))
    grid = np.stack([cv2.resize(unit / depth, shape, interpolation=cv2.INTER_AREA) for depth in aligned.depth])
    c2w = geo.invert_rigid(aligned.c2w_cv[0]) @ aligned.c2w_cv
    c2w[:, :3, 3] /= unit
    scale = flows.width / width
    start = BundleResult(
        width=flows.width,
        height=flows.height,
        c2w_cv=c2w,
        focal=float(np.median(aligned.focals)) * scale,
        focal_std=np.inf,
        points=np.zeros((*grid.shape, 2)),
        inverse_depth=grid.astype(np.float64),
        information=np.zeros(grid.shape),
        residual=np.inf,
    )
    held = None if known_focal is None else known_focal * scale
    found = bundle_adjust(flows, static_weight, initial=start, known_focal=held)
    if found.camera_kind != "general":
        return aligned
    refined = _apply(aligned, found, scale)
    before, after = (flow_misfit(one, flows, static_weight) for one in (aligned, refined))
    return refined if after < before else aligned


def _apply(aligned: AlignmentResult, found: BundleResult, scale: float) -> AlignmentResult:
    """The cameras found, and the depth of each frame scaled to theirs."""
    depth = np.empty_like(aligned.depth)
    for i, own in enumerate(aligned.depth):
        x, y = (found.points[i, ..., axis].astype(np.float32) / scale - 0.5 for axis in (0, 1))
        here = cv2.remap(own, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        weight = found.information[i] + 1e-12
        ratio = -np.log(np.maximum(found.inverse_depth[i], 1e-9) * here)
        depth[i] = own * np.exp(float(weighted_median(ratio.ravel(), weight.ravel())))
    focals = np.full_like(aligned.focals, found.focal / scale)
    return replace(aligned, c2w_cv=found.c2w_cv, focals=focals, depth=depth)


def flow_misfit(
    aligned: AlignmentResult, flows: PairFlows, static_weight: Float[np.ndarray, "N H W"] | None = None
) -> float:
    """Median distance in pixels between the flow and what a static world would show, over the static part of a clip."""
    shape = (flows.width, flows.height)
    height, width = aligned.depth.shape[1:]
    intrinsics = geo.resize_intrinsics(aligned.intrinsics, (width, height), shape)
    pairs = flows.pairs
    errors, weights = [], []
    sample = np.s_[::STEP, ::STEP]
    for i, j in pairs[:: max(1, len(pairs) // JUDGED)]:
        depth = cv2.resize(aligned.depth[i], shape, interpolation=cv2.INTER_NEAREST)
        rigid, valid = geo.rigid_flow(depth, intrinsics[i], intrinsics[j], aligned.c2w_cv[i], aligned.c2w_cv[j])
        errors.append(np.linalg.norm(flows.flow(i, j) - rigid, axis=-1)[sample])
        weight = valid[sample] * (flows.backward_error(i, j, STEP) < AGREEMENT + MISSED * max(shape))
        weights.append(weight if static_weight is None else weight * static_weight[i][sample])
    return float(weighted_median(np.concatenate(errors).ravel(), np.concatenate(weights).ravel()))
