"""What a clip remembers of its movers: where they stand still, and in frames where little speaks for them.

While a thing stands, flow and colours say rightly that it does not move, and stereo measures it like all else. Another
frame gives it away: it looks past the place where the thing would stand, on to something else.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from das3r_ns.frontend.geometric.motion import memory_kernels as kernels
from das3r_ns.frontend.geometric.motion.evidence import EvidenceMaps, blurred_lab
from das3r_ns.frontend.geometric.motion.frame_cues import COLOUR_NOISE
from das3r_ns.frontend.geometric.motion.look_behind import AGREEMENT, FAR, into, mean_around
from das3r_ns.frontend.geometric.motion.static_world import RigidPrediction
from das3r_ns.frontend.geometric.motion.superpixels import Superpixels
from das3r_ns.workers import workers

if TYPE_CHECKING:
    import torch

NEAR = (2, 4)
"""Distances, both ways, of frames that are asked because a thing that stands only shortly still stands in them."""

SPREAD = 12
"""Frames that are asked besides, evenly over the clip: who waits may wait for most of it."""

STEP = 2
"""Every so many rows and columns are looked at."""

ENOUGH = 1.0
"""Trust of the frames that have to see a thing in its place, and of those that have to see past it."""

DOUBT = (0.3, 0.7)
"""Means over a superpixel from which it begins to count as gone elsewhere, and surely does: depth that errs at an edge
looks past a few pixels anywhere."""

HOPS = 2
"""Links along which a mover is followed from a frame in which it surely moves."""

RINGS = 2
"""Rings of superpixels, per link, by which a limb may swing out of where the flow has it."""

SURROUNDINGS = 0.1
"""Standard deviation of what counts as around a mover, as a share of the longer side of the picture."""

RARE = 2.0
"""Change, in units of what static surroundings show, up to which it is nothing that a mover would have to explain."""


def gone_elsewhere(
    images: UInt8[np.ndarray, "N H W 3"],
    matched: RigidPrediction,
    static_weight: Float[np.ndarray, "N H W"],
    device: torch.device | None = None,
) -> Float[np.ndarray, "N H W"]:
    """How surely what each pixel shows stands in its place in some frames and is gone in others, 0 to 1.

    Args:
        images: RGB frames at the resolution of ``matched``.
        matched: Cameras and depth by stereo, movers and all.
        static_weight: Probability that each pixel is static, as far as is known: what moves in a frame hides from it
            what stood or stands there.
        device: Where to work in torch; None = compiled by numba, on the CPU.
    """
    count, height, width = matched.depth.shape
    lab = np.stack(blurred_lab(images))
    inverse_depth = (1.0 / matched.depth).astype(np.float32)
    nearest = np.stack([cv2.dilate(frame, np.ones((3, 3), np.uint8)) for frame in inverse_depth])
    static, trust = static_weight >= 0.5, matched.reliability.astype(np.float32)
    far = FAR * float(np.median(inverse_depth))
    spread = set(np.rint(np.linspace(0, count - 1, SPREAD)).astype(int).tolist())

    kernel = kernels.seen_there_and_gone
    shared: tuple[Any, ...] = (lab, inverse_depth, static, nearest, trust)
    if device is not None:
        from das3r_ns.frontend.geometric.torch_kernels import arrays, behind

        kernel, shared = arrays.on_device(behind.seen_there_and_gone, device), arrays.resident(device, *shared)
    pictures, depths, stay, near, trusted = shared

    def one(t: int) -> Float[np.ndarray, "H W"]:
        asked = spread | {t + sign * k for k in NEAR for sign in (-1, 1) if 0 <= t + sign * k < count}
        others = np.array(sorted(asked - {t}), int)
        those = others if device is None else arrays.moved(others, device)
        there, gone = kernel(
            pictures[t],
            depths[t],
            pictures[those],
            stay[those],
            depths[those],
            near[those],
            trusted[those],
            *into(matched, t, others),
            AGREEMENT,
            far,
            2.0 * COLOUR_NOISE,
            STEP,
        )
        both = np.minimum(there / ENOUGH, 1.0) * np.minimum(gone / ENOUGH, 1.0)
        return cv2.resize(both.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)

    if device is not None:  # it is one, whose work lines up anyway
        return np.stack([one(t) for t in range(count)])
    with ThreadPoolExecutor(max_workers=workers(locked=0.2)) as pool:
        return np.stack(list(pool.map(one, range(count))))


def gone_with_movers(
    gone: Float[np.ndarray, "N H W"], evidence: EvidenceMaps, moving: Float[np.ndarray, " S"]
) -> Float[np.ndarray, "N H W"]:
    """What is gone elsewhere as far as it hangs together with something that moves, in its frame or along the flow.

    A place that other frames look past without that anything was seen to move there is depth that errs.

    Args:
        gone: Of :func:`gone_elsewhere`.
        evidence: Of the clip: its superpixels and their links.
        moving: How surely each superpixel moves, 0 where it is more likely static.

    Returns:
        The same at one value per superpixel, 0 where nothing near moves.
    """
    regions = evidence.regions
    low, high = DOUBT
    mean = np.clip((regions.mean(gone) - low) / (high - low), 0.0, 1.0)
    count, label = evidence.together((mean > 0) | (moving > 0))
    moves = np.zeros(count, bool)
    moves[label[moving > 0]] = True
    return np.where(moves[label], mean, 0.0)[regions.labels].astype(np.float32)


def followed(
    evidence: EvidenceMaps, moving: Float[np.ndarray, " S"], witnessed: Float[np.ndarray, " S"]
) -> EvidenceMaps:
    """The evidence where movers are expected: near where the flow carries them from frames in which they surely move.

    There, what differs from the static world behind far more than what is static around it does, counts for as much as
    other frames see of it, unless good flow knows better. Nothing moves for being expected: ground that looks like
    itself stays, and so does a lattice that nowhere looks like itself.

    Args:
        evidence: Of the clip, with what lies behind.
        moving: How surely each superpixel moves, 0 where it is more likely static.
        witnessed: Whether enough frames see the place of each superpixel, 0 to 1.
    """
    first, second = np.concatenate([evidence.regions.edges, evidence.regions.edges[:, ::-1]]).T
    a, b = evidence.links.T
    expected = moving
    for _ in range(HOPS):
        reached = expected.copy()
        np.maximum.at(reached, b, expected[a] * evidence.link_share)
        np.maximum.at(reached, a, expected[b] * evidence.link_share)
        for _ in range(RINGS):
            wider = reached.copy()
            np.maximum.at(wider, second, reached[first])
            reached = wider
        expected = reached
    usual = _around(evidence.regions, evidence.change, 1 - expected)
    rare = np.maximum(1 - (RARE * usual / np.maximum(evidence.change, 1e-6)) ** 2, 0.0)
    weight = rare * expected * witnessed * (1 - evidence.flow_trust) ** 2
    return replace(evidence, change_weight=np.maximum(evidence.change_weight, weight))


def _around(
    regions: Superpixels, values: Float[np.ndarray, " S"], counted: Float[np.ndarray, " S"]
) -> Float[np.ndarray, " S"]:
    """Mean of a value around each superpixel, in its frame, over those that count, as much as they do."""

    def one(labels: Int[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
        return mean_around(values[labels].astype(np.float32), counted[labels], SURROUNDINGS)

    with ThreadPoolExecutor(max_workers=workers(locked=0.2)) as pool:
        return regions.mean(np.stack(list(pool.map(one, regions.labels))))
