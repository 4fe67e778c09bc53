"""Multi-view stereo: the depth of every static pixel once the cameras are known, sharper than optical flow measures it.

Flow smears the edges of things and loses thin ones, and a Gaussian that starts off its surface stays there where few
frames see it. With the cameras known a pixel has one unknown only: the frame is compared with others at many depths (a
plane sweep, Collins, CVPR 1996), and the costs are made to agree between neighbours (semi-global matching).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np
from jaxtyping import Float, Shaped, UInt8, UInt64

from das3r_ns.frontend.geometric import stereo_kernels as kernels
from das3r_ns.frontend.geometric.bundle.known_poses import lenses
from das3r_ns.frontend.geometric.dense_depth import CLOSE, FAR, RELATIVE_ERROR_HALF, DenseDepth, Sight, agree_and_fill
from das3r_ns.frontend.geometric.sweep import (
    EDGE,
    JUMP_PENALTY,
    LIMIT,
    STEP_PENALTY,
    WINDOW,
    Sweep,
    plan_sweep,
)
from das3r_ns.scene import geometry as geo
from das3r_ns.workers import workers

if TYPE_CHECKING:
    import torch

Found: TypeAlias = tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]
"""Of a frame, as :func:`~das3r_ns.frontend.geometric.stereo_kernels.best_levels` has them."""

FARTHEST, NEAREST = (0.005, 0.5), (0.995, 1.3)
"""Quantile of the measured inverse depths, and what it is multiplied by, for the smallest and the largest one tried."""
SURE = 15.0
"""Margin over all other depths at which a match is believed entirely, in grey levels."""
MATCH_NOISE = 0.4
"""Pixels by which a match errs."""
MEASURED = 0.1
"""Confidence from which a depth counts: the one to start from, to tell the range; a match, to take its place."""
ENOUGH = 0.1
"""Share of the pixels whose depth must be known so before: with less there is hardly any parallax, and matches would
put noise where flow has a smooth guess."""
LONG_SIDE = 640
"""Longer side, in pixels, at which frames are matched at most: memory and time grow with its square."""
MEMORY = 250 << 20
"""Bytes that matching a frame takes at most."""
PRIOR_TRUST = 0.5
"""What the confidence of the depth to start from counts for where nothing matches. Flow that knows its way where no
colour matches has mostly been dragged along."""


@dataclass(frozen=True)
class Matches:
    """Depth of every frame as it was matched there alone, and what it takes to check the frames against each other."""

    frames: list[DenseDepth]
    """Of each frame, at the resolution of the matching."""
    sight: Sight
    """How they see each other."""
    images: UInt8[np.ndarray, "N H W 3"]
    """The frames at their own resolution."""

    def depth(
        self,
        static_weight: Float[np.ndarray, "N H W"] | None = None,
        on_frame: Callable[[], None] = lambda: None,
        device: torch.device | None = None,
    ) -> tuple[Float[np.ndarray, "N H W"], Float[np.ndarray, "N H W"]]:
        """Check the depths found against each other, and fill the gaps.

        Args:
            static_weight: Probability that each pixel is static; the depth of movers is not believed. None = all are.
            on_frame: Called once for each frame, for progress bars.
            device: Where to work in torch; None = compiled by numba, on the CPU.

        Returns:
            depth: Camera z, positive and finite, in the unit of the cameras.
            confidence: 0 (a guess) to 1.
        """
        frames = self.frames
        if static_weight is not None:
            height, width = frames[0].confidence.shape
            certainty = np.clip(2.0 * resized(static_weight, (width, height)) - 1.0, 0.0, 1.0)
            frames = [
                DenseDepth(frame.inverse_depth, (frame.confidence * sure).astype(np.float32))
                for frame, sure in zip(frames, certainty, strict=True)
            ]
        return agree_and_fill(frames, self.sight, self.images, CLOSE, on_frame, device)


def match_frames(
    images: UInt8[np.ndarray, "N H W 3"],
    intrinsics: Float[np.ndarray, "N 3 3"],
    c2w_cv: Float[np.ndarray, "N 4 4"],
    depth: Float[np.ndarray, "N H W"],
    confidence: Float[np.ndarray, "N H W"],
    static_weight: Float[np.ndarray, "N H W"] | None = None,
    on_frame: Callable[[], None] = lambda: None,
    device: torch.device | None = None,
) -> Matches | None:
    """Match every frame with others of enough parallax.

    Args:
        images: RGB frames.
        intrinsics: Camera matrix of each frame in its pixels.
        c2w_cv: Camera-to-world, OpenCV axes.
        depth: Camera z as it is known so far. It says how far and near to look, and stays where nothing matches.
        confidence: How well that is measured, 0 to 1.
        static_weight: Probability that each pixel is static, where that is certain: movers are not matched with. None =
            not known, and movers have to fail to match by themselves.
        on_frame: Called once for each frame, for progress bars.
        device: Where to work in torch; None = compiled by numba, on the CPU.

    Returns:
        The matches, or None where too little of the depth is known to look for any.
    """
    if (confidence > MEASURED).mean() < ENOUGH:
        return None
    known = 1.0 / depth[confidence > MEASURED]
    low, middle, high = (float(q) for q in np.quantile(known, (FARTHEST[0], 0.5, NEAREST[0])))
    span = (low * FARTHEST[1], high * NEAREST[1])
    full = (images.shape[2], images.shape[1])
    scale = min(1.0, LONG_SIDE / max(full))
    size = (round(full[0] * scale), round(full[1] * scale))
    pictures = resized(images, size)
    intrinsics = geo.resize_intrinsics(intrinsics, full, size)
    prior, trust = (resized(maps, size) for maps in (1.0 / depth, confidence))
    static = np.ones(prior.shape, bool) if static_weight is None else resized(static_weight, size) >= 0.5
    sweeps = [plan_sweep(i, intrinsics, c2w_cv, span, middle) for i in range(len(images))]

    def believed(sweep: Sweep, found: Found) -> DenseDepth:
        own, i = _judged(sweep, found, middle), sweep.frame
        matched = own.confidence > MEASURED
        inverse_depth = np.where(matched, own.inverse_depth, prior[i]).astype(np.float32)
        confidence = np.where(matched, own.confidence, PRIOR_TRUST * trust[i])
        on_frame()
        return DenseDepth(inverse_depth, confidence.astype(np.float32))

    if device is None:
        with ThreadPoolExecutor(max_workers=workers(MEMORY, locked=0.1)) as pool:
            words = kernels.packed(pictures, static)
            measured = list(pool.map(lambda sweep: believed(sweep, _match(sweep, pictures, words)), sweeps))
    else:
        from das3r_ns.frontend.geometric.torch_kernels.stereo import best_matches

        measured = list(map(believed, sweeps, best_matches(pictures, static, sweeps, device)))
    focal = float(np.median(intrinsics[:, 0, 0]))
    folded = lenses(intrinsics, geo.pinhole(focal, *size)) @ geo.invert_rigid(c2w_cv)
    sight = Sight(lambda i, others: folded[others] @ np.linalg.inv(folded[i]), focal, FAR * middle)
    return Matches(measured, sight, images)


def resized(maps: Shaped[np.ndarray, "N H W *c"], size: tuple[int, int]) -> Shaped[np.ndarray, "N h w *c"]:
    """Every map or picture at (width, height), areas averaged; as they are where that is their size."""
    if (maps.shape[2], maps.shape[1]) == size:
        return maps
    return np.stack([cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in maps])


def _match(sweep: Sweep, images: UInt8[np.ndarray, "N H W 3"], words: UInt64[np.ndarray, "N A"]) -> Found:
    """Position, margin and misfit of one frame's best levels."""
    image, others = images[sweep.frame], np.array(sweep.others)
    costs = kernels.matching_costs(image, words, others, sweep.rays, sweep.offsets, sweep.levels, LIMIT)
    costs = cv2.blur(costs, (WINDOW, WINDOW))
    total = kernels.semi_global_costs(costs, image.astype(np.float32), STEP_PENALTY, JUMP_PENALTY, EDGE)
    return kernels.best_levels(total, costs)


def _judged(sweep: Sweep, found: Found, middle: float) -> DenseDepth:
    """Inverse depth of one frame, and how far to believe it."""
    position, margin, misfit = found
    levels = sweep.levels
    inverse_depth = np.maximum(levels[0] + position * (levels[1] - levels[0]), 1e-3 * middle)
    # Far away an error counts relative to FAR of the middle, as everywhere.
    relative = MATCH_NOISE / max(sweep.widest, 1e-9) / np.maximum(inverse_depth, FAR * middle)
    confidence = np.clip(margin / SURE, 0.0, 1.0) * (1.0 - 0.6 * misfit / LIMIT)
    confidence /= 1.0 + (relative / RELATIVE_ERROR_HALF) ** 2
    return DenseDepth(inverse_depth.astype(np.float32), confidence.astype(np.float32))
