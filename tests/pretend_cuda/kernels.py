"""gsplat's extension in torch: each function first checks what the extension checks, then computes on the host."""

from __future__ import annotations

from typing import Any, cast

import torch
from device import CudaTensor, note_wait
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

CHANNELS = (1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 64, 65, 128, 129, 256, 257, 512, 513)
"""Numbers of channels that the extension is compiled for."""

_last: dict[str, Any] = {}
"""What the extension keeps in tensors of its own: the planes of the projection, and each camera's order of depth."""


def _checked(name: str, *tensors: Tensor | None) -> list[Any]:
    """The values, of tensors that the extension would take."""
    values = []
    for i, tensor in enumerate(tensors):
        if tensor is None:
            values.append(None)
            continue
        if not isinstance(tensor, CudaTensor):
            raise RuntimeError(f"gsplat {name}: argument {i} must be a CUDA tensor, got {tensor.device}")
        if not tensor.is_contiguous():
            raise RuntimeError(f"gsplat {name}: argument {i} must be contiguous")
        if tensor.dtype not in (torch.float32, torch.int32, torch.int64, torch.bool):
            raise RuntimeError(f"gsplat {name}: expected scalar type Float but found {tensor.dtype} (argument {i})")
        values.append(tensor.inner.detach())
    return values


def _wrapped(*tensors: Tensor | None) -> tuple[Any, ...]:
    return tuple(None if tensor is None else CudaTensor(tensor.detach().contiguous()) for tensor in tensors)


