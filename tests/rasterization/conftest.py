"""A dense double-precision rasteriser in plain torch, and scenes to compare on."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor


class Scene:
    """Random Gaussians before cameras; every tensor a leaf that asks for its gradient."""

    def __init__(self, n: int = 60, cameras: int = 1, n_extra: int = 0, seed: int = 0, size: float = 0.12) -> None:
        g = torch.Generator().manual_seed(seed)
        self.width, self.height = 45, 37
        depth = 2.0 + 2.0 * torch.rand(n, 1, generator=g)
        across = (2.0 * torch.rand(n, 2, generator=g) - 1.0) * torch.tensor([0.75, 0.65]) * depth
        self.means = torch.cat([across, depth], dim=-1)
        self.quats = torch.randn(n, 4, generator=g)
        self.scales = size * torch.exp(0.8 * torch.randn(n, 3, generator=g))
        self.opacities = 0.05 + 0.95 * torch.rand(n, generator=g)
        self.colors = 0.4 * torch.randn(n, 16, 3, generator=g)
        self.extra = torch.rand(n, n_extra, generator=g) if n_extra else None
        self.viewmats = torch.eye(4).repeat(cameras, 1, 1)
        for c in range(1, cameras):
            turn = torch.tensor(0.1 * c)
            self.viewmats[c, 0, 0] = self.viewmats[c, 2, 2] = turn.cos()
            self.viewmats[c, 0, 2], self.viewmats[c, 2, 0] = turn.sin(), -turn.sin()
            self.viewmats[c, :3, 3] = torch.tensor([0.1, -0.05, 0.2]) * c
        self.Ks = torch.tensor([[40.0, 0.0, 22.0], [0.0, 38.0, 19.0], [0.0, 0.0, 1.0]]).repeat(cameras, 1, 1)
        self.backgrounds = torch.rand(cameras, 3 + n_extra, generator=g)

    LEAVES = ("means", "quats", "scales", "opacities", "colors", "extra", "viewmats", "backgrounds")

    def inputs(self, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
        """Fresh leaves, and the rest of rasterization's arguments."""
        leaves = {name: getattr(self, name) for name in self.LEAVES}
        given = {k: v.to(dtype).clone().requires_grad_() for k, v in leaves.items() if v is not None}
        return {**given, "Ks": self.Ks.to(dtype), "width": self.width, "height": self.height}


def dense_rasterization(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, colors: Tensor, viewmats: Tensor, Ks: Tensor,
    width: int, height: int, backgrounds: Tensor | None = None, extra: Tensor | None = None,
    sh_degree: int | None = None, render_mode: str = "RGB", rasterize_mode: str = "classic", eps2d: float = 0.3,
    near_plane: float = 0.01, far_plane: float = 1e10, radius_clip: float = 0.0, absgrad: bool = False,
) -> tuple[Tensor, Tensor, dict[str, Any]]:  # fmt: skip
    """gsplat's rules, every pixel against every Gaussian: projection and harmonics are gsplat's own torch code."""
    from gsplat.cuda._torch_impl import _fully_fused_projection, _quat_scale_to_covar_preci, _spherical_harmonics

    n_cameras = viewmats.shape[0]
    covars, _ = _quat_scale_to_covar_preci(quats, scales, compute_preci=False)
    assert covars is not None
    radii, means2d, depths, conics, compensations = _fully_fused_projection(
        means, covars, viewmats, Ks, width, height, eps2d, near_plane, far_plane, rasterize_mode == "antialiased"
    )
    radii = torch.where(radii > radius_clip, radii, 0)
    alphas0 = opacities.expand(n_cameras, -1) * (1.0 if compensations is None else compensations)
    if sh_degree is not None:
        directions = means - torch.linalg.inv(viewmats)[:, None, :3, 3]
        bands = colors.expand(n_cameras, *colors.shape[-3:])
        values = torch.clamp_min(_spherical_harmonics(sh_degree, directions, bands) + 0.5, 0.0)
    else:
        values = colors.expand(n_cameras, *colors.shape[-2:])
    parts = [values] if "RGB" in render_mode else []
    parts += [extra.expand(n_cameras, *extra.shape)] if extra is not None else []
    parts += [depths[..., None]] if "D" in render_mode else []
    channels = torch.cat(parts, dim=-1)
    info: dict[str, Any] = {"radii": radii, "means2d": means2d, "per_pixel": []}
    images, coverages = [], []
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    for c in range(n_cameras):
        remaining, image = torch.ones(height, width, dtype=means.dtype), 0.0
        going = torch.ones(height, width, dtype=torch.bool)
        for i in torch.argsort(depths[c], stable=True).tolist():
            if radii[c, i] <= 0:
                continue
            centre = means2d[c, i]
            if absgrad:  # one copy of the centre per pixel, so that the gradient of each pixel can be told apart
                centre = centre.expand(height, width, 2) * 1.0
                centre.retain_grad()
                info["per_pixel"].append((c, i, centre))
            dx, dy = x - centre[..., 0], y - centre[..., 1]
            a, b, d = conics[c, i]
            sigma = 0.5 * (a * dx**2 + d * dy**2) + b * dx * dy
            alpha = torch.clamp_max(alphas0[c, i] * torch.exp(-sigma), 0.999)
            middle, radius = means2d[c, i].detach(), float(radii[c, i])
            low, high = ((middle - radius) / 16).floor() * 16, ((middle + radius) / 16).ceil() * 16
            boxed = (x > low[0]) & (x < high[0]) & (y > low[1]) & (y < high[1])
            lit = boxed & (sigma >= 0) & (alpha >= 1.0 / 255.0) & going
            after = remaining * (1.0 - alpha)
            going = going & ~(lit & (after <= 1e-4))
            lit = lit & going
            image = image + torch.where(lit, remaining * alpha, 0.0)[..., None] * channels[c, i]
            remaining = torch.where(lit, after, remaining)
        if backgrounds is not None:
            n_depth = channels.shape[-1] - backgrounds.shape[-1]
            back = torch.cat([backgrounds[c], backgrounds.new_zeros(n_depth)])
            image = image + remaining[..., None] * back
        images.append(image)
        coverages.append(1.0 - remaining)
    render, coverage = torch.stack(images), torch.stack(coverages)[..., None]
    if "ED" in render_mode:
        render = torch.cat([render[..., :-1], render[..., -1:] / coverage.clamp(min=1e-10)], dim=-1)
    return render, coverage, info


@pytest.fixture(scope="session")
def dense() -> Callable[..., tuple[Tensor, Tensor, dict[str, Any]]]:
    """The dense reference."""
    return dense_rasterization


@pytest.fixture(scope="session")
def make_scene() -> type[Scene]:
    """Builds scenes."""
    return Scene
