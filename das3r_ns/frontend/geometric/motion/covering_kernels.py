"""Compiled inner loops: where a frame shows something before a surface that is nearer, and what is hidden rightly."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from numba import njit

from das3r_ns.frontend.geometric.motion.look_behind_kernels import bilinear, median, project
from das3r_ns.frontend.geometric.visible import MIN_Z


@njit(cache=True, nogil=True)
def covers_nearer(
    picture: Float[np.ndarray, "H W C"],
    inverse_depth: Float[np.ndarray, "H W"],
    nearer: Float[np.ndarray, "H W"],
    pictures: Float[np.ndarray, "M H W C"],
    surfaces: Float[np.ndarray, "M H W"],
    farthest: Float[np.ndarray, "M H W"],
    trust: Float[np.ndarray, "M H W"],
    later: Bool[np.ndarray, " M"],
    rays: Float[np.ndarray, "M 3 3"],
    offsets: Float[np.ndarray, "M 3"],
    tolerance: float,
    margin: float,
    far: float,
    noise: float,
    enough: float,
) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Ask other frames for what a frame covers, and for what covers it.

    Args:
        picture: The frame.
        inverse_depth: Of what it shows.
        nearer: Inverse depth of a surface that others have in its view, 0 where there is none.
        pictures: The other frames.
        surfaces: Their own inverse depth.
        farthest: The smallest of it around each pixel: an edge that is a pixel off hides nothing.
        trust: In that, 0 to 1; what is 0 is no witness.
        later: Whether each of them comes after the frame.
        rays: Homographies of the frame's pixels at infinity into those of the others.
        offsets: What is added to them per inverse depth.
        tolerance: Relative difference up to which two inverse depths are of one surface.
        margin: Relative difference from which one surface is nearer than another.
        far: Inverse depth below which differences count relative to this instead.
        noise: Difference in colour, summed over channels, that means nothing.
        enough: Trust of witnesses that counts in full.

    Returns:
        How surely a pixel covers a nearer surface: frames before and after it see that, and agree on its colour, which
        is another than the pixel's. And in what share of the other frames something nearer hides what the pixel shows,
        as it should be. Both 0 to 1.
    """
    count, height, width, channels = pictures.shape
    covers = np.zeros((height, width), dtype=np.float32)
    hidden = np.zeros((height, width), dtype=np.float32)
    colours = np.empty((count, channels), dtype=np.float32)
    middle = np.empty(channels, dtype=np.float32)
    values = np.empty(count, dtype=np.float32)
    for row in range(height):
        for col in range(width):
            own = inverse_depth[row, col]
            before_it, all_frames = 0.0, 0.0
            for m in range(count):
                z, u, v = project(col + 0.5, row + 0.5, own, rays[m], offsets[m])
                if z < MIN_Z or u < 0.5 or v < 0.5 or u > width - 0.5 or v > height - 0.5:
                    continue
                i, j = min(int(v), height - 1), min(int(u), width - 1)
                all_frames += trust[m, i, j]
                if farthest[m, i, j] - own / z > margin * max(farthest[m, i, j], far):
                    before_it += trust[m, i, j]
            if all_frames > 0.0:
                hidden[row, col] = before_it / all_frames
            d = nearer[row, col]
            if d - own <= margin * max(d, far):
                continue
            n = 0
            earlier_trust, later_trust, denied = 0.0, 0.0, 0.0
            for m in range(count):
                z, u, v = project(col + 0.5, row + 0.5, d, rays[m], offsets[m])
                if z < MIN_Z or u < 0.5 or v < 0.5 or u > width - 0.5 or v > height - 0.5:
                    continue
                i, j = min(int(v), height - 1), min(int(u), width - 1)
                there, seen = d / z, surfaces[m, i, j]
                if trust[m, i, j] > 0.0 and abs(seen - there) <= tolerance * max(there, far):
                    if later[m]:
                        later_trust += trust[m, i, j]
                    else:
                        earlier_trust += trust[m, i, j]
                    bilinear(pictures[m], u - 0.5, v - 0.5, colours[n])
                    n += 1
                elif seen < there:
                    denied += trust[m, i, j]
            witnessed = min(earlier_trust, later_trust)
            if witnessed <= 0.0:
                continue
            for m in range(n):
                values[m] = 0.0
                for k in range(channels):
                    values[m] += abs(colours[m, k] - picture[row, col, k])
            excess = max(median(values, n) - noise, 0.0)
            for k in range(channels):
                values[:n] = colours[:n, k]
                middle[k] = median(values, n)
            for m in range(n):
                values[m] = 0.0
                for k in range(channels):
                    values[m] += abs(colours[m, k] - middle[k])
            share = (earlier_trust + later_trust) / (earlier_trust + later_trust + denied)
            other = excess / (excess + noise + 2.0 * median(values, n))
            covers[row, col] = min(witnessed / enough, 1.0) * share * other
    return covers, hidden
