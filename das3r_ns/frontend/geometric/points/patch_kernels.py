"""Patches around corners and where they lie in another frame, to a fraction of a pixel."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8
from numba import njit

RADIUS = 5
"""Half side of a patch: 11 x 11 pixels."""

ITERATIONS = 12
"""Most steps of an alignment at one level of the pyramid."""

CONVERGED = 0.01
"""Step in pixels below which an alignment has arrived."""

MIN_CONTRAST = 2.0
"""Standard deviation in grey levels below which a patch shows nothing to hold on to."""


@njit(cache=True, nogil=True, fastmath=False)
def _sample(image: UInt8[np.ndarray, "H W"], x: float, y: float) -> float:
    """Grey level between pixels, bilinear; the caller sees to it that all four lie in the picture."""
    c = int(x)
    r = int(y)
    a = x - c
    b = y - r
    top = (1.0 - a) * image[r, c] + a * image[r, c + 1]
    bottom = (1.0 - a) * image[r + 1, c] + a * image[r + 1, c + 1]
    return (1.0 - b) * top + b * bottom


@njit(cache=True, nogil=True, fastmath=False)
def align_patches(
    source: UInt8[np.ndarray, "H W"],
    target: UInt8[np.ndarray, "H W"],
    points: Float[np.ndarray, "K 2"],
    start: Float[np.ndarray, "K 2"],
    affine: Float[np.ndarray, "K 2 2"],
    reach: float,
) -> tuple[Float[np.ndarray, "K 2"], Float[np.ndarray, " K"]]:
    """Where the patches around points of one frame lie in another one.

    Inverse compositional alignment (Baker and Matthews, IJCV 2004) of a shift alone, with the shape of the patch given
    and with its mean and contrast free, so that a change of exposure does no harm.

    Args:
        source: Grey frame of the points.
        target: Grey frame they are sought in.
        points: Image coordinates in ``source``, first pixel centre at (0.5, 0.5).
        start: Where they are expected in ``target``.
        affine: How small displacements in ``source`` appear in ``target``.
        reach: Pixels of ``target`` by which a point may lie off ``start``.

    Returns:
        Image coordinates in ``target``, and the correlation of the patches, -1 to 1; -1 where a patch leaves its
        picture, shows nothing, or slips out of reach (the coordinates are those of ``start`` then).
    """
    height, width = source.shape
    rows, columns = target.shape
    count = points.shape[0]
    side = 2 * RADIUS + 1
    area = side * side
    found = start.copy()
    correlation = np.full(count, -1.0)
    wide = np.empty((side + 2, side + 2))
    template = np.empty(area)
    gx = np.empty(area)
    gy = np.empty(area)
    seen = np.empty(area)
    for k in range(count):
        if not (0.0 <= start[k, 0] <= columns and 0.0 <= start[k, 1] <= rows):
            continue
        px = points[k, 0] - 0.5
        py = points[k, 1] - 0.5
        margin = RADIUS + 1
        if px < margin or py < margin or px > width - margin - 1.001 or py > height - margin - 1.001:
            continue
        for r in range(side + 2):
            for c in range(side + 2):
                wide[r, c] = _sample(source, px + c - margin, py + r - margin)
        mean = 0.0
        for r in range(side):
            for c in range(side):
                n = r * side + c
                template[n] = wide[r + 1, c + 1]
                gx[n] = 0.5 * (wide[r + 1, c + 2] - wide[r + 1, c])
                gy[n] = 0.5 * (wide[r + 2, c + 1] - wide[r, c + 1])
                mean += template[n]
        mean /= area
        mx = gx.mean()
        my = gy.mean()
        norm = 0.0
        hxx = 0.0
        hxy = 0.0
        hyy = 0.0
        for n in range(area):
            template[n] -= mean
            norm += template[n] * template[n]
            gx[n] -= mx
            gy[n] -= my
            hxx += gx[n] * gx[n]
            hxy += gx[n] * gy[n]
            hyy += gy[n] * gy[n]
        determinant = hxx * hyy - hxy * hxy
        if norm < area * MIN_CONTRAST**2 or determinant <= 1e-6 * (hxx + hyy) ** 2:
            continue
        a00, a01, a10, a11 = affine[k, 0, 0], affine[k, 0, 1], affine[k, 1, 0], affine[k, 1, 1]
        ex = RADIUS * (abs(a00) + abs(a01))
        ey = RADIUS * (abs(a10) + abs(a11))
        qx = start[k, 0] - 0.5
        qy = start[k, 1] - 0.5
        value = -1.0
        for _ in range(ITERATIONS):
            if not (qx >= ex and qy >= ey and qx <= columns - 1.001 - ex and qy <= rows - 1.001 - ey):
                value = -1.0
                break
            total = 0.0
            n = 0
            for r in range(-RADIUS, RADIUS + 1):
                for c in range(-RADIUS, RADIUS + 1):
                    seen[n] = _sample(target, qx + a00 * c + a01 * r, qy + a10 * c + a11 * r)
                    total += seen[n]
                    n += 1
            total /= area
            own = 0.0
            cross = 0.0
            for n in range(area):
                seen[n] -= total
                own += seen[n] * seen[n]
                cross += seen[n] * template[n]
            if own < area * MIN_CONTRAST**2 or cross <= 0.0:
                value = -1.0
                break
            value = cross / np.sqrt(own * norm)
            gain = norm / cross
            bx = 0.0
            by = 0.0
            for n in range(area):
                error = gain * seen[n] - template[n]
                bx += gx[n] * error
                by += gy[n] * error
            dx = (hyy * bx - hxy * by) / determinant
            dy = (hxx * by - hxy * bx) / determinant
            sx = a00 * dx + a01 * dy
            sy = a10 * dx + a11 * dy
            qx -= sx
            qy -= sy
            if sx * sx + sy * sy < CONVERGED**2:
                break
        moved = (qx + 0.5 - start[k, 0]) ** 2 + (qy + 0.5 - start[k, 1]) ** 2
        if value > -1.0 and moved <= reach * reach:
            found[k, 0] = qx + 0.5
            found[k, 1] = qy + 0.5
            correlation[k] = value
    return found, correlation
