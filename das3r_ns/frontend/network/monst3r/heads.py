"""What is read off a view's tokens: points with confidence, and the dynamic probability."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from das3r_ns.frontend.network.monst3r.dpt import FEATURES, Dpt, Enlarge


class LastConv(nn.Conv2d):
    """The 1 x 1 convolution before the exponential or sigmoid: never in less than the precision of its weights.

    Under autocast everything before it runs in 16 bits; here their steps would show in the points.
    """

    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B c H W"]:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.to(self.weight.dtype))


class PointsHead(nn.Module):
    """Pointmap and confidence of a view, in the frame of view 1."""

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        half = FEATURES // 2
        head = nn.Sequential(
            nn.Conv2d(FEATURES, half, 3, padding=1),
            Enlarge(),
            nn.Conv2d(half, half, 3, padding=1),
            nn.ReLU(),
            LastConv(half, 4, 1),
        )
        self.dpt = Dpt(dims, head)

    def forward(
        self, layers: Sequence[Float[Tensor, "B T c"]], grid: tuple[int, int]
    ) -> tuple[Float[Tensor, "B H W 3"], Float[Tensor, "B H W"]]:
        """Points, and their confidence from 1 up."""
        raw = self.dpt(layers, grid)
        direction = raw[:, :3].permute(0, 2, 3, 1)
        length = direction.norm(dim=-1, keepdim=True).clamp(min=1e-8)
        return direction * (length.expm1() / length), 1.0 + raw[:, 3].exp()


class MaskHead(nn.Module):
    """Dynamic probability of a view."""

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        # The places of the two Identity hold a norm that is switched off and a dropout, which only training needs; they
        # are kept so that the last convolution has the official number.
        head = nn.Sequential(
            nn.Conv2d(FEATURES, FEATURES, 3, padding=1, bias=False),
            nn.Identity(),
            nn.ReLU(),
            nn.Identity(),
            LastConv(FEATURES, 1, 1),
            Enlarge(),
        )
        self.dpt = Dpt(dims, head)

    def forward(self, layers: Sequence[Float[Tensor, "B T c"]], grid: tuple[int, int]) -> Float[Tensor, "B H W"]:
        """Probability from 0 (static) to 1 (moves)."""
        return self.dpt(layers, grid)[:, 0].sigmoid()

    def drop_out(self, share: float) -> None:
        """From now on leave out a share of the channels before the last convolution, as long as it is trained."""
        self.dpt.head[3] = nn.Dropout(share)
