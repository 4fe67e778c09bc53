"""Compiled inner loops of the fusion of points."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8
from numba import njit

from das3r_ns.scene.geometry import MIN_DEPTH

LEAST_WEIGHT = 1e-3
"""Keeps guesses, of confidence 0, from weighing nothing at all."""


@njit(cache=True, nogil=True)
def _observe(p, u, v, depth, confidence, static, colour, lift, sums, xyz, votes_for):
    """A frame's depth, colour and static weight into the mean of point ``p``."""
    # A depth error grows with the square of the depth, the ground a pixel covers too: nearer frames know better.
    weight = (confidence + LEAST_WEIGHT) / (depth * depth)
    sums[p, 0] += weight
    for axis in range(3):
        ray = lift[axis, 0] * u + lift[axis, 1] * v + lift[axis, 2]
        sums[p, 1 + axis] += weight * (ray * depth + lift[axis, 3])
        sums[p, 4 + axis] += weight * colour[axis]
    sums[p, 7] += weight * static
    for axis in range(3):
        xyz[p, axis] = sums[p, 1 + axis] / sums[p, 0]
    votes_for[p] += confidence


@njit(cache=True, nogil=True)
def observe_known(
    project: Float[np.ndarray, "3 4"],
    lift: Float[np.ndarray, "3 4"],
    depth: Float[np.ndarray, "H W"],
    confidence: Float[np.ndarray, "H W"],
    tolerance: Float[np.ndarray, "H W"],
    static: Float[np.ndarray, "H W"],
    image: UInt8[np.ndarray, "H W 3"],
    selected: Bool[np.ndarray, "H W"],
    sums: Float[np.ndarray, "M 8"],
    xyz: Float[np.ndarray, "M 3"],
    votes_for: Float[np.ndarray, " M"],
    votes_against: Float[np.ndarray, " M"],
) -> Float[np.ndarray, "m 2"]:
    """Let one frame speak about the points found so far.

    A point whose depth agrees with the frame's takes that into its means; one that the frame sees through gets a vote
    against it.

    Args:
        project: World to the frame's picture, homogeneous pixels, float32.
        lift: Pixel to world: a ray for every unit of depth, and the camera's place.
        depth: The frame's.
        confidence: Of the depth.
        tolerance: Relative difference up to which two depths are of one surface.
        static: Static weight.
        image: The frame.
        selected: Pixels that have a say.
        sums: Weight | weighted x y z | weighted r g b | weighted static weight, of every point; added to.
        xyz: Their means; updated.
        votes_for: Confidence that speaks for each point; added to.
        votes_against: And against it; added to.

    Returns:
        Image coordinates of the points that agree.
    """
    height, width = depth.shape
    taken = np.empty((len(xyz), 2), np.float32)
    count = 0
    for p in range(len(xyz)):
        x, y, point_z = xyz[p, 0], xyz[p, 1], xyz[p, 2]
        z = project[2, 0] * x + project[2, 1] * y + project[2, 2] * point_z + project[2, 3]
        if not z > MIN_DEPTH:
            continue
        u = (project[0, 0] * x + project[0, 1] * y + project[0, 2] * point_z + project[0, 3]) / z
        v = (project[1, 0] * x + project[1, 1] * y + project[1, 2] * point_z + project[1, 3]) / z
        if not (u >= 0 and v >= 0 and u < width and v < height):
            continue
        row, column = int(v), int(u)
        if not selected[row, column]:
            continue
        there, allowed = depth[row, column], tolerance[row, column]
        if z < (1.0 - 2.0 * allowed) * there:
            votes_against[p] += confidence[row, column]
        if abs(z - there) < allowed * there:
            taken[count, 0], taken[count, 1] = u, v
            count += 1
            _observe(
                p, u, v, there, confidence[row, column], static[row, column], image[row, column], lift, sums, xyz,
                votes_for,
            )  # fmt: skip
    return taken[:count]


@njit(cache=True, nogil=True)
def observe_new(
    rows: Int64[np.ndarray, " m"],
    columns: Int64[np.ndarray, " m"],
    lift: Float[np.ndarray, "3 4"],
    depth: Float[np.ndarray, "H W"],
    confidence: Float[np.ndarray, "H W"],
    static: Float[np.ndarray, "H W"],
    image: UInt8[np.ndarray, "H W 3"],
    sums: Float[np.ndarray, "m 8"],
    xyz: Float[np.ndarray, "m 3"],
    votes_for: Float[np.ndarray, " m"],
) -> None:
    """Make points of a frame's pixels; arguments as in :func:`observe_known`, those of the new points empty."""
    for p in range(len(rows)):
        row, column = rows[p], columns[p]
        _observe(
            p, column + 0.5, row + 0.5, depth[row, column], confidence[row, column], static[row, column],
            image[row, column], lift, sums, xyz, votes_for,
        )  # fmt: skip
