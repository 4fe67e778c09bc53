"""Gain and offset of every training frame, where the light of the video changes: one scene then explains them all."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FrameLight(nn.Module):
    """What the light of a frame makes of the scene's colours: a gain and an offset for each channel.

    The scene has the middle light of the clip, which the viewer, the renders and the exported splats show. Both parts
    are learned with the scene, from static pixels only, for the loss knows no others; the gains start from what the
    front end has measured.

    Args:
        log_gain: Measured logarithm of the gain of each training frame.
    """

    def __init__(self, log_gain: Float[Tensor, "N 3"]) -> None:
        super().__init__()
        self.register_buffer("measured", log_gain.float())
        self.log_gain = nn.Parameter(torch.zeros(len(log_gain), 3))
        self.offset = nn.Parameter(torch.zeros(len(log_gain), 3))

    def forward(self, rgb: Float[Tensor, "H W 3"], frame: int) -> Float[Tensor, "H W 3"]:
        """The colours in the light of a training frame."""
        return rgb * torch.exp(self.measured[frame] + self.log_gain[frame]) + self.offset[frame]

    def prior(self) -> Float[Tensor, ""]:
        """Holds what no frame can tell: whether all of them are brighter, or the scene is."""
        mean = self.log_gain.mean(dim=0).square().sum() + self.offset.mean(dim=0).square().sum()
        return mean + 0.01 * (self.log_gain.square().mean() + self.offset.square().mean())