def _gradients(outputs: list[Any], inputs: list[Tensor], seeds: list[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(outputs, inputs, seeds, allow_unused=True)
    return [torch.zeros_like(x) if g is None else torch.nan_to_num(g) for x, g in zip(inputs, found, strict=True)]


def _project(values, width, height, eps2d, near, far, clip, with_compensation):
    from gsplat.cuda._torch_impl import _fully_fused_projection, _quat_scale_to_covar_preci

    means, quats, scales, viewmats, Ks = values
    quats = torch.nn.functional.normalize(quats, dim=-1)
    covars, _ = _quat_scale_to_covar_preci(quats, scales, True, False, triu=False)
    radii, *rest = cast(
        tuple[Any, ...],
        _fully_fused_projection(
            means, cast(Tensor, covars), viewmats, Ks, width, height, eps2d, near, far, with_compensation
        ),
    )
    return torch.where(radii <= clip, 0, radii).to(torch.int32), *rest


def fully_fused_projection_fwd(
    means, covars, quats, scales, viewmats, Ks, width, height, eps2d, near, far, clip, with_compensation, model
):
    values = _checked("projection", means, quats, scales, viewmats, Ks)
    with _disable_current_modes(), torch.no_grad():
        _last["planes"] = (near, far, clip)
        return _wrapped(*_project(values, width, height, eps2d, near, far, clip, with_compensation))


def fully_fused_projection_bwd(
    means, covars, quats, scales, viewmats, Ks, width, height, eps2d, model, radii, conics, compensations,
    v_means2d, v_depths, v_conics, v_compensations, needs_view_gradient,
):  # fmt: skip
    values = _checked("projection", means, quats, scales, viewmats, Ks)
    seeds = _checked("gradients of the projection", v_means2d, v_depths, v_conics)
    seen = _checked("radii", radii)[0] > 0
    with _disable_current_modes(), torch.enable_grad():
        inputs = [value.clone().requires_grad_(i < 4) for i, value in enumerate(values)]
        near, far, clip = _last["planes"]
        found = _project(inputs, width, height, eps2d, near, far, clip, compensations is not None)[1:4]
        seeds = [
            torch.where(seen.reshape(seen.shape + (1,) * (output.dim() - 2)), seed, torch.zeros_like(seed))
            for output, seed in zip(found, seeds, strict=True)
        ]
        to_means, to_quats, to_scales, to_views = _wrapped(*_gradients(list(found), inputs[:4], seeds))
    return to_means, None, to_quats, to_scales, to_views


def isect_tiles(means2d, radii, depths, camera_ids, gaussian_ids, n_cameras, tile, tiles_x, tiles_y, sort, double):
    _, radii, depths = _checked("isect_tiles", means2d, radii, depths)
    note_wait("isect_tiles")  # for the number of intersections
    with _disable_current_modes():
        visible = [torch.nonzero(radii[c] > 0)[:, 0] for c in range(n_cameras)]
        _last["order"] = [index[depths[c][index].argsort()] for c, index in enumerate(visible)]
        count = int((radii > 0).sum())
        return _wrapped((radii > 0).int(), torch.zeros(count, dtype=torch.int64), torch.zeros(count, dtype=torch.int32))


def isect_offset_encode(ids, n_cameras, tiles_x, tiles_y):
    _checked("isect_offset_encode", ids)
    with _disable_current_modes():
        return _wrapped(torch.zeros(n_cameras, tiles_y, tiles_x, dtype=torch.int32))[0]


def _composite(values, width, height):
    means2d, conics, colors, opacities = values
    images, alphas = [], []
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([x, y], -1).reshape(-1, 1, 2)
    for c, order in enumerate(_last["order"]):
        if len(order) == 0:
            images.append(colors.sum() * 0 + torch.zeros(height, width, colors.shape[-1]))
            alphas.append(opacities.sum() * 0 + torch.zeros(height, width, 1))
            continue
        offset, conic = pixels - means2d[c][order], conics[c][order]
        sigma = 0.5 * (conic[:, 0] * offset[..., 0] ** 2 + conic[:, 2] * offset[..., 1] ** 2)
        sigma = sigma + conic[:, 1] * offset[..., 0] * offset[..., 1]
        alpha = (opacities[c][order] * torch.exp(-sigma)).clamp(max=0.999)
        alpha = torch.where((sigma < 0) | (alpha < 1 / 255), torch.zeros_like(alpha), alpha)
        left = torch.cat([torch.ones_like(alpha[:, :1]), torch.cumprod(1 - alpha, 1)[:, :-1]], 1)
        weight = alpha * left
        images.append((weight @ colors[c][order]).reshape(height, width, -1))
        alphas.append(weight.sum(1).reshape(height, width, 1))
    return torch.stack(images), torch.stack(alphas)


def rasterize_to_pixels_fwd(
    means2d, conics, colors, opacities, backgrounds, masks, width, height, tile, offsets, ids
):  # fmt: skip
    values = _checked("rasterisation", means2d, conics, colors, opacities)
    _checked("rasterisation", backgrounds, masks, offsets, ids)
    if colors.shape[-1] not in CHANNELS:
        raise RuntimeError(f"gsplat: unsupported number of channels: {colors.shape[-1]}")
    with _disable_current_modes(), torch.no_grad():
        image, alpha = _composite(values, width, height)
        return _wrapped(image, alpha, torch.zeros(alpha.shape[:3], dtype=torch.int32))


def rasterize_to_pixels_bwd(
    means2d, conics, colors, opacities, backgrounds, masks, width, height, tile, offsets, ids, alphas, last_ids,
    v_colors, v_alphas, absgrad,
):  # fmt: skip
    values = _checked("rasterisation", means2d, conics, colors, opacities)
    seeds = _checked("gradients of the rasterisation", v_colors, v_alphas)
    with _disable_current_modes(), torch.enable_grad():
        inputs = [value.clone().requires_grad_() for value in values]
        found = _gradients(list(_composite(inputs, width, height)), inputs, seeds)
    return _wrapped(found[0].abs(), *found)


def compute_sh_fwd(degree, dirs, coeffs, masks):
    from gsplat.cuda._torch_impl import _spherical_harmonics

    dirs, coeffs, _ = _checked("spherical harmonics", dirs, coeffs, masks)
    with _disable_current_modes(), torch.no_grad():
        return _wrapped(_spherical_harmonics(degree, dirs, coeffs))[0]


def compute_sh_bwd(bases, degree, dirs, coeffs, masks, v_colors, needs_dirs_gradient):
    from gsplat.cuda._torch_impl import _spherical_harmonics

    dirs, coeffs, _ = _checked("spherical harmonics", dirs, coeffs, masks)
    seeds = _checked("gradients of the spherical harmonics", v_colors)
    with _disable_current_modes(), torch.enable_grad():
        inputs = [coeffs.clone().requires_grad_(), dirs.clone().requires_grad_()]
        to_coeffs, to_dirs = _gradients([_spherical_harmonics(degree, inputs[1], inputs[0])], inputs, seeds)
    return _wrapped(to_coeffs, to_dirs)
