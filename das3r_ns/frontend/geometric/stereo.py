"""Multi-view stereo: the depth of every static pixel once the cameras are known, sharper than optical flow measures it.

Flow smears the edges of things and loses thin ones, and a Gaussian that starts off its surface stays there where few
frames see it. With the cameras known a pixel has one unknown only: the frame is compared with others at many depths (a
plane sweep, Collins, CVPR 1996), and the costs are made to agree between neighbours (semi-global matching).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8

from das3r_ns.frontend.geometric import stereo_kernels as kernels
from das3r_ns.frontend.geometric.bundle.known_poses import lenses
from das3r_ns.frontend.geometric.dense_depth import CLOSE, FAR, RELATIVE_ERROR_HALF, DenseDepth, Sight, agree_and_fill
from das3r_ns.scene import geometry as geo
from das3r_ns.workers import workers

PARALLAX = (4.0, 8.0, 16.0, 32.0)
"""How far the middle depth should shift from the frame to those it is compared with, before and after it, in pixels:
little enough to see the same things, even through a gap that moves with a mover; enough to tell their depths apart."""
LEVELS = (32, 96)
"""Fewest and most depths that are tried."""
LEVEL_STEP = 1.5
"""Pixels from one depth to the next in the frame furthest away."""
FARTHEST, NEAREST = (0.005, 0.5), (0.995, 1.3)
"""Quantile of the measured inverse depths, and what it is multiplied by, for the smallest and the largest one tried."""
LIMIT = 20.0
"""Largest cost of a pixel, in grey levels summed over three channels: beyond it is another thing."""
STEP_PENALTY, JUMP_PENALTY, EDGE = 6.0, 60.0, 30.0
"""See :func:`~das3r_ns.frontend.geometric.stereo_kernels.semi_global_costs`."""
WINDOW = 3
"""Side of the window over which costs are averaged first, in pixels."""
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
        self, static_weight: Float[np.ndarray, "N H W"] | None = None, on_frame: Callable[[], None] = lambda: None
    ) -> tuple[Float[np.ndarray, "N H W"], Float[np.ndarray, "N H W"]]:
        """Check the depths found against each other, and fill the gaps.

        Args:
            static_weight: Probability that each pixel is static; the depth of movers is not believed. None = all are.
            on_frame: Called once for each frame, for progress bars.

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
        return agree_and_fill(frames, self.sight, self.images, CLOSE, on_frame)


def match_frames(
    images: UInt8[np.ndarray, "N H W 3"],
    intrinsics: Float[np.ndarray, "N 3 3"],
    c2w_cv: Float[np.ndarray, "N 4 4"],
    depth: Float[np.ndarray, "N H W"],
    confidence: Float[np.ndarray, "N H W"],
    static_weight: Float[np.ndarray, "N H W"] | None = None,
    on_frame: Callable[[], None] = lambda: None,
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
    with ThreadPoolExecutor(max_workers=workers(MEMORY)) as pool:

        def measure(i: int) -> DenseDepth:
            found = _match(i, pictures, static, intrinsics, c2w_cv, span, middle)
            matched = found.confidence > MEASURED
            inverse_depth = np.where(matched, found.inverse_depth, prior[i]).astype(np.float32)
            believed = np.where(matched, found.confidence, PRIOR_TRUST * trust[i])
            on_frame()
            return DenseDepth(inverse_depth, believed.astype(np.float32))

        measured = list(pool.map(measure, range(len(images))))
    focal = float(np.median(intrinsics[:, 0, 0]))
    folded = lenses(intrinsics, geo.pinhole(focal, *size)) @ geo.invert_rigid(c2w_cv)
    sight = Sight(lambda i, others: folded[others] @ np.linalg.inv(folded[i]), focal, FAR * middle)
    return Matches(measured, sight, images)


def resized(maps: Shaped[np.ndarray, "N H W *c"], size: tuple[int, int]) -> Shaped[np.ndarray, "N h w *c"]:
    """Every map or picture at (width, height), areas averaged; as they are where that is their size."""
    if (maps.shape[2], maps.shape[1]) == size:
        return maps
    return np.stack([cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in maps])


def sources(i: int, parallax: Float[np.ndarray, " N"], wanted: tuple[float, ...]) -> list[int]:
    """Frames before and after a frame whose parallax is nearest to what is wanted.

    Args:
        i: The frame.
        parallax: Of every frame to it.
        wanted: Parallaxes, in the same unit.
    """
    chosen: list[int] = []
    for side in (range(i), range(i + 1, len(parallax))):
        for target in wanted if len(side) else ():
            nearest = min(side, key=lambda j: abs(np.log((parallax[j] + 1e-9) / target)))
            if nearest not in chosen:
                chosen.append(nearest)
    return chosen


def _match(
    i: int,
    images: UInt8[np.ndarray, "N H W 3"],
    static: Bool[np.ndarray, "N H W"],
    intrinsics: Float[np.ndarray, "N 3 3"],
    c2w_cv: Float[np.ndarray, "N 4 4"],
    span: tuple[float, float],
    middle: float,
) -> DenseDepth:
    """Inverse depth of one frame, and how far to believe it."""
    shift = intrinsics[i, 0, 0] * np.linalg.norm(c2w_cv[:, :3, 3] - c2w_cv[i, :3, 3], axis=-1)
    others = sources(i, shift * middle, PARALLAX)
    widest = float(shift[others].max())
    count = int(np.clip(widest * (span[1] - span[0]) / LEVEL_STEP, *LEVELS))
    levels = np.linspace(*span, count, dtype=np.float32)
    motion = geo.invert_rigid(c2w_cv[others]) @ c2w_cv[i]
    rays = intrinsics[others] @ motion[:, :3, :3] @ np.linalg.inv(intrinsics[i])
    offsets = np.einsum("mij,mj->mi", intrinsics[others], motion[:, :3, 3])
    image = images[i].astype(np.float32)
    costs = kernels.matching_costs(
        image,
        images[others].astype(np.float32),
        static[others],
        rays.astype(np.float32),
        offsets.astype(np.float32),
        levels,
        LIMIT,
    )
    costs = cv2.blur(costs, (WINDOW, WINDOW))
    total = kernels.semi_global_costs(costs, image, STEP_PENALTY, JUMP_PENALTY, EDGE)
    position, margin, misfit = kernels.best_levels(total, costs)
    inverse_depth = np.maximum(levels[0] + position * (levels[1] - levels[0]), 1e-3 * middle)
    # Far away an error counts relative to FAR of the middle, as everywhere.
    relative = MATCH_NOISE / max(widest, 1e-9) / np.maximum(inverse_depth, FAR * middle)
    confidence = np.clip(margin / SURE, 0.0, 1.0) * (1.0 - 0.6 * misfit / LIMIT)
    confidence /= 1.0 + (relative / RELATIVE_ERROR_HALF) ** 2
    return DenseDepth(inverse_depth.astype(np.float32), confidence.astype(np.float32))
