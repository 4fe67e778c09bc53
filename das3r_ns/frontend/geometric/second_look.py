"""A second look at what moves, once stereo has measured the depth of the static world."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8

from das3r_ns.frontend.geometric.dynamic_probability import dynamic_probability
from das3r_ns.frontend.geometric.motion import EvidenceMaps, RigidPrediction, look_behind
from das3r_ns.frontend.known.knowledge import static_weight

ROUNDS = 2
"""Looks that are taken: the second one knows the movers that the first one found, and asks no frame that shows one."""

MATCHED = 0.1
"""Confidence from which a pixel counts as matched."""

ENOUGH_MATCHED = 0.25
"""Share of the static pixels that must be matched: with less, depth is a guess where it would have to decide."""

MOVERS_MATCHED = 0.5
"""What moves must be matched less often than this, relative to what stays. Where it is not, the cameras have followed
the mover, or what matches is no more than blur."""


def trustworthy(confidence: Float[np.ndarray, "N H W"], dynamic: Float[np.ndarray, "N H W"]) -> bool:
    """Whether stereo has matched what stays and not what moves, so that its word is worth something.

    Args:
        confidence: Of the depth by stereo, movers and all.
        dynamic: Dynamic probability by the first look.
    """
    found, stays = confidence > MATCHED, dynamic <= 0.5
    if not stays.any():
        return False
    static_share = float(found[stays].mean())
    moving_share = float(found[~stays].mean()) if not stays.all() else 0.0
    return static_share >= ENOUGH_MATCHED and moving_share <= MOVERS_MATCHED * static_share


def look_again(
    images: UInt8[np.ndarray, "N H W 3"],
    small: UInt8[np.ndarray, "N h w 3"],
    evidence: EvidenceMaps,
    matched: RigidPrediction,
    dynamic: Float[np.ndarray, "N H W"],
    on_frame: Callable[[], None] = lambda: None,
) -> Float[np.ndarray, "N H W"]:
    """Decide once more what moves, with the depth of the static world to compare the frames by.

    Args:
        images: RGB frames at the working resolution.
        small: The same at the resolution of the evidence.
        evidence: What the first look saw.
        matched: Cameras and depth by stereo, movers and all, at the resolution of the evidence.
        dynamic: Dynamic probability by the first look.
        on_frame: Called :data:`ROUNDS` times for each frame, for progress bars.

    Returns:
        Dynamic probability, as :func:`~das3r_ns.frontend.geometric.dynamic_probability.dynamic_probability` has it.
    """
    for _ in range(ROUNDS):
        stays = static_weight(dynamic, (small.shape[2], small.shape[1]))
        dynamic = dynamic_probability(images, evidence, look_behind(small, matched, stays, on_frame))
    return dynamic
