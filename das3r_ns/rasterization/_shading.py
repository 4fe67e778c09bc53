"""Kernels: the channels each splat blends (colours, extra channels, depth), and the gradient back.

Colours are spherical harmonics in the direction from the camera, in the order and with the signs of gsplat and 3DGS:
coefficient l^2 + l + m is P_lm(z) Re (x + iy)^m for m >= 0 and P_l|m|(z) Im (x + iy)^|m| for m < 0.
The basis: P.-P. Sloan, Efficient Spherical Harmonic Evaluation, JCGT 2(2), 2013.
"""

import math

import numpy as np

from das3r_ns.rasterization._threads import device, kernel

MAX_DEGREE = 4
_BLOCK = 256  # Gaussians per item of work; the gradient of the camera centres has one partial sum per block
_HALF, _ZERO = np.float32(0.5), np.float32(0.0)
_SPLAT = 11  # columns of geometry before the channels, see _projection


@device
def _polynomials(degree, z, p, dp):
    """P_lm(z) and its derivative, entry l (l + 1) / 2 + m."""
    p[0], dp[0] = 0.2820947917738781, 0.0
    if degree > 0:
        p[1], dp[1] = 0.48860251190292 * z, 0.48860251190292
        p[2], dp[2] = -0.48860251190292, 0.0
    if degree > 1:
        p[3], dp[3] = 0.9461746957575601 * z * z - 0.3153915652525201, 1.8923493915151202 * z
        p[4], dp[4] = -1.092548430592079 * z, -1.092548430592079
        p[5], dp[5] = 0.5462742152960395, 0.0
    if degree > 2:
        p[6] = z * (1.865881662950577 * z * z - 1.119528997770346)
        dp[6] = 5.597644988851731 * z * z - 1.119528997770346
        p[7], dp[7] = -2.285228997322329 * z * z + 0.4570457994644658, -4.570457994644658 * z
        p[8], dp[8] = 1.445305721320277 * z, 1.445305721320277
        p[9], dp[9] = -0.5900435899266435, 0.0
    if degree > 3:
        zz = z * z
        p[10] = (3.702494142032151 * zz - 3.173566407456129) * zz + 0.3173566407456129
        dp[10] = z * (14.809976568128603 * zz - 6.347132814912258)
        p[11], dp[11] = z * (-4.683325804901025 * zz + 2.007139630671868), -14.049977414703075 * zz + 2.007139630671868
        p[12], dp[12] = 3.31161143515146 * zz - 0.47308734787878, 6.62322287030292 * z
        p[13], dp[13] = -1.770130769779931 * z, -1.770130769779931
        p[14], dp[14] = 0.6258357354491763, 0.0


@device
def _powers(degree, x, y, re, im):
    """Real and imaginary parts of (x + iy)^m."""
    re[0], im[0] = 1.0, 0.0
    for m in range(1, degree + 1):
        re[m], im[m] = x * re[m - 1] - y * im[m - 1], x * im[m - 1] + y * re[m - 1]


@device
def _basis(degree, x, y, z, basis, p, dp, re, im):
    _polynomials(degree, z, p, dp)
    _powers(degree, x, y, re, im)
    for band in range(degree + 1):
        middle, first = band * band + band, band * (band + 1) // 2
        basis[middle] = p[first]
        for m in range(1, band + 1):
            basis[middle + m] = p[first + m] * re[m]
            basis[middle - m] = p[first + m] * im[m]


@device
def _direction_gradient(degree, pull, p, dp, re, im):
    """Gradient with respect to (x, y, z), where pull[k] is that with respect to basis function k."""
    gx, gy, gz = 0.0, 0.0, 0.0
    for band in range(1, degree + 1):
        middle, first = band * band + band, band * (band + 1) // 2
        gz += pull[middle] * dp[first]
        for m in range(1, band + 1):
            cosine, sine = pull[middle + m], pull[middle - m]
            slope = m * p[first + m]
            gx += slope * (cosine * re[m - 1] + sine * im[m - 1])
            gy += slope * (sine * re[m - 1] - cosine * im[m - 1])
            gz += dp[first + m] * (cosine * re[m] + sine * im[m])
    return gx, gy, gz


@device
def _direction(means, i, centres, c):
    """Unit vector from the camera centre to the Gaussian, and the inverse of its length."""
    x, y, z = float(means[i, 0]) - centres[c, 0], float(means[i, 1]) - centres[c, 1], float(means[i, 2]) - centres[c, 2]
    length = math.sqrt(x * x + y * y + z * z)
    inverse = 1.0 / length if length > 1e-12 else 0.0
    return x * inverse, y * inverse, z * inverse, inverse


@device
def _scratch():
    """Memory for: the basis, P_lm and its derivative, the real and imaginary powers, and the pull on the basis."""
    f32 = np.float32
    basis, pull = np.empty(25, f32), np.empty(25, f32)
    return basis, np.empty(15, f32), np.empty(15, f32), np.empty(5, f32), np.empty(5, f32), pull


