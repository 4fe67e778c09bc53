"""The DPT trunk: from the tokens of four layers to a map of the pixels.

The parts bear the official names; the order in which they are made is the order of the official state dict.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

FEATURES = 256
"""Channels of the pyramid."""

LAYER_DIMS = (96, 192, 384, 768)
"""Channels of its four levels, finest first, before they are made equal."""


def enlarge(x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C 2h 2w"]:
    """Twice the size; the centres of the corner pixels stay where they are."""
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


class Enlarge(nn.Module):
    """:func:`enlarge` as a step of a sequence."""

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C 2h 2w"]:
        return enlarge(x)


class ResidualUnit(nn.Module):
    """Two 3 x 3 convolutions around which the input passes unchanged."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(FEATURES, FEATURES, 3, padding=1)
        self.conv2 = nn.Conv2d(FEATURES, FEATURES, 3, padding=1)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        return x + self.conv2(functional.relu(self.conv1(functional.relu(x))))


class Fusion(nn.Module):
    """Joins a level of the pyramid with what came from the coarser ones, and doubles the size."""

    def __init__(self) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(FEATURES, FEATURES, 1)
        self.resConfUnit1 = ResidualUnit()  # of the coarsest level: stored, but there is nothing for it to join
        self.resConfUnit2 = ResidualUnit()

    def forward(
        self, coarse: Float[Tensor, "B C h w"], level: Float[Tensor, "B C h w"] | None = None
    ) -> Float[Tensor, "B C 2h 2w"]:
        if level is not None:
            coarse = coarse + self.resConfUnit1(level)
        # Officially the 1 x 1 convolution comes last. It commutes with interpolation, whose weights sum to one, and
        # before it has a quarter of the pixels to go through.
        return enlarge(self.out_conv(self.resConfUnit2(coarse)))


class Scratch(nn.Module):
    """The pyramid."""

    def __init__(self) -> None:
        super().__init__()
        for number, dim in enumerate(LAYER_DIMS, start=1):
            self.add_module(f"layer{number}_rn", nn.Conv2d(dim, FEATURES, 3, padding=1, bias=False))
        # The same convolutions once more: the official state dict has each of them under two names.
        self.layer_rn = nn.ModuleList(self.get_submodule(f"layer{number}_rn") for number in range(1, 5))
        self.refinenet1 = Fusion()
        self.refinenet2 = Fusion()
        self.refinenet3 = Fusion()
        self.refinenet4 = Fusion()

    def forward(self, levels: Sequence[Float[Tensor, "B c h w"]]) -> Float[Tensor, "B C H W"]:
        fine, medium, coarse, coarsest = (conv(level) for conv, level in zip(self.layer_rn, levels, strict=True))
        # With an odd number of tokens the coarsest level, rounded up, is a row or column larger when doubled.
        path = self.refinenet4(coarsest)[..., : coarse.shape[-2], : coarse.shape[-1]]
        path = self.refinenet3(path, coarse)
        path = self.refinenet2(path, medium)
        return self.refinenet1(path, fine)


class Dpt(nn.Module):
    """Tokens of four layers to a raw map at the resolution of the frame."""

    def __init__(self, dims: Sequence[int], head: nn.Sequential) -> None:
        """Make the trunk.

        Args:
            dims: Channels of the tokens of the four layers.
            head: Last stage, from the pyramid at half the resolution to the map.
        """
        super().__init__()
        self.scratch = Scratch()
        self.head = head
        one, two, three, four = LAYER_DIMS
        self.act_postprocess = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(dims[0], one, 1), nn.ConvTranspose2d(one, one, 4, stride=4)),
                nn.Sequential(nn.Conv2d(dims[1], two, 1), nn.ConvTranspose2d(two, two, 2, stride=2)),
                nn.Sequential(nn.Conv2d(dims[2], three, 1)),
                nn.Sequential(nn.Conv2d(dims[3], four, 1), nn.Conv2d(four, four, 3, stride=2, padding=1)),
            ]
        )

    def forward(self, layers: Sequence[Float[Tensor, "B T c"]], grid: tuple[int, int]) -> Float[Tensor, "B C H W"]:
        """Raw map.

        Args:
            layers: Tokens of the four layers, the shallowest first.
            grid: Rows and columns of tokens.
        """
        maps = [tokens.transpose(1, 2).unflatten(2, grid) for tokens in layers]
        levels = [resize(tokens) for resize, tokens in zip(self.act_postprocess, maps, strict=True)]
        return self.head(self.scratch(levels))
