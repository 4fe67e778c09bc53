"""A second look at what moves, once stereo has measured the depth of the static world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from das3r_ns.frontend.config import Motion, Stopped
from das3r_ns.frontend.geometric.case import Case
from das3r_ns.frontend.geometric.decision import decide
from das3r_ns.frontend.geometric.dynamic_probability import moving_superpixels
from das3r_ns.frontend.geometric.motion import EvidenceMaps, RigidPrediction, look_behind, motion_evidence
from das3r_ns.frontend.geometric.motion.covering import covering
from das3r_ns.frontend.geometric.motion.memory import followed, gone_elsewhere, gone_with_movers
from das3r_ns.frontend.geometric.pair_flows import PairFlows
from das3r_ns.frontend.known.knowledge import static_weight

if TYPE_CHECKING:
    import torch

ROUNDS = 2
"""Times that every frame is looked at: against its neighbours by flow, and against what all others show of it."""


def look_again(
    images: UInt8[np.ndarray, "N H W 3"],
    small: UInt8[np.ndarray, "N h w 3"],
    flows: PairFlows,
    evidence: EvidenceMaps,
    matched: RigidPrediction,
    dynamic: Float[np.ndarray, "N H W"],
    stopped: Stopped = "leave",
    on_frame: Callable[[], None] = lambda: None,
    device: torch.device | None = None,
    motion: Motion = "rules",
    weights: Path | None = None,
) -> Float[np.ndarray, "N H W"]:
    """Decide once more what moves, with the depth of the static world to compare the frames by.

    What the first look took for motion for want of a depth is measured anew against the sharper one, region by region:
    where stereo has matched, flow and colours agree with it if the place is static, and where it has not, the depth is
    as good as before. Where a camera goes with a mover stereo matches that better than the world, and is not asked.
    What a static depth explains moves all the same where it hides something nearer than that.

    What is found to move is remembered in the frames around: there less has to speak for it, and what stands where
    other frames look past it, before it walked off or after it stopped, leaves with it.

    Args:
        images: RGB frames at the working resolution.
        small: The same at the resolution of the evidence.
        flows: Optical flow between them.
        evidence: What the first look saw.
        matched: Cameras and depth by stereo, movers and all, at the resolution of the evidence.
        dynamic: Dynamic probability by the first look: which frames show a mover, and are not asked what is behind it.
        stopped: Whether a mover leaves the scene or is kept in frames in which it stands.
        on_frame: Called :data:`ROUNDS` times for each frame, for progress bars.
        device: Where to work in torch; None = compiled by numba, on the CPU.
        motion: What decides at last.
        weights: Of the head; None = those of the package.

    Returns:
        Dynamic probability, as :func:`~das3r_ns.frontend.geometric.dynamic_probability.dynamic_probability` has it.
    """
    first = evidence
    evidence = motion_evidence(small, flows, matched, on_frame, before=first)
    stays = static_weight(dynamic, (small.shape[2], small.shape[1]))
    look = look_behind(small, matched, stays, on_frame, device)
    evidence = look.added_to(evidence, first)
    moving = moving_superpixels(evidence)
    if stopped == "leave" and moving.any():
        gone = gone_with_movers(gone_elsewhere(small, matched, stays, device), evidence, moving)
        look, evidence = replace(look, gone=gone), replace(evidence, gone=evidence.regions.mean(gone))
    # What goes as steadily as the camera never stands: nothing is gone because of it.
    covers = covering(small, matched, stays, evidence)
    evidence = replace(evidence, covers=covers)
    if covers.any():
        moving = moving_superpixels(evidence)
    if moving.any():
        evidence = followed(evidence, moving, evidence.regions.mean(look.witnessed))
    return decide(Case(images, small, flows, evidence, matched, look), motion, weights)
