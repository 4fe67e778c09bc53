"""gsplat's own CUDA rasterisation, and the one thing it lacks: extra channels beside spherical harmonics."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def rasterize_cuda(
    *,
    means: Float[Tensor, "N 3"],
    colors: Float[Tensor, "*B D"],
    viewmats: Float[Tensor, "C 4 4"],
    sh_degree: int | None,
    backgrounds: Float[Tensor, "C D"] | None,
    render_mode: str,
    extra: Float[Tensor, "N E"] | None,
    **arguments: Any,
) -> tuple[Float[Tensor, "C H W X"], Float[Tensor, "C H W 1"], dict[str, Any]]:
    """Call ``gsplat.rasterization``; the arguments are those of ``das3r_ns.rasterization.rasterization``.

    Without ``extra`` nothing is touched. With it, the colours are evaluated here, joined with the extra channels, and
    passed on as values per camera and Gaussian.

    Raises:
        NotImplementedError: ``extra`` with ``distributed``, which spreads Gaussians over processes.
    """
    from gsplat import rasterization

    if extra is not None:
        if arguments.get("distributed"):
            raise NotImplementedError("extra channels are not supported with distributed=True; render them apart.")
        n_cameras = viewmats.shape[0]
        extra = extra.expand(n_cameras, *extra.shape)
        if "RGB" not in render_mode:
            # gsplat drops colours in these modes; here the extra channels take their place.
            colors = extra
            render_mode = f"RGB+{render_mode}"
        else:
            colors = torch.cat([_evaluate(means, colors, viewmats, sh_degree), extra], dim=-1)
        sh_degree = None
    return rasterization(
        means=means,
        colors=colors,
        viewmats=viewmats,
        sh_degree=sh_degree,
        backgrounds=backgrounds,
        render_mode=render_mode,  # type: ignore[arg-type]
        **arguments,
    )


def _evaluate(means: Tensor, colors: Tensor, viewmats: Tensor, sh_degree: int | None) -> Float[Tensor, "C N D"]:
    """Colours as values per camera and Gaussian, by gsplat's rule."""
    from gsplat import spherical_harmonics

    n_cameras = viewmats.shape[0]
    if sh_degree is None:
        return colors if colors.dim() == 3 else colors.expand(n_cameras, -1, -1)
    directions = means - torch.linalg.inv(viewmats)[:, None, :3, 3]
    coefficients = colors if colors.dim() == 4 else colors.expand(n_cameras, -1, -1, -1)
    return torch.clamp_min(spherical_harmonics(sh_degree, directions, coefficients) + 0.5, 0.0)
