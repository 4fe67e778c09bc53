"""What a plane sweep compares: which frames, at which depths, and what a match costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from das3r_ns.scene import geometry as geo

PARALLAX = (4.0, 8.0, 16.0, 32.0)
"""How far the middle depth should shift from the frame to those it is compared with, before and after it, in pixels:
little enough to see the same things, even through a gap that moves with a mover; enough to tell their depths apart."""
LEVELS = (32, 96)
"""Fewest and most depths that are tried."""
LEVEL_STEP = 1.5
"""Pixels from one depth to the next in the frame furthest away."""
LIMIT = 20.0
"""Largest cost of a pixel, in grey levels summed over three channels: beyond it is another thing."""
STEP_PENALTY, JUMP_PENALTY, EDGE = 6.0, 60.0, 30.0
"""See :func:`~das3r_ns.frontend.geometric.stereo_kernels.semi_global_costs`."""
WINDOW = 3
"""Side of the window over which costs are averaged first, in pixels."""


@dataclass(frozen=True)
class Sweep:
    """The comparison of one frame with others at many depths."""

    frame: int
    """The frame."""
    others: list[int]
    """Those it is compared with."""
    levels: Float[np.ndarray, " L"]
    """Inverse depths, evenly apart, float32."""
    rays: Float[np.ndarray, "M 3 3"]
    """From image coordinates here to homogeneous ones in each of the others, for points at infinity, float32."""
    offsets: Float[np.ndarray, "M 3"]
    """What one unit of inverse depth adds to that, float32."""
    widest: float
    """Pixels by which a unit of inverse depth shifts a point in the frame furthest away."""


def plan_sweep(
    i: int,
    intrinsics: Float[np.ndarray, "N 3 3"],
    c2w_cv: Float[np.ndarray, "N 4 4"],
    span: tuple[float, float],
    middle: float,
) -> Sweep:
    """What to compare frame i with.

    Args:
        i: The frame.
        intrinsics: Camera matrix of each frame in its pixels.
        c2w_cv: Camera-to-world, OpenCV axes.
        span: Smallest and largest inverse depth.
        middle: Median inverse depth.
    """
    shift = intrinsics[i, 0, 0] * np.linalg.norm(c2w_cv[:, :3, 3] - c2w_cv[i, :3, 3], axis=-1)
    others = sources(i, shift * middle, PARALLAX)
    widest = float(shift[others].max())
    count = int(np.clip(widest * (span[1] - span[0]) / LEVEL_STEP, *LEVELS))
    levels = np.linspace(*span, count, dtype=np.float32)
    motion = geo.invert_rigid(c2w_cv[others]) @ c2w_cv[i]
    rays = intrinsics[others] @ motion[:, :3, :3] @ np.linalg.inv(intrinsics[i])
    offsets = np.einsum("mij,mj->mi", intrinsics[others], motion[:, :3, 3])
    return Sweep(i, others, levels, rays.astype(np.float32), offsets.astype(np.float32), widest)


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
