"""Transformer blocks. The order in which their parts are made is the order of the official state dict."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from das3r_ns.frontend.network.monst3r.attention import CrossAttention, Mlp, Rotation, SelfAttention
from das3r_ns.frontend.network.monst3r.config import PATCH


def layer_norm(dim: int) -> nn.LayerNorm:
    """The LayerNorm used throughout; its epsilon is not torch's default."""
    return nn.LayerNorm(dim, eps=1e-6)


class PatchEmbedding(nn.Module):
    """One token for each square of 16 x 16 pixels, row by row."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=PATCH, stride=PATCH)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B T C"]:
        return self.proj(images).flatten(2).transpose(1, 2)


class EncoderBlock(nn.Module):
    """Self-attention, then MLP."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = layer_norm(dim)
        self.attn = SelfAttention(dim, heads)
        self.norm2 = layer_norm(dim)
        self.mlp = Mlp(dim)

    def forward(self, x: Float[Tensor, "B T C"], rotation: Rotation) -> Float[Tensor, "B T C"]:
        x = x + self.attn(self.norm1(x), rotation)
        return x + self.mlp(self.norm2(x))


class DecoderBlock(nn.Module):
    """Self-attention, cross-attention to the other view, then MLP."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = layer_norm(dim)
        self.attn = SelfAttention(dim, heads)
        self.cross_attn = CrossAttention(dim, heads)
        self.norm2 = layer_norm(dim)
        self.norm3 = layer_norm(dim)
        self.mlp = Mlp(dim)
        self.norm_y = layer_norm(dim)

    def forward(
        self, x: Float[Tensor, "B T C"], other: Float[Tensor, "B T C"], rotation: Rotation
    ) -> Float[Tensor, "B T C"]:
        x = x + self.attn(self.norm1(x), rotation)
        x = x + self.cross_attn(self.norm2(x), self.norm_y(other), rotation)
        return x + self.mlp(self.norm3(x))
