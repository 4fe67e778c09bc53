"""Metrics of evaluation images, without a network connection unless one is asked for."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from das3r_ns.splats.losses import weighted_psnr
from das3r_ns.splats.ssim import weighted_ssim

Lpips = Callable[[Float[Tensor, "1 3 H W"], Float[Tensor, "1 3 H W"]], Tensor]


class ImageMetrics:
    """PSNR, SSIM and, where asked for and to be had, LPIPS.

    LPIPS is built at its first use and not as a module of the model: constructing it downloads weights, and these
    have no business in a checkpoint.

    Args:
        measure_lpips: Whether to try LPIPS.
    """

    def __init__(self, measure_lpips: bool) -> None:
        self._wants_lpips = measure_lpips
        self._lpips: Lpips | None = None

    @torch.no_grad()
    def __call__(
        self, rendered: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"], static_weight: Float[Tensor, "H W 1"]
    ) -> dict[str, float]:
        """Measure one picture.

        Returns:
            ``psnr`` and ``ssim`` over all pixels, ``psnr_static`` over the static weight, perhaps ``lpips``.
        """
        everything = torch.ones_like(static_weight)
        metrics = {
            "psnr": float(weighted_psnr(rendered, target, everything)),
            "psnr_static": float(weighted_psnr(rendered, target, static_weight)),
            "ssim": float(weighted_ssim(rendered, target, everything)),
        }
        if self._wants_lpips and self._lpips is None:
            self._build_lpips(rendered.device)
        if self._lpips is not None:
            pair = [image.permute(2, 0, 1)[None].clamp(0, 1) for image in (rendered, target)]
            metrics["lpips"] = float(self._lpips(pair[0], pair[1]))
        return metrics

    def _build_lpips(self, device: torch.device) -> None:
        try:
            self._lpips = build_lpips(device)
        except LPIPS_ERRORS as error:
            self._wants_lpips = False
            CONSOLE.print(f"[yellow]LPIPS is left out: its weights could not be loaded ({error}).")


LPIPS_ERRORS = (OSError, RuntimeError, ImportError)
"""What :func:`build_lpips` raises where the weights are not to be had; URLError is an OSError."""


def build_lpips(device: torch.device | str) -> Lpips:
    """LPIPS (Zhang et al. 2018) on AlexNet, for pictures in [0, 1]; torchvision downloads its weights if need be."""
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    return LearnedPerceptualImagePatchSimilarity(normalize=True).to(device)
