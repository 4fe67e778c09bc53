"""Compiled inner loops: which other frames see a surface where it is, and which look through its place."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from numba import njit

from das3r_ns.frontend.geometric.motion.look_behind_kernels import bilinear, project
from das3r_ns.frontend.geometric.visible import MIN_Z


@njit(cache=True, nogil=True)
def seen_there_and_gone(
    picture: Float[np.ndarray, "H W C"],
    inverse_depth: Float[np.ndarray, "H W"],
    pictures: Float[np.ndarray, "M H W C"],
    static: Bool[np.ndarray, "M H W"],
    surfaces: Float[np.ndarray, "M H W"],
    nearest: Float[np.ndarray, "M H W"],
    trust: Float[np.ndarray, "M H W"],
    rays: Float[np.ndarray, "M 3 3"],
    offsets: Float[np.ndarray, "M 3"],
    tolerance: float,
    far: float,
    noise: float,
    step: int,
) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """Ask other frames for the surface that a frame shows: is it there, or does one see past its place?

    A frame in which something nearer hides the place, or that shows a mover there, knows nothing of it.

    Args:
        picture: The frame.
        inverse_depth: Of what it shows.
        pictures: The other frames.
        static: Where they show what stands still.
        surfaces: Their own inverse depth.
        nearest: The largest of it around each pixel: an edge that is a pixel off is no view past it.
        trust: Of that depth, 0 to 1.
        rays: Homographies of the frame's pixels at infinity into those of the others.
        offsets: What is added to them per inverse depth.
        tolerance: Relative difference up to which two inverse depths are of one surface.
        far: Inverse depth below which differences count relative to this instead.
        noise: Difference in colour, summed over channels, at which it counts half for another thing.
        step: Look at every so many rows and columns only.

    Returns:
        Trust of the frames that see the surface in its place, and of those that see past it something of another
        colour; both at every ``step``-th pixel.
    """
    count, height, width, channels = pictures.shape
    there = np.zeros((-(-height // step), -(-width // step)), dtype=np.float32)
    gone = np.zeros_like(there)
    colour = np.empty(channels, dtype=np.float32)
    for row in range(0, height, step):
        for col in range(0, width, step):
            d = inverse_depth[row, col]
            for m in range(count):
                z, u, v = project(col + 0.5, row + 0.5, d, rays[m], offsets[m])
                if z < MIN_Z or u < 0.5 or v < 0.5 or u > width - 0.5 or v > height - 0.5:
                    continue
                i, j = min(int(v), height - 1), min(int(u), width - 1)
                expected = d / z
                slack = tolerance * max(expected, far)
                if not static[m, i, j] or surfaces[m, i, j] > expected + slack:
                    continue
                bilinear(pictures[m], u - 0.5, v - 0.5, colour)
                difference = 0.0
                for k in range(channels):
                    difference += abs(colour[k] - picture[row, col, k])
                other = difference * difference / (difference * difference + noise * noise)
                if nearest[m, i, j] < expected - slack:
                    gone[row // step, col // step] += trust[m, i, j] * other
                else:
                    there[row // step, col // step] += trust[m, i, j] * (1.0 - other)
    return there, gone
