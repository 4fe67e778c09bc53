"""Kernels: from Gaussians in the world to splats on the image, and the gradient back.

The equations are those of gsplat (EWA splatting, Zwicker et al. 2001, with gsplat's field-of-view clamp of the
Jacobian and its blur of ``eps2d``), arranged for accuracy. With J the 2 x 3 Jacobian of the projection, W the rotation
of the camera, R and S the rotation and scales of the Gaussian, and Q = J W R S (2 x 3), the 2-D covariance is Q Q^T
and its determinant is |q0 x q1|^2: never negative, and free of cancellation. All of it is in double precision in
registers, and single precision in memory.

A splat is a row of float32. Its density at pixel (px, py) is alpha = 2^p with
    p = level - a u^2 - k dy^2,    u = (px - x) + shear dy,    dy = py - y,
which is the usual exponent with the square completed: both terms only ever lower p, so a long thin splat does not lose
its digits. The columns are listed in ``SPLAT``; the channels to blend follow.
"""

import math

from das3r_ns.rasterization._threads import device, kernel

# Columns of geometry: x, y (pixels), shear, a, k (log2 units per pixel^2), level (log2 of the opacity); and, without
# gradient, half the length of the longest row of pixels it may light, and the pixels x0, y0, x1, y1 it is cut to.
# With five channels a splat is one cache line.
SPLAT = 11
BLOCK = 256  # Gaussians per item of work
LOG2_MIN_ALPHA = math.log2(1.0 / 255.0)  # gsplat skips what is fainter than one grey level
_HALF_LOG2E = 0.5 / math.log(2.0)
_LN2 = math.log(2.0)
_MAX_RADIUS = float(1 << 30)


@device
def _rotation(quats, i):
    """Unit quaternion (w, x, y, z), the inverse of the norm it had, and its rotation matrix, row by row."""
    w, x, y, z = float(quats[i, 0]), float(quats[i, 1]), float(quats[i, 2]), float(quats[i, 3])
    norm = math.sqrt(w * w + x * x + y * y + z * z)
    inverse = 1.0 / norm if norm > 1e-12 else 0.0  # the zero quaternion: no rotation
    w, x, y, z = w * inverse, x * inverse, y * inverse, z * inverse
    r0 = (1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y))
    r1 = (2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x))
    r2 = (2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y))
    return (w, x, y, z), inverse, r0, r1, r2


@device
def _clamped_slope(ratio, focal, centre, size):
    """x / z held inside the field of view widened by 30 % of its half-width, as gsplat does; and whether it was."""
    margin = 0.15 * size / focal
    low, high = -(centre / focal + margin), (size - centre) / focal + margin
    return min(max(ratio, low), high), ratio < low or ratio > high


@device
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@device
def _times(m0, m1, m2, v):
    """Row vector v times the matrix with rows m0, m1, m2."""
    return (
        v[0] * m0[0] + v[1] * m1[0] + v[2] * m2[0],
        v[0] * m0[1] + v[1] * m1[1] + v[2] * m2[1],
        v[0] * m0[2] + v[1] * m1[2] + v[2] * m2[2],
    )


@device
def _row(matrices, c, i):
    return float(matrices[c, i, 0]), float(matrices[c, i, 1]), float(matrices[c, i, 2])


@device
def _in_camera(means, i, viewmats, c):
    m = (float(means[i, 0]), float(means[i, 1]), float(means[i, 2]))
    w0, w1, w2 = _row(viewmats, c, 0), _row(viewmats, c, 1), _row(viewmats, c, 2)
    x, y, z = _dot(w0, m) + viewmats[c, 0, 3], _dot(w1, m) + viewmats[c, 1, 3], _dot(w2, m) + viewmats[c, 2, 3]
    return m, w0, w1, w2, x, y, z


@device
def _jacobian(w0, w1, w2, x, y, z, fx, fy, cx, cy, width, height):
    """Rows p0, p1 of J W, with the clamped slopes (and whether they were clamped)."""
    rz = 1.0 / z
    nx, out_x = _clamped_slope(x * rz, fx, cx, width)
    ny, out_y = _clamped_slope(y * rz, fy, cy, height)
    jx, jy = fx * rz, fy * rz
    p0 = (jx * (w0[0] - nx * w2[0]), jx * (w0[1] - nx * w2[1]), jx * (w0[2] - nx * w2[2]))
    p1 = (jy * (w1[0] - ny * w2[0]), jy * (w1[1] - ny * w2[1]), jy * (w1[2] - ny * w2[2]))
    return p0, p1, nx, out_x, ny, out_y


