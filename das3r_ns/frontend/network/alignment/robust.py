"""The alignment of this package: a start that garbage cannot spoil, then one robust problem for everything."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation, Slerp

from das3r_ns.frontend.geometric.pair_flows import PairFlows
from das3r_ns.frontend.network.alignment.cleaning import clean_confidence
from das3r_ns.frontend.network.alignment.config import AlignmentConfig
from das3r_ns.frontend.network.alignment.depth_fusion import fuse_confidence, fuse_depth, fuse_dynamic, pick_device
from das3r_ns.frontend.network.alignment.joint_solver import Held, Solver
from das3r_ns.frontend.network.alignment.prediction_samples import sample_flow, sample_predictions
from das3r_ns.frontend.network.alignment.result import AlignmentResult
from das3r_ns.frontend.network.alignment.spanning_tree import first_state
from das3r_ns.frontend.network.alignment.unknowns import State
from das3r_ns.frontend.network.predictions import PairPredictions
from das3r_ns.frontend.similarity import Sim3
from das3r_ns.scene import geometry as geo

LOST_SHARE = 0.15
"""A frame of whose predictions less than this is believed in every pair has no place of its own."""


def align_robustly(
    predictions: PairPredictions,
    flows: PairFlows | None,
    config: AlignmentConfig,
    known_c2w_cv: Float[np.ndarray, "N 4 4"] | None,
    known_focal: Float[np.ndarray, " N"] | None,
    static_weight: Float[np.ndarray, "N H W"] | None,
    on_progress: Callable[[str], None],
    first_frame: int,
) -> AlignmentResult:
    """See :func:`das3r_ns.frontend.network.alignment.global_align`."""
    height, width = predictions.height, predictions.width
    if static_weight is None:
        dynamic = fuse_dynamic(predictions)
        static_weight = None if dynamic is None else 1.0 - dynamic[0]
    on_progress("spanning tree")
    samples = sample_predictions(predictions, static_weight, config.max_samples, config.sample_budget)
    state = first_state(samples, config.focal == "per_frame", known_focal)
    if known_c2w_cv is not None:
        state = _given_poses(state, known_c2w_cv)
    flow = None
    if flows is not None and config.flow_weight > 0:
        flow = sample_flow(flows, samples, height, width, static_weight)
    on_progress("cameras")
    solver = Solver(
        samples,
        flow,
        Held(poses=known_c2w_cv is not None, focal=known_focal is not None),
        config.focal == "per_frame" and known_focal is None,
        config.flow_weight,
        config.temporal_weight,
    )
    state = solver.solve(state)
    shares = solver.robust_shares(state)
    messages = _doubtful_pairs(predictions, shares, first_frame)
    lost = _lost_frames(samples.views, shares)
    if known_c2w_cv is None:
        state, more = _place_lost(state, lost, first_frame)
        messages += more
        state = _normalised(state)
    on_progress("depth of all pixels")
    device = pick_device(config.device)
    depth = fuse_depth(predictions, state, shares, device)
    confidence = fuse_confidence(predictions)
    on_progress("occlusion test")
    clean = clean_confidence(confidence, depth, state.c2w, state.focals, config.clean_tolerance, device)
    clean[lost] = 0.0
    dynamic = fuse_dynamic(predictions, shares if config.dynamic_aggregation == "weighted" else None)
    mean, highest = dynamic or (None, None)
    return AlignmentResult(state.c2w, state.focals, depth, confidence, clean, mean, highest, messages)


def _given_poses(state: State, known: Float[np.ndarray, "N 4 4"]) -> State:
    """The state in the world of the given poses; their distances set the scale, if there are any."""
    ours, theirs = state.c2w[:, :3, 3], known[:, :3, 3]
    turn = Rotation.from_matrix(known[:, :3, :3] @ np.swapaxes(state.c2w[:, :3, :3], 1, 2)).mean().as_matrix()
    ours = (ours - np.median(ours, axis=0)) @ turn.T
    theirs = theirs - np.median(theirs, axis=0)
    scale = float((ours * theirs).sum()) / max(float((ours**2).sum()), 1e-30)
    if not scale > 1e-6 or np.linalg.norm(theirs, axis=1).max() < 1e-9:
        scale = 1.0
    offset = known[:, :3, 3] - scale * state.c2w[:, :3, 3] @ turn.T
    moved = state.moved(Sim3(np.array(scale), turn, np.median(offset, axis=0)))
    return State(np.asarray(known, dtype=np.float64), state.focals, moved.depth, moved.pair_from_world)


def _doubtful_pairs(predictions: PairPredictions, shares: Float[np.ndarray, "E 2"], first_frame: int) -> list[str]:
    doubtful = [pair for pair, share in zip(predictions.pairs, shares, strict=True) if share.min() < LOST_SHARE]
    if not doubtful:
        return []
    named = ", ".join(f"({first_frame + i}, {first_frame + j})" for i, j in sorted(doubtful)[:5])
    names = named + (", ..." if len(doubtful) > 5 else "")
    return [f"{len(doubtful)} of {len(predictions.pairs)} pairs fit no common scene and were left out: {names}."]


def _lost_frames(views: list[list[tuple[int, int]]], shares: Float[np.ndarray, "E 2"]) -> list[int]:
    return [n for n, seen in enumerate(views) if max((shares[view] for view in seen), default=0.0) < LOST_SHARE]


def _place_lost(state: State, lost: list[int], first_frame: int) -> tuple[State, list[str]]:
    """Give frames that no pair places a camera between their neighbours'."""
    n = len(state.c2w)
    found = [k for k in range(n) if k not in lost]
    if not lost:
        return state, []
    if len(found) < 2:
        return state, [
            "Hardly two frames' predictions fit together; cameras and depth are a guess. Is this one scene, and the "
            "right checkpoint?"
        ]
    c2w = state.c2w.copy()
    times = np.clip(lost, found[0], found[-1])
    c2w[lost, :3, :3] = Slerp(found, Rotation.from_matrix(c2w[found, :3, :3]))(times).as_matrix()
    for axis in range(3):
        c2w[lost, axis, 3] = np.interp(lost, found, c2w[found, axis, 3])
    names = ", ".join(str(first_frame + frame) for frame in lost)
    return State(c2w, state.focals, state.depth, state.pair_from_world), [
        f"The predictions of frame {names} fit none of the others; its camera is taken to lie between its neighbours'."
    ]


def _normalised(state: State) -> State:
    """Camera 0 as the world frame and a median depth of 1."""
    moved = state.moved(Sim3.from_rigid(geo.invert_rigid(state.c2w[0])))
    return moved.scaled(1.0 / float(np.median(state.depth)))
