"""What no frame of a video ever shows: judged by reprojecting the rendered depth."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from das3r_ns.scene.geometry import invert_rigid, project, transform_points, unproject

SAME_DEPTH = 0.05
"""Relative difference up to which two rendered depths are of one surface."""


def ever_seen(
    number: int,
    wanted: Bool[np.ndarray, "H W"],
    shown: Bool[np.ndarray, "N H W"],
    depth: Float[np.ndarray, "N H W"],
    intrinsics: Float[np.ndarray, "N 3 3"],
    c2w_cv: Float[np.ndarray, "N 4 4"],
) -> Bool[np.ndarray, "H W"]:
    """Which pixels of a frame show a static point that some frame sees.

    A point is seen by a frame where it projects into its picture onto a pixel that shows the static scene, at the depth
    rendered there.

    Args:
        number: The frame.
        wanted: Pixels to judge.
        shown: Pixels of every frame at which nothing moves in front of the static scene.
        depth: Camera z of the static scene in every frame.
        intrinsics: Of every frame.
        c2w_cv: Of every frame.

    Returns:
        True where seen; False outside ``wanted``.
    """
    seen = wanted & shown[number]
    rows, columns = np.nonzero(wanted & ~seen)
    centres = np.stack([columns, rows], axis=-1) + 0.5
    points = transform_points(c2w_cv[number], unproject(centres, depth[number][rows, columns], intrinsics[number]))
    height, width = wanted.shape
    # Near frames first: they see most, and what is seen once need not be looked for again.
    for other in sorted(range(len(shown)), key=lambda frame: abs(frame - number))[1:]:
        if len(points) == 0:
            break
        xy, z = project(transform_points(invert_rigid(c2w_cv[other]), points), intrinsics[other])
        at = np.floor(np.clip(xy, -1, (width, height))).astype(np.int64)
        inside = (z > 0) & (at >= 0).all(axis=-1) & (at[:, 0] < width) & (at[:, 1] < height)
        at[~inside] = 0
        found = inside & shown[other][at[:, 1], at[:, 0]]
        found &= np.abs(depth[other][at[:, 1], at[:, 0]] - z) < SAME_DEPTH * z
        seen[rows[found], columns[found]] = True
        points, rows, columns = points[~found], rows[~found], columns[~found]
    return seen
