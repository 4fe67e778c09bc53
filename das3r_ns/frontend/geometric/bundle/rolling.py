"""Rolling shutter: the rows of a frame are read one after the other, while the camera goes on.

A row at y of a picture H high is seen s = r (y / H - 1/2) frame times after the middle one, whose pose is the frame's:
r is the read-out as a share of the frame time. What the camera does meanwhile is read off a smooth path through the
poses of all frames: row to middle row, the motion is exp(s a_i + s^2 b_i). A path that is smooth over several frames
sees a shake that one of two neighbours misses: of six frames a period their difference has 83 % of the velocity, the
cubic spline 99 %.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float
from numba import njit

from das3r_ns.scene import geometry as geo

HALF = 0.5
"""Frame times from the middle row to the last one of a shutter that reads all the time."""

REACH = 4
"""Frames to either side that the path through a frame looks at: what is further off has 1 % of a say."""

ENDS = 5
"""Frames whose polynomial gives the velocity at either end of the path."""


def row_motion(c2w_cv: Float[np.ndarray, "N 4 4"], times: Float[np.ndarray, " N"]) -> Float[np.ndarray, "N 2 6"]:
    """What every camera does while it reads a frame: a_i and b_i, tangents (translation, rotation) per frame time.

    Args:
        c2w_cv: Poses of the middle rows, two frames or more.
        times: When, in frame times, ascending.
    """
    weights = _half_frames(tuple(times.tolist()))
    rows, columns = np.nonzero(weights.any(axis=1))
    tangents = geo.se3_log(geo.invert_rigid(c2w_cv)[rows] @ c2w_cv[columns])
    before, after = np.zeros((2, len(times), 6))
    np.add.at(before, rows, weights[rows, 0, columns, None] * tangents)
    np.add.at(after, rows, weights[rows, 1, columns, None] * tangents)
    return np.stack([(after - before) / (2 * HALF), (after + before) / (2 * HALF**2)], axis=1)


@lru_cache(maxsize=4)
def _half_frames(times: tuple[float, ...]) -> Float[np.ndarray, "N 2 N"]:
    """Weights of all poses, as tangents at the frame's own, in those half a frame time before and after each frame.

    Of the cubic spline through the poses around the frame, whose ends go on as the polynomial through ENDS of them.
    """
    from scipy.interpolate import CubicSpline, KroghInterpolator

    count, when = len(times), np.array(times)
    out = np.zeros((count, 2, count))
    for i in range(count):
        near = slice(max(0, i - REACH), i + REACH + 1)
        knots = when[near] - when[i]
        values, reach = np.eye(len(knots)), min(ENDS, len(knots))
        first = KroghInterpolator(knots[:reach], values[:reach]).derivative(knots[0])
        last = KroghInterpolator(knots[-reach:], values[-reach:]).derivative(knots[-1])
        ends: Any = ((1, first), (1, last))  # of derivatives; the stub knows names only
        out[i, :, near] = CubicSpline(knots, values, bc_type=ends)([-HALF, HALF])
    return out


@njit(cache=True, nogil=True, fastmath=False)
def levelled(
    points: Float[np.ndarray, "M K 2"],
    moments: Float[np.ndarray, "M K"],
    inverse_depth: Float[np.ndarray, "M K"],
    motion: Float[np.ndarray, "M 2 6"],
    readout: float,
    focal: float,
    centre: Float[np.ndarray, " 2"],
) -> tuple[Float[np.ndarray, "M K 2"], Float[np.ndarray, "M K 2"]]:
    """Where the camera of the middle row shows what these rows show, and how that changes with the read-out.

    Args:
        points: Image coordinates of a pinhole.
        moments: y / H - 1/2 of the rows that saw them.
        inverse_depth: Of what they show.
        motion: From :func:`row_motion`, a row of points each.
        readout: r.
        focal: In pixels.
        centre: Principal point.

    Returns:
        Image coordinates, and their derivatives for the read-out; float32.
    """
    rows, count = points.shape[:2]
    out = np.empty((rows, count, 2), dtype=np.float32)
    slopes = np.empty((rows, count, 2), dtype=np.float32)
    for m in range(rows):
        a, b = motion[m, 0], motion[m, 1]
        for k in range(count):
            rho = moments[m, k]
            s = readout * rho
            x = (points[m, k, 0] - centre[0]) / focal
            y = (points[m, k, 1] - centre[1]) / focal
            d = inverse_depth[m, k]
            wx, wy, wz = s * (a[3] + s * b[3]), s * (a[4] + s * b[4]), s * (a[5] + s * b[5])
            # R v = v + w x v + w x (w x v) / 2, to the third power of an angle of a few degrees.
            cx, cy, cz = wy - wz * y, wz * x - wx, wx * y - wy * x
            qx = x + cx + 0.5 * (wy * cz - wz * cy) + s * (a[0] + s * b[0]) * d
            qy = y + cy + 0.5 * (wz * cx - wx * cz) + s * (a[1] + s * b[1]) * d
            qz = 1.0 + cz + 0.5 * (wx * cy - wy * cx) + s * (a[2] + s * b[2]) * d
            px, py = qx / qz, qy / qz
            out[m, k, 0] = focal * px + centre[0]
            out[m, k, 1] = focal * py + centre[1]
            vx, vy, vz = a[3] + 2 * s * b[3], a[4] + 2 * s * b[4], a[5] + 2 * s * b[5]
            dx = vy * qz - vz * qy + (a[0] + 2 * s * b[0]) * d
            dy = vz * qx - vx * qz + (a[1] + 2 * s * b[1]) * d
            dz = vx * qy - vy * qx + (a[2] + 2 * s * b[2]) * d
            slopes[m, k, 0] = rho * focal * (dx - px * dz) / qz
            slopes[m, k, 1] = rho * focal * (dy - py * dz) / qz
    return out, slopes
