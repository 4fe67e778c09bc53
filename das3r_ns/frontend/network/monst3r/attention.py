"""Attention with rotary positions, and the MLP: what encoder and decoder blocks are made of."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

ROTARY_BASE = 100.0
"""Base of the frequencies of the rotary positions."""


class Rotation:
    """Angles that turn the channels of queries and keys by the place of their token in the picture.

    The first half of the channels of a head tells the row, the second half the column. Within a half of D channels,
    channels k and k + D/2 are one pair, turned by (row or column) x 100^(-2k/D).
    """

    def __init__(self, rows: int, columns: int, head_dim: int, device: torch.device) -> None:
        """Angles for tokens in row-major order, counted from 0, whatever the precision of the network in float32."""
        half = head_dim // 2
        frequency = ROTARY_BASE ** (-torch.arange(0, half, 2, device=device, dtype=torch.float32) / half)
        place = torch.cartesian_prod(torch.arange(rows, device=device), torch.arange(columns, device=device))
        angle = place.reshape(-1, 2, 1).to(torch.float32) * frequency
        self.cos: Float[Tensor, "T 2 D/2"] = angle.cos()
        self.sin: Float[Tensor, "T 2 D/2"] = angle.sin()

    def __call__(self, x: Float[Tensor, "B heads T C"]) -> Float[Tensor, "B heads T C"]:
        """Turn queries or keys. Computed in float32 at least, also under autocast; returned as it came."""
        first, second = x.unflatten(-1, (2, 2, -1)).unbind(-2)
        turned = (first * self.cos - second * self.sin, second * self.cos + first * self.sin)
        return torch.stack(turned, dim=-2).flatten(-3).to(x.dtype)


def _split(x: Float[Tensor, "B T C"], heads: int) -> Float[Tensor, "B heads T c"]:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _attend(
    q: Float[Tensor, "B heads T c"], k: Float[Tensor, "B heads S c"], v: Float[Tensor, "B heads S c"]
) -> Float[Tensor, "B T C"]:
    return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Tokens of a view attend to each other."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "B T C"], rotation: Rotation) -> Float[Tensor, "B T C"]:
        q, k, v = (_split(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        return self.proj(_attend(rotation(q), rotation(k), v))


class CrossAttention(nn.Module):
    """Tokens of a view attend to those of the other view of the pair."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.projq = nn.Linear(dim, dim)
        self.projk = nn.Linear(dim, dim)
        self.projv = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(
        self, x: Float[Tensor, "B T C"], other: Float[Tensor, "B T C"], rotation: Rotation
    ) -> Float[Tensor, "B T C"]:
        q = _split(self.projq(x), self.heads)
        k = _split(self.projk(other), self.heads)
        v = _split(self.projv(other), self.heads)
        return self.proj(_attend(rotation(q), rotation(k), v))


class Mlp(nn.Module):
    """Two layers with four times the width between them."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        return self.fc2(functional.gelu(self.fc1(x)))
