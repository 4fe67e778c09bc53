"""The network of the head: a small U-Net that adds to the logit of what the rules say."""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

SURE = 0.02
"""Relative evidence is this far from 0 and 1 at least before its logit is taken: the head may overrule it."""
LARGEST = 8.0
"""Largest correction of a logit."""
WIDTHS = (16, 32, 64, 96)
"""Channels at strides 1, 2, 4 and 8."""
COARSEST = 2 ** (len(WIDTHS) - 1)


class Block(nn.Module):
    """A depthwise convolution and a small perceptron beside it, added to what comes in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.around = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.widen, self.narrow = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(2 * width, width, 1)
        self.scale = nn.Parameter(torch.full((width, 1, 1), 0.3))

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B c h w"]:
        return x + self.scale * self.narrow(functional.relu(self.widen(self.around(x))))


class MotionHead(nn.Module):
    """Corrects relative evidence. New, it changes nothing: its last layer is zero.

    Args:
        maps: Number of maps C that it sees of a frame.
        context: Number of values G that it sees of a clip.
    """

    def __init__(self, maps: int, context: int) -> None:
        super().__init__()
        first, second, third, fourth = WIDTHS
        self.first = nn.Conv2d(maps + 2, first, 1)
        self.of_clip = nn.Sequential(nn.Linear(context, 32), nn.ReLU(), nn.Linear(32, 2 * second))
        self.down = nn.ModuleList([nn.Conv2d(a, b, 2, 2) for a, b in itertools.pairwise(WIDTHS)])
        self.blocks = nn.ModuleList([Block(second), nn.Sequential(Block(third), Block(third))])
        self.bottom = nn.Sequential(Block(fourth), Block(fourth), Block(fourth))
        self.up = nn.ModuleList([nn.Conv2d(fourth, third, 1), nn.Conv2d(third, second, 1), nn.Conv2d(second, first, 1)])
        self.after = nn.ModuleList([Block(third), Block(second)])
        self.fine = nn.Conv2d(first, first, 3, padding=1, groups=first)
        self.mix, self.last = nn.Conv2d(first, first, 1), nn.Conv2d(first, 1, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # pyright: ignore[reportArgumentType]

    def forward(
        self, maps: Float[Tensor, "B C h w"], relative: Float[Tensor, "B h w"], context: Float[Tensor, "B G"]
    ) -> Float[Tensor, "B h w"]:
        """What to add to the logit of the relative evidence.

        Args:
            maps: Of single frames, 0 to 1, of any size.
            relative: What the rules make of them.
            context: Of their clips.
        """
        height, width = relative.shape[-2:]
        own = torch.stack([logit_of(relative) / 4.0, relative.clamp(0.0, 1.5)], dim=1)
        x = torch.cat([own, 2.0 * maps - 1.0], dim=1)
        x = functional.pad(x, (0, -width % COARSEST, 0, -height % COARSEST), mode="replicate")
        fine = functional.relu(self.first(x))
        half = self.down[0](fine)
        gain, offset = self.of_clip(2.0 * context - 1.0)[..., None, None].chunk(2, dim=1)
        half = self.blocks[0](functional.relu(half * (1.0 + gain) + offset))
        quarter = self.blocks[1](functional.relu(self.down[1](half)))
        x = self.bottom(functional.relu(self.down[2](quarter)))
        x = self.after[0](quarter + _larger(self.up[0](x)))
        x = self.after[1](half + _larger(self.up[1](x)))
        x = functional.relu(self.fine(fine + _larger(self.up[2](x))))
        x = self.last(functional.relu(self.mix(x)))[:, 0, :height, :width]
        return LARGEST * torch.tanh(x / LARGEST)


def logit_of(relative: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Logit of relative evidence, as far as it may be overruled."""
    return torch.logit(relative.clamp(SURE, 1.0 - SURE))


def with_correction(relative: Float[Tensor, "*shape"], correction: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Relative evidence whose logit is changed; without a correction it stays, also where it is beyond 0 or 1."""
    changed = torch.sigmoid(logit_of(relative) + correction)
    return changed * (relative / (1.0 - SURE)).clamp(min=1.0) + (relative - SURE).clamp(max=0.0)


def _larger(x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B c h2 w2"]:
    return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
