"""Patches around corners and where they lie in another frame, to a fraction of a pixel.

Loops over the pixels of a patch stand in functions of their own, for the compiler to make vector instructions of them;
only what is fetched from a picture comes one by one.
"""

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

AREA = (2 * RADIUS + 1) ** 2
"""Pixels of a patch."""

FAST = {"nnan", "ninf", "nsz", "reassoc", "contract"}
"""Fast arithmetic but for approximate reciprocals."""


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _template(image, x, y, wide, patch, gx, gy):
    """The patch around (x, y), from the centre of the first pixel, and its slopes, all without their means.

    Returns:
        Sums of squares: of the patch, and of its slopes (xx, xy, yy).
    """
    side, width = 2 * RADIUS + 1, 2 * RADIUS + 3
    first_col, first_row = int(x) - RADIUS - 1, int(y) - RADIUS - 1
    a, b = x - int(x), y - int(y)
    for r in range(width):
        for c in range(width):
            row, col = first_row + r, first_col + c
            top = (1.0 - a) * image[row, col] + a * image[row, col + 1]
            bottom = (1.0 - a) * image[row + 1, col] + a * image[row + 1, col + 1]
            wide[r * width + c] = (1.0 - b) * top + b * bottom
    mean, mean_x, mean_y = 0.0, 0.0, 0.0
    for r in range(side):
        for c in range(side):
            n, at = r * side + c, (r + 1) * width + 1 + c
            patch[n] = wide[at]
            gx[n] = 0.5 * (wide[at + 1] - wide[at - 1])
            gy[n] = 0.5 * (wide[at + width] - wide[at - width])
            mean += patch[n]
            mean_x += gx[n]
            mean_y += gy[n]
    norm, hxx, hxy, hyy = 0.0, 0.0, 0.0, 0.0
    for n in range(AREA):
        patch[n] -= mean / AREA
        gx[n] -= mean_x / AREA
        gy[n] -= mean_y / AREA
        norm += patch[n] * patch[n]
        hxx += gx[n] * gx[n]
        hxy += gx[n] * gy[n]
        hyy += gy[n] * gy[n]
    return norm, hxx, hxy, hyy


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _places(x, y, dx, dy, columns, at, right, below):
    """Number of the pixel in which each place (x + dx, y + dy) lies, and what is left of its coordinates."""
    for n in range(AREA):
        u, v = x + dx[n], y + dy[n]
        col, row = np.int32(u), np.int32(v)
        at[n] = row * columns + col
        right[n] = u - col
        below[n] = v - row


@njit(cache=True, nogil=True)
def _fetch(image, at, columns, corners):
    """The grey levels of those pixels, of those on their right, below, and both."""
    one, area = np.uintp(1), np.uintp(AREA)
    for k in range(AREA):
        i, n = np.uintp(at[k]), np.uintp(k)
        corners[n] = image[i]
        corners[n + area] = image[i + one]
        corners[n + area + area] = image[i + columns]
        corners[n + area + area + area] = image[i + columns + one]


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _between(corners, right, below, seen):
    """Grey levels between pixels, bilinear; returns their mean."""
    total = 0.0
    area = np.uintp(AREA)
    for k in range(AREA):
        n = np.uintp(k)
        a, b = right[k], below[k]
        top = (1.0 - a) * corners[n] + a * corners[n + area]
        bottom = (1.0 - a) * corners[n + area + area] + a * corners[n + area + area + area]
        seen[k] = (1.0 - b) * top + b * bottom
        total += seen[k]
    return total / AREA


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _correlate(seen, mean, patch):
    """Sums of the squares of what is seen, without its mean, and of its products with the patch."""
    own, cross = 0.0, 0.0
    for n in range(AREA):
        seen[n] -= mean
        own += seen[n] * seen[n]
        cross += seen[n] * patch[n]
    return own, cross


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _slope(seen, patch, gx, gy, gain):
    """How the difference of the two changes with a shift."""
    bx, by = 0.0, 0.0
    for n in range(AREA):
        error = gain * seen[n] - patch[n]
        bx += gx[n] * error
        by += gy[n] * error
    return bx, by


@njit(cache=True, nogil=True, error_model="numpy")
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
    found = start.copy()
    correlation = np.full(count, -1.0)
    wide = np.empty((2 * RADIUS + 3) ** 2)
    patch, gx, gy, seen = np.empty(AREA), np.empty(AREA), np.empty(AREA), np.empty(AREA)
    dx, dy, right, below = np.empty(AREA), np.empty(AREA), np.empty(AREA), np.empty(AREA)
    at, corners = np.empty(AREA, np.int32), np.empty(4 * AREA, np.uint8)
    flat, stride = target.reshape(-1), np.uintp(columns)
    for k in range(count):
        if not (0.0 <= start[k, 0] <= columns and 0.0 <= start[k, 1] <= rows):
            continue
        px = points[k, 0] - 0.5
        py = points[k, 1] - 0.5
        margin = RADIUS + 1
        if px < margin or py < margin or px > width - margin - 1.001 or py > height - margin - 1.001:
            continue
        norm, hxx, hxy, hyy = _template(source, px, py, wide, patch, gx, gy)
        determinant = hxx * hyy - hxy * hxy
        if norm < AREA * MIN_CONTRAST**2 or determinant <= 1e-6 * (hxx + hyy) ** 2:
            continue
        a00, a01, a10, a11 = affine[k, 0, 0], affine[k, 0, 1], affine[k, 1, 0], affine[k, 1, 1]
        ex = RADIUS * (abs(a00) + abs(a01))
        ey = RADIUS * (abs(a10) + abs(a11))
        qx = start[k, 0] - 0.5
        qy = start[k, 1] - 0.5
        n = 0
        for r in range(-RADIUS, RADIUS + 1):
            for c in range(-RADIUS, RADIUS + 1):
                dx[n] = a00 * c + a01 * r
                dy[n] = a10 * c + a11 * r
                n += 1
        value = -1.0
        for _ in range(ITERATIONS):
            if not (qx >= ex and qy >= ey and qx <= columns - 1.001 - ex and qy <= rows - 1.001 - ey):
                value = -1.0
                break
            _places(qx, qy, dx, dy, np.int32(columns), at, right, below)
            _fetch(flat, at, stride, corners)
            own, cross = _correlate(seen, _between(corners, right, below, seen), patch)
            if own < AREA * MIN_CONTRAST**2 or cross <= 0.0:
                value = -1.0
                break
            value = cross / np.sqrt(own * norm)
            bx, by = _slope(seen, patch, gx, gy, norm / cross)
            shift_x = (hyy * bx - hxy * by) / determinant
            shift_y = (hxx * by - hxy * bx) / determinant
            sx = a00 * shift_x + a01 * shift_y
            sy = a10 * shift_x + a11 * shift_y
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
