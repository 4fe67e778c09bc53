"""What stands behind: the static world that other frames see where this one looks.

A mover hides the static world from its own frame only. Once stereo has measured that world, other frames say how far
it is behind the mover and what it looks like, and the picture either shows it or does not.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from das3r_ns.frontend.geometric.motion import look_behind_kernels as kernels
from das3r_ns.frontend.geometric.motion.evidence import CUE_NAMES, EvidenceMaps, blurred_lab
from das3r_ns.frontend.geometric.motion.frame_cues import COLOUR_NOISE
from das3r_ns.frontend.geometric.motion.static_world import RigidPrediction
from das3r_ns.scene import geometry as geo
from das3r_ns.workers import workers

if TYPE_CHECKING:
    import torch

OFFSETS = (2, 4, 7, 11, 16, 22)
"""Distances, both ways, of the frames that are asked. In the nearest ones a slow mover still stands in its own way."""

SHARE = 0.3
"""Share of the trust at a pixel that has to agree on a surface: movers that are not known yet leave some of theirs."""

AGREEMENT = 0.06
"""Relative difference up to which two frames see the same surface."""

FAR, SLACK = 0.25, 0.025
"""Shares of the median inverse depth: below the first one differences count relative to it instead; by the second one a
surface may be nearer than a point that it does not hide."""

GUESS = 0.02
"""Trust in a depth that is not measured: little, but it counts where nothing better is known."""

SUPPORT = 0.1
"""Trust from which the depth that others see takes the place of the frame's own."""

WITNESSES = 4.0
"""Frames that have to see a place for their word to count in full."""

STILL = (0.05, 0.4)
"""Confidences of a match between which it comes to prove that nothing moves."""

LEAST_MATCH = 3
"""Side, in pixels, of the smallest place that counts as matched: less is chance, a checked shirt matches in spots."""

MOVERS_MATCH = 0.3
"""How often movers are still, relative to the static pixels around them, when that proves nothing there any more: plain
fur matches anywhere, and what hardly moves is still."""

FOLLOWED = 2.0
"""How often movers are still, relative to what stays around them, when stereo has measured them and not the world: the
camera goes with them. Half as often proves no such thing, for what was wrongly taken for a mover matches like all else.
"""

AROUND = 0.05
"""Standard deviation of what counts as around a pixel, as a share of the longer side of the picture."""


@dataclass(frozen=True)
class SecondLook:
    """What the measured depth of the static world says about motion, pixel by pixel, 0 to 1."""

    change: Float[np.ndarray, "N H W"]
    """How much the picture differs from what other frames show of the static world there."""
    witnessed: Float[np.ndarray, "N H W"]
    """What that is worth: whether enough frames see the place."""
    still: Float[np.ndarray, "N H W"]
    """How surely the pixel, amid others, was matched at one depth, on which frames agree: what moves has none."""
    missing: Float[np.ndarray, "N H W"]
    """How much of what stays around the pixel is still while it is not itself: it fails to match amid what does."""
    at_rest: Float[np.ndarray, "N H W"]
    """How surely the pixel is static: still, while other frames do not show something else behind it, amid movers that
    are not."""
    believed: Float[np.ndarray, "N H W"]
    """Whether stereo has measured what stays here: not where it matches movers better than all that stays around them,
    before a camera that follows them. The other maps are 0 there."""
    gone: Float[np.ndarray, "N H W"] | None = None
    """How surely what the pixel shows stands there in some frames and is gone in others; None where that is to stay."""

    def added_to(self, evidence: EvidenceMaps, before: EvidenceMaps) -> EvidenceMaps:
        """The evidence of a clip with its change as seen now.

        Args:
            evidence: Against the depth by stereo.
            before: Against what was known until then, which stays where stereo is not to be believed.
        """
        regions = evidence.regions
        change, witnessed, believed = map(regions.mean, (self.change, self.witnessed, self.believed))
        cues = {name: believed * getattr(evidence, name) + (1 - believed) * getattr(before, name) for name in CUE_NAMES}
        evidence = replace(evidence, **cues)
        return replace(evidence, change=change, change_weight=witnessed * evidence.change_weight, looks_behind=True)


