"""One rasteriser for every machine: gsplat on CUDA, the same picture and gradients from CPU kernels elsewhere.

``rasterization`` is the one place that picks; ``backend`` knows whether gsplat's kernels are there. Where they are not,
the CPU kernels render a GPU's tensors too. Importing this package imports neither gsplat nor numba.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from das3r_ns.rasterization.backend import uses_cuda_kernels

__all__ = ["rasterization"]

_RENDER_MODES = ("RGB", "D", "ED", "RGB+D", "RGB+ED")
_RASTERIZE_MODES = ("classic", "antialiased")


def rasterization(
    means: Float[Tensor, "N 3"],
    quats: Float[Tensor, "N 4"],
    scales: Float[Tensor, "N 3"],
    opacities: Float[Tensor, " N"],
    colors: Float[Tensor, "*B D"],
    viewmats: Float[Tensor, "C 4 4"],
    Ks: Float[Tensor, "C 3 3"],
    width: int,
    height: int,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    radius_clip: float = 0.0,
    eps2d: float = 0.3,
    sh_degree: int | None = None,
    packed: bool = False,
    tile_size: int = 16,
    backgrounds: Float[Tensor, "C D"] | None = None,
    render_mode: Literal["RGB", "D", "ED", "RGB+D", "RGB+ED"] = "RGB",
    sparse_grad: bool = False,
    absgrad: bool = False,
    rasterize_mode: Literal["classic", "antialiased"] = "classic",
    extra: Float[Tensor, "N E"] | None = None,
    **unsupported: Any,
) -> tuple[Float[Tensor, "C H W X"], Float[Tensor, "C H W 1"], dict[str, Any]]:
    """Render 3-D Gaussians from C pinhole cameras; differentiable but for ``Ks``.

    The arguments are those of ``gsplat.rasterization`` 1.4.0, and ``extra``. ``packed`` is False unless asked.

    Args:
        means: centres, world frame.
        quats: orientations (w, x, y, z), of any length but zero.
        scales: standard deviations along the axes, world units (not their logarithms).
        opacities: in [0, 1] (not logits).
        colors: ``[N, D]`` or ``[C, N, D]`` values; with ``sh_degree``, ``[N, K, 3]`` or ``[C, N, K, 3]`` coefficients,
            of which the colour is max(SH + 0.5, 0). Not looked at in the render modes "D" and "ED".
        viewmats: world to camera, OpenCV axes.
        Ks: intrinsics in pixels; the centre of the first pixel is at (0.5, 0.5). Skew is ignored.
        width: of the image, pixels.
        height: of the image, pixels.
        near_plane: Gaussians nearer than this, along the optical axis, are left out.
        far_plane: likewise those farther away.
        radius_clip: Gaussians whose radius on the image (3 sigma, pixels) is at most this are left out.
        eps2d: variance, pixels squared, added to every splat.
        sh_degree: degree in use, 0 to 4; K may hold more.
        packed: gsplat's kernels only.
        tile_size: pixels; a splat is cut at the tiles that hold its 3-sigma box.
        backgrounds: what is seen behind, one value per colour and extra channel. Depth has none.
        render_mode: "D" is the sum of weight times depth, "ED" that divided by alpha.
        sparse_grad: gsplat's kernels only.
        absgrad: after backward, ``info["means2d"].absgrad`` is the sum over pixels of the size of the gradient.
        rasterize_mode: "antialiased" lowers the opacity of splats by what ``eps2d`` added to their area.
        extra: any values per Gaussian, blended as colours are, without activation.
        **unsupported: gsplat's remaining arguments: passed on to its kernels, refused by the others.

    Returns:
        Images, whose channels are colours | extra | depth; alphas; and gsplat's info: width, height, n_cameras,
        radii ``[C, N]`` (0: not seen), means2d ``[C, N, 2]``, depths, ... From the CPU kernels only means2d carries a
        gradient. All tensors lie where ``means`` lies.

    Raises:
        ValueError: a shape that does not fit, an unknown mode, tensors on different devices.
        NotImplementedError: an argument that only gsplat's kernels support.
    """
    n_extra = 0 if extra is None else extra.shape[-1]
    _check(means, quats, scales, opacities, colors, viewmats, Ks, sh_degree, render_mode, rasterize_mode, extra)
    if width < 1 or height < 1:
        raise ValueError(f"width and height are at least 1, got {width} x {height}.")
    has_color, has_depth = "RGB" in render_mode, "D" in render_mode
    n_colors = 0 if not has_color else 3 if sh_degree is not None else colors.shape[-1]
    n_cameras = viewmats.shape[0]
    if n_colors + n_extra == 0:
        backgrounds = None  # depth alone: gsplat does not look at them either
    if backgrounds is not None and backgrounds.shape != (n_cameras, n_colors + n_extra):
        raise ValueError(f"backgrounds: expected {(n_cameras, n_colors + n_extra)}, got {tuple(backgrounds.shape)}.")
    if uses_cuda_kernels(means.device):
        from das3r_ns.rasterization.cuda import rasterize_cuda

        return rasterize_cuda(
            means=means, quats=quats, scales=scales, opacities=opacities, colors=colors, viewmats=viewmats, Ks=Ks,
            width=width, height=height, near_plane=near_plane, far_plane=far_plane, radius_clip=radius_clip,
            eps2d=eps2d, sh_degree=sh_degree, packed=packed, tile_size=tile_size, backgrounds=backgrounds,
            render_mode=render_mode, sparse_grad=sparse_grad, absgrad=absgrad, rasterize_mode=rasterize_mode,
            extra=extra, **unsupported,
        )  # fmt: skip
    _refuse(packed, sparse_grad, unsupported)
    from das3r_ns.rasterization.cpu import Settings, rasterize

    if not has_color:
        colors = means.new_zeros(1, means.shape[0], 0)
        sh_degree = None
    else:
        colors = colors if sh_degree is None else colors.flatten(-2)
        colors = colors if colors.dim() == 3 else colors[None]
    settings = Settings(
        width=width, height=height, near_plane=float(near_plane), far_plane=float(far_plane),
        radius_clip=float(radius_clip), eps2d=float(eps2d), tile_size=tile_size,
        antialiased=rasterize_mode == "antialiased", sh_degree=-1 if sh_degree is None else sh_degree,
        with_depth=has_depth,
    )  # fmt: skip
    if backgrounds is not None and has_depth:
        backgrounds = torch.cat([backgrounds, backgrounds.new_zeros(n_cameras, 1)], dim=-1)
    extra = means.new_zeros(means.shape[0], 0) if extra is None else extra
    renders, alphas, info = rasterize(
        means, quats, scales, opacities, colors, extra, viewmats, Ks, backgrounds, absgrad, settings
    )
    if "ED" in render_mode:
        renders = torch.cat([renders[..., :-1], renders[..., -1:] / alphas.clamp(min=1e-10)], dim=-1)
    return renders, alphas, info


def _check(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    sh_degree: int | None,
    render_mode: str,
    rasterize_mode: str,
    extra: Tensor | None,
) -> None:
    """Raise a ValueError that names the argument which does not fit."""
    n, c = means.shape[0], viewmats.shape[0]
    expected = {
        "means": (means, (n, 3)),
        "quats": (quats, (n, 4)),
        "scales": (scales, (n, 3)),
        "opacities": (opacities, (n,)),
        "viewmats": (viewmats, (c, 4, 4)),
        "Ks": (Ks, (c, 3, 3)),
    }
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name}: expected shape {shape}, got {tuple(tensor.shape)}.")
        if tensor.device != means.device:
            raise ValueError(f"{name} is on {tensor.device} and means on {means.device}; move them to one device.")
    if render_mode not in _RENDER_MODES:
        raise ValueError(f"render_mode {render_mode!r} is unknown; choose one of {', '.join(_RENDER_MODES)}.")
    if rasterize_mode not in _RASTERIZE_MODES:
        raise ValueError(f"rasterize_mode {rasterize_mode!r} is unknown; choose one of {', '.join(_RASTERIZE_MODES)}.")
    if extra is not None and (extra.dim() != 2 or extra.shape[0] != n):
        raise ValueError(f"extra: expected shape ({n}, E), got {tuple(extra.shape)}.")
    if "RGB" not in render_mode:
        return
    trailing = 1 if sh_degree is None else 2
    shape = tuple(colors.shape)
    per_gaussian, per_camera = shape[:-trailing] == (n,), shape[:-trailing] == (c, n)
    if not (per_gaussian or per_camera) or (sh_degree is not None and shape[-1] != 3) or shape[-1] < 1:
        wanted = f"({n}, D) or ({c}, {n}, D)" if sh_degree is None else f"({n}, K, 3) or ({c}, {n}, K, 3)"
        raise ValueError(f"colors: expected shape {wanted} with sh_degree={sh_degree}, got {shape}.")
    if sh_degree is not None and not (0 <= sh_degree <= 4 and (sh_degree + 1) ** 2 <= shape[-2]):
        raise ValueError(f"sh_degree {sh_degree} is not in 0..4 or needs more than the {shape[-2]} bases of colors.")


def _refuse(packed: bool, sparse_grad: bool, unsupported: dict[str, Any]) -> None:
    """Raise for what only gsplat's kernels can do."""
    neutral = {"channel_chunk": None, "distributed": False, "camera_model": "pinhole", "covars": None}
    for name in unsupported:
        if name not in neutral:
            raise TypeError(f"rasterization() got an unexpected keyword argument {name!r}.")
    advice = "by the CPU kernels; use a CUDA device with gsplat's, or leave it out."
    if packed or sparse_grad:
        raise NotImplementedError(f"packed=True and sparse_grad=True are not supported {advice}")
    for name in ("distributed", "camera_model", "covars"):
        value = unsupported.get(name, neutral[name])
        if value is not neutral[name] and value != neutral[name]:
            shown = "" if isinstance(value, Tensor) else f"={value!r}"
            raise NotImplementedError(f"{name}{shown} is not supported {advice}")
