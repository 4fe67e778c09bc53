"""Gain and offset of every training frame, where the light of the video changes: one scene then explains them all."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence

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
        frames: Number of each training frame in the video, ascending; 0, 1, 2, ... if None.
    """

    measured: Float[Tensor, "N 3"]

    def __init__(self, log_gain: Float[Tensor, "N 3"], frames: Sequence[int] | None = None) -> None:
        super().__init__()
        self.register_buffer("measured", log_gain.float())
        self.log_gain = nn.Parameter(torch.zeros(len(log_gain), 3))
        self.offset = nn.Parameter(torch.zeros(len(log_gain), 3))
        self.frames = list(range(len(log_gain)) if frames is None else frames)

    def forward(self, rgb: Float[Tensor, "H W 3"], index: int) -> Float[Tensor, "H W 3"]:
        """The colours in the light of the training frame of this index."""
        return rgb * torch.exp(self.measured[index] + self.log_gain[index]) + self.offset[index]

    def at_frame(self, rgb: Float[Tensor, "H W 3"], frame: int) -> Float[Tensor, "H W 3"]:
        """The colours in the light of any frame of the video, between those of the training frames beside it.

        So a frame that was held out is not asked for its own light.

        Args:
            rgb: Colours of the scene.
            frame: Its number in the video.
        """
        after = bisect(self.frames, frame)
        before, after = max(after - 1, 0), min(after, len(self.frames) - 1)
        span = self.frames[after] - self.frames[before]
        share = 0.0 if span == 0 else (frame - self.frames[before]) / span
        gain = torch.lerp(
            self.measured[before] + self.log_gain[before], self.measured[after] + self.log_gain[after], share
        )
        return rgb * torch.exp(gain) + torch.lerp(self.offset[before], self.offset[after], share)

    def prior(self) -> Float[Tensor, ""]:
        """Holds what no frame can tell: whether all of them are brighter, or the scene is."""
        mean = self.log_gain.mean(dim=0).square().sum() + self.offset.mean(dim=0).square().sum()
        return mean + 0.01 * (self.log_gain.square().mean() + self.offset.square().mean())