@kernel
def shade(means, centres, degree, colours, extra, depths, with_depth, lit, splats, worker, workers):
    """Fill the channels of the splats that are lit: colours | extra | depth.

    colours is [1 or C, N, 3 K] coefficients where degree >= 0, else [1 or C, N, D] values; extra is [N, E].
    """
    n_gaussians, n_cameras = means.shape[0], depths.shape[0]
    n_colours = 3 if degree >= 0 else colours.shape[2]
    n_extra = extra.shape[1]
    basis, p, dp, re, im, _ = _scratch()
    for block in range(worker, (n_gaussians + _BLOCK - 1) // _BLOCK, workers):
        for c in range(n_cameras):
            source = colours[min(c, colours.shape[0] - 1)]
            for i in range(block * _BLOCK, min(n_gaussians, (block + 1) * _BLOCK)):
                row = c * n_gaussians + i
                if not lit[row]:
                    continue
                splat = splats[row]
                if degree >= 0:
                    x, y, z, _ = _direction(means, i, centres, c)
                    _basis(degree, x, y, z, basis, p, dp, re, im)
                    red, green, blue = _HALF, _HALF, _HALF
                    for k in range((degree + 1) * (degree + 1)):
                        red += basis[k] * source[i, 3 * k]
                        green += basis[k] * source[i, 3 * k + 1]
                        blue += basis[k] * source[i, 3 * k + 2]
                    splat[_SPLAT] = max(red, _ZERO)
                    splat[_SPLAT + 1] = max(green, _ZERO)
                    splat[_SPLAT + 2] = max(blue, _ZERO)
                else:
                    for k in range(n_colours):
                        splat[_SPLAT + k] = source[i, k]
                for k in range(n_extra):
                    splat[_SPLAT + n_colours + k] = extra[i, k]
                if with_depth:
                    splat[_SPLAT + n_colours + n_extra] = depths[c, i]


@kernel
def shade_backward(
    means, centres, degree, colours, n_extra, with_depth, lit, splats, v_splats,
    v_colours, v_extra, v_depths, v_means, v_centres, worker, workers,
):  # fmt: skip
    """Fill v_means, v_colours and v_extra (each but v_means may have no rows: not wanted); add to v_depths.

    v_centres [blocks, C, 3] is one partial sum per block.
    """
    n_gaussians, n_cameras = means.shape[0], v_depths.shape[0]
    n_colours = 3 if degree >= 0 else colours.shape[2]
    want_colours, want_extra = v_colours.shape[0] > 0, v_extra.shape[0] > 0
    n_bases = (degree + 1) * (degree + 1)
    basis, p, dp, re, im, pull = _scratch()
    for block in range(worker, (n_gaussians + _BLOCK - 1) // _BLOCK, workers):
        first, last = block * _BLOCK, min(n_gaussians, (block + 1) * _BLOCK)
        v_means[first:last] = 0.0
        if want_extra:
            v_extra[first:last] = 0.0
        for c in range(n_cameras):
            which = min(c, colours.shape[0] - 1)
            if want_colours and c == which:  # else another camera has already written there
                v_colours[which, first:last] = _ZERO
            for i in range(first, last):
                row = c * n_gaussians + i
                if not lit[row]:
                    continue
                splat, v_splat = splats[row], v_splats[row]
                if degree >= 0:
                    red = v_splat[_SPLAT] if splat[_SPLAT] > _ZERO else _ZERO
                    green = v_splat[_SPLAT + 1] if splat[_SPLAT + 1] > _ZERO else _ZERO
                    blue = v_splat[_SPLAT + 2] if splat[_SPLAT + 2] > _ZERO else _ZERO
                    x, y, z, inverse = _direction(means, i, centres, c)
                    _basis(degree, x, y, z, basis, p, dp, re, im)
                    if want_colours:
                        for k in range(n_bases):
                            v_colours[which, i, 3 * k] += basis[k] * red
                            v_colours[which, i, 3 * k + 1] += basis[k] * green
                            v_colours[which, i, 3 * k + 2] += basis[k] * blue
                    if degree > 0:
                        for k in range(n_bases):
                            pull[k] = (
                                red * colours[which, i, 3 * k]
                                + green * colours[which, i, 3 * k + 1]
                                + blue * colours[which, i, 3 * k + 2]
                            )
                        gx, gy, gz = _direction_gradient(degree, pull, p, dp, re, im)
                        along = gx * x + gy * y + gz * z
                        gx, gy, gz = inverse * (gx - along * x), inverse * (gy - along * y), inverse * (gz - along * z)
                        v_means[i, 0] += gx
                        v_means[i, 1] += gy
                        v_means[i, 2] += gz
                        v_centres[block, c, 0] -= gx
                        v_centres[block, c, 1] -= gy
                        v_centres[block, c, 2] -= gz
                elif want_colours:
                    for k in range(n_colours):
                        v_colours[which, i, k] += v_splat[_SPLAT + k]
                if want_extra:
                    for k in range(n_extra):
                        v_extra[i, k] += v_splat[_SPLAT + n_colours + k]
                if with_depth:
                    v_depths[c, i] += v_splat[_SPLAT + n_colours + n_extra]