def look_behind(
    images: UInt8[np.ndarray, "N H W 3"],
    matched: RigidPrediction,
    static_weight: Float[np.ndarray, "N H W"],
    on_frame: Callable[[], None] = lambda: None,
    device: torch.device | None = None,
) -> SecondLook:
    """Compare every frame with what other frames show of the static world there.

    Args:
        images: RGB frames at the resolution of ``matched``.
        matched: Cameras and depth by stereo, movers and all.
        static_weight: Probability that each pixel is static, as far as is known.
        on_frame: Called after each frame, for progress bars.
        device: Where to work in torch; None = compiled by numba, on the CPU.
    """
    lab = np.stack(blurred_lab(images))
    inverse_depth = (1.0 / matched.depth).astype(np.float32)
    certainty = np.clip(2.0 * static_weight - 1.0, 0.0, 1.0)
    trust = (np.maximum(matched.reliability, GUESS) * certainty).astype(np.float32)
    static = static_weight >= 0.5
    middle = float(np.median(inverse_depth))
    low, high = STILL
    matches = np.clip((matched.reliability - low) / (high - low), 0.0, 1.0).astype(np.float32)
    place = np.ones((LEAST_MATCH, LEAST_MATCH), np.uint8)
    still = np.stack([cv2.morphologyEx(frame, cv2.MORPH_OPEN, place) for frame in matches])

    from_others, colours = kernels.inverse_depth_from_others, kernels.colours_behind
    shared: tuple[Any, ...] = (lab, inverse_depth, trust, static)
    if device is not None:
        from das3r_ns.frontend.geometric.torch_kernels import arrays, behind

        from_others, colours = (
            arrays.on_device(kernel, device) for kernel in (behind.inverse_depth_from_others, behind.colours_behind)
        )
        shared = arrays.resident(device, *shared)
    pictures, depths, trusted, stay = shared

    def compared(t: int) -> tuple[Float[np.ndarray, "H W"], ...]:
        others = asked(t, len(images))
        those = others if device is None else arrays.moved(others, device)
        depth, support = from_others(
            depths[those], trusted[those], *into(matched, others, t), SHARE, AGREEMENT, FAR * middle
        )
        depth = np.where(support > SUPPORT, depth, inverse_depth[t])
        return colours(
            pictures[t],
            depth,
            pictures[those],
            stay[those],
            depths[those],
            *into(matched, t, others),
            SLACK * middle,
        )

    def judged(
        t: int, error: Float[np.ndarray, "H W"], spread: Float[np.ndarray, "H W"], seen: Float[np.ndarray, "H W"]
    ) -> tuple[Float[np.ndarray, "H W"], ...]:
        # What differs in every pixel is exposure, blur or noise; where witnesses disagree, the depth is wrong.
        excess = np.maximum(error - np.median(error), 0.0)
        change = excess / (excess + COLOUR_NOISE + 2.0 * cv2.blur(spread, (3, 3)))
        on_frame()
        witnessed = np.minimum(seen / WITNESSES, 1.0)
        stays, moves = (mean_around(still[t], counted) for counted in (static[t], ~static[t]))
        proves = np.maximum(1.0 - moves / np.maximum(MOVERS_MATCH * stays, 1e-6), 0.0)
        at_rest = still[t] * (1.0 - witnessed * change) * proves
        moved = 1.0 - still[t]
        believed = np.clip(FOLLOWED - moves / np.maximum(stays, 1e-3), 0.0, 1.0)
        return *(believed * m for m in (change * moved, witnessed, still[t], stays * moved, at_rest)), believed

    with ThreadPoolExecutor(max_workers=workers(locked=0.2)) as pool:
        if device is None:
            maps_of_frames = pool.map(lambda t: judged(t, *compared(t)), range(len(images)))
        else:  # it compares frame after frame here, while the threads judge those before
            futures = [pool.submit(judged, t, *compared(t)) for t in range(len(images))]
            maps_of_frames = (future.result() for future in futures)
        found = zip(*maps_of_frames, strict=True)
        return SecondLook(*(np.stack(maps) for maps in found))


def asked(t: int, count: int) -> Int[np.ndarray, " M"]:
    """The frames of a clip, of so many, that are asked about one."""
    return np.array([t + sign * k for k in OFFSETS for sign in (-1, 1) if 0 <= t + sign * k < count], int)


def mean_around(
    values: Float[np.ndarray, "H W"],
    counted: Bool[np.ndarray, "H W"] | Float[np.ndarray, "H W"],
    reach: float = AROUND,
) -> Float[np.ndarray, "H W"]:
    """Mean around each pixel over those that count, or as much as they do, 0 where hardly any does."""
    weight = counted.astype(np.float32)
    summed, total = (cv2.GaussianBlur(m, (0, 0), reach * max(values.shape)) for m in (values * weight, weight))
    return summed / np.maximum(total, 1e-3)


def into(
    cameras: RigidPrediction, source: int | Int[np.ndarray, " M"], target: int | Int[np.ndarray, " M"]
) -> tuple[Float[np.ndarray, "M 3 3"], Float[np.ndarray, "M 3"]]:
    """From pixels of one frame to those of others, or back: at infinity, and what inverse depth adds."""
    motion = geo.invert_rigid(cameras.c2w_cv[target]) @ cameras.c2w_cv[source]
    into = cameras.intrinsics[target]
    rays = into @ motion[..., :3, :3] @ np.linalg.inv(cameras.intrinsics[source])
    offsets = (into @ motion[..., :3, 3:])[..., 0]
    return rays.astype(np.float32), offsets.astype(np.float32)
