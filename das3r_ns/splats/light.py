"""Gain and offset of every training frame, where the light of the video changes, and the darkening of its lens towards
the corners, where there is one: one scene then explains all frames."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor, nn


class FrameLight(nn.Module):
    """What the light of a frame makes of the scene's colours: a gain and an offset for each channel.

    The scene has the middle light of the clip, which the viewer, the renders and the exported splats show. Both parts
    are learned with the scene, from static pixels only, for the loss knows no others; the gains start from what the
    front end has measured. Nothing makes the gains of frames that follow each other alike: a lamp may flicker, and what
    a frame shows tells its gain many times over.

    The lens leaves exp(a0 s + a1 s^2) of the light, s the squared distance from the centre in half diagonals. That
    stays as it was measured: learned, it would drift to what the first colours of the scene have of it.

    Args:
        log_gain: Measured logarithm of the gain of each training frame; None = steady light, and nothing to learn.
        frames: Number of each training frame in the video, ascending.
        falloff: Measured a0, a1, and half the diagonal of the picture in focals; None = the lens darkens nothing.
    """

    measured: Float[Tensor, "N 3"]

    def __init__(
        self,
        log_gain: Float[Tensor, "N 3"] | None,
        frames: Sequence[int],
        falloff: tuple[float, float, float] | None = None,
    ) -> None:
        super().__init__()
        self.frames = list(frames)
        self.changes = log_gain is not None
        log_gain = torch.zeros(len(self.frames), 3) if log_gain is None else log_gain
        self.register_buffer("measured", log_gain.float())
        self.log_gain = nn.Parameter(torch.zeros(len(log_gain), 3), requires_grad=self.changes)
        self.offset = nn.Parameter(torch.zeros(len(log_gain), 3), requires_grad=self.changes)
        self.falloff = falloff

    def learned(self) -> list[nn.Parameter]:
        """What training changes."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def through_lens(self, rgb: Float[Tensor, "H W 3"], camera: Cameras) -> Float[Tensor, "H W 3"]:
        """The colours as the lens leaves them.

        Args:
            rgb: The picture of the camera, at any size.
            camera: One pinhole camera of any size and centre.
        """
        if self.falloff is None:
            return rgb
        height, width = rgb.shape[:2]
        columns = (torch.arange(width, device=rgb.device) + 0.5) / width * camera.width.flatten()[0]
        rows = (torch.arange(height, device=rgb.device) + 0.5) / height * camera.height.flatten()[0]
        x = (columns - camera.cx.flatten()[0]) / camera.fx.flatten()[0]
        y = (rows - camera.cy.flatten()[0]) / camera.fy.flatten()[0]
        first, second, corner = self.falloff
        square = ((x**2)[None] + (y**2)[:, None])[..., None] / corner**2
        return rgb * torch.exp(square * (first + square * second))

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