@device
def _covariance(g0, g1, s):
    """2-D covariance (xx, xy, yy) and its determinant, from the rows of J W R and the scales."""
    q0, q1 = (g0[0] * s[0], g0[1] * s[1], g0[2] * s[2]), (g1[0] * s[0], g1[1] * s[1], g1[2] * s[2])
    k0, k1, k2 = q0[1] * q1[2] - q0[2] * q1[1], q0[2] * q1[0] - q0[0] * q1[2], q0[0] * q1[1] - q0[1] * q1[0]
    return q0, q1, _dot(q0, q0), _dot(q0, q1), _dot(q1, q1), k0 * k0 + k1 * k1 + k2 * k2


@device
def _extent(centre, radius, half, tile, size):
    """Pixels [first, last) that may be lit: the tiles of the 3-sigma box, cut to where alpha can reach 1/255."""
    low = max(math.floor((centre - radius) / tile) * tile, 0.0)
    high = min(math.ceil((centre + radius) / tile) * tile, float(size))
    low, high = max(low, math.ceil(centre - half - 0.5)), min(high, math.floor(centre + half - 0.5) + 1.0)
    if not low < high:
        return 0, 0
    return int(low), int(high)


@kernel
def project(
    means, quats, scales, opacities, viewmats, Ks, width, height, near, far, clip, eps2d, tile, antialiased,
    radii, means2d, depths, lit, splats, worker, workers,
):  # fmt: skip
    """Fill radii, means2d, depths [C, N], lit [C * N] (whether any pixel can be), and the geometry of lit splats."""
    n_gaussians = means.shape[0]
    for block in range(worker, (n_gaussians + BLOCK - 1) // BLOCK, workers):
        for c in range(viewmats.shape[0]):
            fx, fy, cx, cy = float(Ks[c, 0, 0]), float(Ks[c, 1, 1]), float(Ks[c, 0, 2]), float(Ks[c, 1, 2])
            for i in range(block * BLOCK, min(n_gaussians, (block + 1) * BLOCK)):
                row = c * n_gaussians + i
                radii[c, i] = 0
                means2d[c, i, 0], means2d[c, i, 1], depths[c, i] = 0.0, 0.0, 0.0
                lit[row] = 0
                _, w0, w1, w2, x, y, z = _in_camera(means, i, viewmats, c)
                if not (z >= near and z <= far and z > 0.0):  # also when NaN
                    continue
                p0, p1, _, _, _, _ = _jacobian(w0, w1, w2, x, y, z, fx, fy, cx, cy, width, height)
                _, _, r0, r1, r2 = _rotation(quats, i)
                s = (float(scales[i, 0]), float(scales[i, 1]), float(scales[i, 2]))
                _, _, xx, xy, yy, det0 = _covariance(_times(r0, r1, r2, p0), _times(r0, r1, r2, p1), s)
                det = det0 + eps2d * (xx + yy) + eps2d * eps2d
                bx, by = xx + eps2d, yy + eps2d
                middle, gap = 0.5 * (bx + by), 0.5 * (bx - by)
                radius = math.ceil(3.0 * math.sqrt(middle + math.sqrt(max(0.01, gap * gap + xy * xy))))
                u, v = fx * x / z + cx, fy * y / z + cy
                seen = u + radius > 0.0 and u - radius < width and v + radius > 0.0 and v - radius < height
                if not (det > 0.0 and radius > clip and seen):
                    continue
                radii[c, i] = int(min(radius, _MAX_RADIUS))
                means2d[c, i, 0], means2d[c, i, 1], depths[c, i] = u, v, z
                opacity = float(opacities[i])
                if antialiased:
                    opacity *= math.sqrt(det0 / det)
                if not opacity >= 1.0 / 255.0:
                    continue
                level = math.log2(opacity)
                reach = math.sqrt((level - LOG2_MIN_ALPHA) / _HALF_LOG2E)
                x0, x1 = _extent(u, radius, reach * math.sqrt(bx), tile, width)
                y0, y1 = _extent(v, radius, reach * math.sqrt(by), tile, height)
                if x1 == 0 or y1 == 0:
                    continue
                lit[row] = 1
                splats[row, 0], splats[row, 1], splats[row, 2] = u, v, -xy / by
                splats[row, 3], splats[row, 4], splats[row, 5] = _HALF_LOG2E * by / det, _HALF_LOG2E / by, level
                splats[row, 6] = reach * math.sqrt(det / by)
                splats[row, 7], splats[row, 8], splats[row, 9], splats[row, 10] = x0, y0, x1, y1


@device
def _rotation_gradient(q, v0, v1, v2):
    """Gradient with respect to the unit quaternion from that of the rotation matrix (rows v0, v1, v2)."""
    w, x, y, z = q
    return (
        2.0 * (x * (v2[1] - v1[2]) + y * (v0[2] - v2[0]) + z * (v1[0] - v0[1])),
        2.0 * (y * (v0[1] + v1[0]) + z * (v0[2] + v2[0]) + w * (v2[1] - v1[2]) - 2.0 * x * (v1[1] + v2[2])),
        2.0 * (x * (v0[1] + v1[0]) + z * (v1[2] + v2[1]) + w * (v0[2] - v2[0]) - 2.0 * y * (v0[0] + v2[2])),
        2.0 * (x * (v0[2] + v2[0]) + y * (v1[2] + v2[1]) + w * (v1[0] - v0[1]) - 2.0 * z * (v0[0] + v1[1])),
    )


@kernel
def project_backward(
    means, quats, scales, opacities, viewmats, Ks, width, height, eps2d, antialiased, radii, lit,
    v_means2d, v_depths, v_splats, v_means, v_quats, v_scales, v_opacities, v_views, worker, workers,
):  # fmt: skip
    """Add to v_means and fill v_quats, v_scales, v_opacities, v_views [blocks, C, 3, 4]: one partial sum per block."""
    n_gaussians = means.shape[0]
    for block in range(worker, (n_gaussians + BLOCK - 1) // BLOCK, workers):
        first, last = block * BLOCK, min(n_gaussians, (block + 1) * BLOCK)
        v_quats[first:last] = 0.0
        v_scales[first:last] = 0.0
        v_opacities[first:last] = 0.0
        for c in range(viewmats.shape[0]):
            fx, fy, cx, cy = float(Ks[c, 0, 0]), float(Ks[c, 1, 1]), float(Ks[c, 0, 2]), float(Ks[c, 1, 2])
            view = v_views[block, c]
            for i in range(first, last):
                if radii[c, i] == 0:
                    continue
                row = c * n_gaussians + i
                m, w0, w1, w2, x, y, z = _in_camera(means, i, viewmats, c)
                rz = 1.0 / z
                v_u, v_v = float(v_means2d[c, i, 0]), float(v_means2d[c, i, 1])
                v_x, v_y, v_rz = fx * rz * v_u, fy * rz * v_v, fx * x * v_u + fy * y * v_v
                v_z = float(v_depths[c, i])
                if lit[row]:
                    p0, p1, nx, out_x, ny, out_y = _jacobian(w0, w1, w2, x, y, z, fx, fy, cx, cy, width, height)
                    unit, inverse, r0, r1, r2 = _rotation(quats, i)
                    g0, g1 = _times(r0, r1, r2, p0), _times(r0, r1, r2, p1)
                    s = (float(scales[i, 0]), float(scales[i, 1]), float(scales[i, 2]))
                    q0, q1, xx, xy, yy, det0 = _covariance(g0, g1, s)
                    det = det0 + eps2d * (xx + yy) + eps2d * eps2d
                    by = yy + eps2d
                    v_shear, v_a, v_k = float(v_splats[row, 2]), float(v_splats[row, 3]), float(v_splats[row, 4])
                    v_level = float(v_splats[row, 5])
                    v_opacities[i] += v_level / (_LN2 * opacities[i])
                    # a = h by / det, k = h / by, shear = -xy / by, with det = bx by - xy^2.
                    scale = _HALF_LOG2E * v_a / (det * det)
                    v_xx = -scale * by * by
                    v_yy = -scale * xy * xy + v_shear * xy / (by * by) - _HALF_LOG2E * v_k / (by * by)
                    v_xy = 2.0 * scale * by * xy - v_shear / by
                    if antialiased:
                        # level = log2(opacity) + log2(det0 / det) / 2. A lit splat has det0 / det >= 1 / 255^2.
                        half = 0.5 * v_level / _LN2
                        v_xx += half * (yy / det0 - by / det)
                        v_yy += half * (xx / det0 - (xx + eps2d) / det)
                        v_xy += 2.0 * half * xy * (1.0 / det - 1.0 / det0)
                    v_q0 = (2.0 * v_xx * q0[0] + v_xy * q1[0], 2.0 * v_xx * q0[1] + v_xy * q1[1],
                            2.0 * v_xx * q0[2] + v_xy * q1[2])  # fmt: skip
                    v_q1 = (2.0 * v_yy * q1[0] + v_xy * q0[0], 2.0 * v_yy * q1[1] + v_xy * q0[1],
                            2.0 * v_yy * q1[2] + v_xy * q0[2])  # fmt: skip
                    v_scales[i, 0] += v_q0[0] * g0[0] + v_q1[0] * g1[0]
                    v_scales[i, 1] += v_q0[1] * g0[1] + v_q1[1] * g1[1]
                    v_scales[i, 2] += v_q0[2] * g0[2] + v_q1[2] * g1[2]
                    v_g0 = (v_q0[0] * s[0], v_q0[1] * s[1], v_q0[2] * s[2])
                    v_g1 = (v_q1[0] * s[0], v_q1[1] * s[1], v_q1[2] * s[2])
                    v_r0 = (p0[0] * v_g0[0] + p1[0] * v_g1[0], p0[0] * v_g0[1] + p1[0] * v_g1[1],
                            p0[0] * v_g0[2] + p1[0] * v_g1[2])  # fmt: skip
                    v_r1 = (p0[1] * v_g0[0] + p1[1] * v_g1[0], p0[1] * v_g0[1] + p1[1] * v_g1[1],
                            p0[1] * v_g0[2] + p1[1] * v_g1[2])  # fmt: skip
                    v_r2 = (p0[2] * v_g0[0] + p1[2] * v_g1[0], p0[2] * v_g0[1] + p1[2] * v_g1[1],
                            p0[2] * v_g0[2] + p1[2] * v_g1[2])  # fmt: skip
                    v_unit = _rotation_gradient(unit, v_r0, v_r1, v_r2)
                    along = v_unit[0] * unit[0] + v_unit[1] * unit[1] + v_unit[2] * unit[2] + v_unit[3] * unit[3]
                    for j in range(4):
                        v_quats[i, j] += inverse * (v_unit[j] - along * unit[j])
                    # p0 = fx rz (w0 - nx w2), and p1 alike.
                    v_p0 = (_dot(v_g0, r0), _dot(v_g0, r1), _dot(v_g0, r2))
                    v_p1 = (_dot(v_g1, r0), _dot(v_g1, r1), _dot(v_g1, r2))
                    jx, jy = fx * rz, fy * rz
                    v_rz += (_dot(v_p0, p0) + _dot(v_p1, p1)) * z
                    v_nx, v_ny = -jx * _dot(v_p0, w2), -jy * _dot(v_p1, w2)
                    if not out_x:
                        v_x += v_nx * rz
                        v_rz += v_nx * x
                    if not out_y:
                        v_y += v_ny * rz
                        v_rz += v_ny * y
                    for j in range(3):
                        view[0, j] += jx * v_p0[j]
                        view[1, j] += jy * v_p1[j]
                        view[2, j] -= jx * nx * v_p0[j] + jy * ny * v_p1[j]
                v_z -= v_rz * rz * rz
                for j in range(3):
                    view[0, j] += v_x * m[j]
                    view[1, j] += v_y * m[j]
                    view[2, j] += v_z * m[j]
                    v_means[i, j] += v_x * w0[j] + v_y * w1[j] + v_z * w2[j]
                view[0, 3] += v_x
                view[1, 3] += v_y
                view[2, 3] += v_z
