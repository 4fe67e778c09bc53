"""The Gaussians a training starts from."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from nerfstudio.models.splatfacto import RGB2SH, SplatfactoModelConfig, num_sh_bases
from scipy.spatial import KDTree
from torch import Tensor


def initial_gaussians(
    seed_points: tuple[Float[Tensor, "M 3"], UInt8[Tensor, "M 3"]] | None,
    config: SplatfactoModelConfig,
    sized: bool = True,
) -> dict[str, Tensor]:
    """Positions, sizes, orientations and colours; isotropic, as large as the distance to the neighbours.

    Args:
        seed_points: Positions and 8-bit colours; None for ``config.num_random`` random ones.
        config: Degree of the spherical harmonics, and where random points lie.
        sized: False where a checkpoint follows and overwrites the sizes: no neighbours are looked for, all are 1.

    Returns:
        ``means`` [N, 3], ``scales`` (log) [N, 3], ``quats`` (wxyz) [N, 4], ``features_dc`` [N, 3] and
        ``features_rest`` [N, K, 3].
    """
    if seed_points is None:
        means = (torch.rand(config.num_random, 3) - 0.5) * config.random_scale
        rgb = torch.rand(config.num_random, 3)
    else:
        means, rgb = seed_points[0].float().clone(), seed_points[1].float() / 255
    count = len(means)
    return {
        "means": means,
        "scales": torch.log(neighbour_distance(means)).repeat(1, 3) if sized else torch.zeros(count, 3),
        "quats": torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
        "features_dc": RGB2SH(rgb) if config.sh_degree > 0 else torch.logit(rgb, eps=1e-3),
        "features_rest": torch.zeros(count, num_sh_bases(config.sh_degree) - 1, 3),
    }


def neighbour_distance(means: Float[Tensor, "N 3"], neighbours: int = 3) -> Float[Tensor, "N 1"]:
    """Root mean square distance of each point to its nearest neighbours, at least 3e-4 (points may coincide)."""
    points = means.detach().cpu().numpy()
    distances, _ = KDTree(points).query(points, k=min(neighbours + 1, len(points)), workers=-1)
    squared = np.square(np.asarray(distances).reshape(len(points), -1)[:, 1:])
    mean = squared.mean(axis=1) if squared.shape[1] else np.zeros(len(points))
    return torch.from_numpy(np.sqrt(np.maximum(mean, 1e-7)).astype(np.float32))[:, None]


def scene_scale(means: Float[Tensor, "N 3"]) -> float:
    """Median distance of the Gaussians from the origin, round which the data parser puts the cameras."""
    return max(float(means.norm(dim=-1).median()), 1e-3)
