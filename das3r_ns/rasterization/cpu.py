"""gsplat's rasterisation where there is no CUDA: the same picture, and the same gradients, from numba kernels.

Two differentiable steps with the 2-D means between them, as the strategies that densify need: ``_Project`` turns
Gaussians into splats (``_projection``, ``_shading``), ``_Composite`` blends them (``_binning``, ``_compositing``).
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from das3r_ns.rasterization import _binning, _compositing, _projection, _shading
from das3r_ns.rasterization._threads import launch

_ROW = 16  # splats take up whole cache lines: a multiple of 16 floats


class Settings(NamedTuple):
    """What stays the same for all Gaussians of a render; the names and units are those of ``rasterization``."""

    width: int
    height: int
    near_plane: float
    far_plane: float
    radius_clip: float
    eps2d: float
    tile_size: int
    antialiased: bool
    sh_degree: int  # -1: the colours are values, not coefficients
    with_depth: bool


def rasterize(
    means: Float[Tensor, "N 3"],
    quats: Float[Tensor, "N 4"],
    scales: Float[Tensor, "N 3"],
    opacities: Float[Tensor, " N"],
    colors: Float[Tensor, "B N K"],
    extra: Float[Tensor, "N E"],
    viewmats: Float[Tensor, "C 4 4"],
    Ks: Float[Tensor, "C 3 3"],
    backgrounds: Float[Tensor, "C D"] | None,
    absgrad: bool,
    settings: Settings,
) -> tuple[Float[Tensor, "C H W D"], Float[Tensor, "C H W 1"], dict[str, Any]]:
    """Render Gaussians on the CPU; the arguments have been checked by ``rasterization``, which says what they mean.

    Tensors of another device are copied, and what comes out is copied back there, its gradients likewise.

    Args:
        colors: values (K = D) or coefficients (K = 3 * bases, by ``settings.sh_degree``); B is 1 or C.
        backgrounds: one value per rendered channel.

    Returns:
        Channels colours | extra | depth, not yet divided by the alpha; alphas; and gsplat's info.
    """
    device = means.device
    viewmats = viewmats.cpu()
    # The centre of the camera in the world, through gsplat's own route, so that gradients to viewmats agree with it.
    centres = torch.linalg.inv(viewmats)[:, :3, 3] if settings.sh_degree > 0 else viewmats[:, :3, 3].detach()
    inputs = (means, quats, scales, opacities, colors, extra, viewmats, centres, Ks)
    means2d, splats, radii, depths, lit = _Project.apply(*(x.cpu().float().contiguous() for x in inputs), settings)
    means2d = means2d.to(device)  # the strategies' own: its gradient and absgrad lie beside the Gaussians
    size = (settings.width, settings.height)
    n_channels = (3 if settings.sh_degree >= 0 else colors.shape[2]) + extra.shape[1] + int(settings.with_depth)
    backgrounds = viewmats.new_zeros(len(viewmats), n_channels) if backgrounds is None else backgrounds.cpu()
    renders, alphas = _Composite.apply(means2d, splats, depths, lit, backgrounds.float().contiguous(), size, absgrad)
    info = {
        "camera_ids": None,
        "gaussian_ids": None,
        "radii": radii.to(device),
        "means2d": means2d,
        "depths": depths.to(device),
        "width": settings.width,
        "height": settings.height,
        "tile_size": settings.tile_size,
        "tile_width": -(-settings.width // settings.tile_size),
        "tile_height": -(-settings.height // settings.tile_size),
        "n_cameras": viewmats.shape[0],
    }
    return renders.to(device), alphas.to(device), info


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.detach().numpy() for tensor in tensors]


class _Project(torch.autograd.Function):
    """World to image: 2-D means, and one row per camera and Gaussian with its geometry and channels."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        means: Float[Tensor, "N 3"],
        quats: Float[Tensor, "N 4"],
        scales: Float[Tensor, "N 3"],
        opacities: Float[Tensor, " N"],
        colors: Float[Tensor, "B N K"],
        extra: Float[Tensor, "N E"],
        viewmats: Float[Tensor, "C 4 4"],
        centres: Float[Tensor, "C 3"],
        Ks: Float[Tensor, "C 3 3"],
        settings: Settings,
    ) -> tuple[
        Float[Tensor, "C N 2"], Float[Tensor, "CN F"], Int[Tensor, "C N"], Float[Tensor, "C N"], Int[Tensor, " CN"]
    ]:
        n_cameras, n_gaussians = viewmats.shape[0], means.shape[0]
        n_colors = 3 if settings.sh_degree >= 0 else colors.shape[2]
        n_channels = n_colors + extra.shape[1] + int(settings.with_depth)
        columns = -(-(_projection.SPLAT + n_channels) // _ROW) * _ROW
        radii = torch.empty(n_cameras, n_gaussians, dtype=torch.int32)
        means2d = torch.empty(n_cameras, n_gaussians, 2)
        depths = torch.empty(n_cameras, n_gaussians)
        lit = torch.empty(n_cameras * n_gaussians, dtype=torch.uint8)
        # Rows of splats that are not lit are never written nor read.
        splats = torch.empty(n_cameras * n_gaussians, columns)
        launch(
            _projection.project,
            *_arrays(means, quats, scales, opacities, viewmats, Ks),
            settings.width, settings.height, settings.near_plane, settings.far_plane, settings.radius_clip,
            settings.eps2d, settings.tile_size, settings.antialiased,
            *_arrays(radii, means2d, depths, lit, splats),
        )  # fmt: skip
        launch(
            _shading.shade,
            *_arrays(means, centres), settings.sh_degree, *_arrays(colors, extra, depths), settings.with_depth,
            *_arrays(lit, splats),
        )  # fmt: skip
        ctx.mark_non_differentiable(radii, depths, lit)
        ctx.save_for_backward(means, quats, scales, opacities, colors, extra, viewmats, centres, Ks, radii, lit, splats)
        ctx.settings = settings
        return means2d, splats, radii, depths, lit

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_means2d: Tensor, v_splats: Tensor, *_: Any) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        means, quats, scales, opacities, colors, extra, viewmats, centres, Ks, radii, lit, splats = ctx.saved_tensors
        settings: Settings = ctx.settings
        n_cameras, n_gaussians = radii.shape
        blocks = -(-n_gaussians // _projection.BLOCK)
        v_means, v_quats, v_scales, v_opacities = (torch.empty_like(x) for x in (means, quats, scales, opacities))
        wanted = ctx.needs_input_grad
        v_colors = torch.empty_like(colors) if wanted[4] else torch.empty(0, 0, 0)
        v_extra = torch.empty_like(extra) if wanted[5] else torch.empty(0, 0)
        v_depths = torch.zeros(n_cameras, n_gaussians)
        v_centres = np.zeros((blocks, n_cameras, 3))
        v_views = np.zeros((blocks, n_cameras, 3, 4))
        launch(
            _shading.shade_backward,
            *_arrays(means, centres), settings.sh_degree, *_arrays(colors), extra.shape[1], settings.with_depth,
            *_arrays(lit, splats, v_splats.contiguous(), v_colors, v_extra, v_depths, v_means), v_centres,
        )  # fmt: skip
        launch(
            _projection.project_backward,
            *_arrays(means, quats, scales, opacities, viewmats, Ks),
            settings.width, settings.height, settings.eps2d, settings.antialiased,
            *_arrays(radii, lit, v_means2d.contiguous(), v_depths, v_splats.contiguous()),
            *_arrays(v_means, v_quats, v_scales, v_opacities), v_views,
        )  # fmt: skip
        v_viewmats = torch.zeros_like(viewmats)
        v_viewmats[:, :3] = torch.from_numpy(v_views.sum(axis=0))
        gradients = (v_means, v_quats, v_scales, v_opacities, v_colors, v_extra, v_viewmats)
        gradients += (torch.from_numpy(v_centres.sum(axis=0)).float(), None, None)
        return tuple(g if need else None for g, need in zip(gradients, wanted, strict=True))


class _Composite(torch.autograd.Function):
    """Blend splats into images.

    ``means2d`` is only the way the gradient of the first two columns of ``splats`` (their copy of it) goes: strategies
    read that gradient, and its ``absgrad``, to find where Gaussians are missing. It may lie on another device.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        means2d: Float[Tensor, "C N 2"],
        splats: Float[Tensor, "CN F"],
        depths: Float[Tensor, "C N"],
        lit: Int[Tensor, " CN"],
        backgrounds: Float[Tensor, "C D"],
        size: tuple[int, int],
        absgrad: bool,
    ) -> tuple[Float[Tensor, "C H W D"], Float[Tensor, "C H W 1"]]:
        width, height = size
        n_cameras, n_gaussians = depths.shape
        n_channels = backgrounds.shape[1]
        tiles = (-(-width // _binning.TILE_WIDTH), -(-height // _binning.TILE_HEIGHT))
        splat_rows, lit_rows = _arrays(splats, lit)
        order = _binning.sort_by_depth(depths.numpy().reshape(-1), lit_rows)
        pairs = _binning.bin_splats(order, splat_rows, lit_rows, max(n_gaussians, 1), n_cameras, *tiles)
        first_pair, tile_start, tile_rows, tile_pairs = pairs
        colours = torch.empty(n_cameras, height, width, n_channels)
        alphas, remaining, ended = (torch.empty(n_cameras, height, width) for _ in range(3))
        tile_stop = np.empty(len(tile_start) - 1, np.int32)
        launch(
            _compositing.composite,
            splat_rows, tile_start, tile_rows, *tiles, backgrounds.detach().numpy(), (0,) * n_channels,
            *_arrays(colours, alphas, remaining, ended), tile_stop,
        )  # fmt: skip
        ctx.save_for_backward(means2d, splats, lit, backgrounds, remaining, ended)
        ctx.bins = (first_pair, tile_start, tile_rows, tile_pairs, tile_stop, tiles)
        ctx.absgrad = absgrad
        return colours, alphas[..., None]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_colours: Tensor, v_alphas: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        means2d, splats, lit, backgrounds, remaining, ended = ctx.saved_tensors
        first_pair, tile_start, tile_rows, tile_pairs, tile_stop, tiles = ctx.bins
        n_channels = backgrounds.shape[1]
        lanes = _compositing.LANES
        pair_sums = np.empty((len(tile_rows), -(-(_compositing.SUMS + n_channels) // lanes) * lanes), np.float32)
        splat_rows, backs, left, ends = _arrays(splats, backgrounds, remaining, ended)
        v_pixels, v_coverage = _arrays(v_colours.contiguous(), v_alphas[..., 0].contiguous())
        launch(
            _compositing.composite_backward,
            splat_rows, tile_start, tile_rows, tile_pairs, *tiles, backs, (0,) * n_channels,
            left, ends, tile_stop, v_pixels, v_coverage, pair_sums,
        )  # fmt: skip
        v_means2d, v_absolute = torch.zeros(means2d.shape), torch.zeros(means2d.shape)
        v_splats = torch.zeros_like(splats)
        launch(
            _compositing.gather,
            first_pair, pair_sums, splat_rows, n_channels, max(means2d.shape[1], 1),
            *_arrays(lit, v_means2d, v_absolute, v_splats),
        )  # fmt: skip
        if ctx.absgrad:
            means2d.absgrad = v_absolute.to(means2d.device)
        v_backgrounds = None
        if ctx.needs_input_grad[4]:
            v_backgrounds = torch.einsum("chwd,chw->cd", v_colours, remaining)
        return v_means2d.to(means2d.device), v_splats, None, None, v_backgrounds, None, None
