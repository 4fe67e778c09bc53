"""The network for pairs of frames: one encoder for both, two decoders that look at each other, and a head per output.

Written from the names and shapes of the published weights, which it loads. Tokens of a frame do not depend on the pair
it is in: encode each frame once with :meth:`PairNetwork.encode`, and decode all its pairs with
:meth:`PairNetwork.decode`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from das3r_ns.frontend.network.monst3r.attention import Rotation
from das3r_ns.frontend.network.monst3r.blocks import DecoderBlock, EncoderBlock, PatchEmbedding, layer_norm
from das3r_ns.frontend.network.monst3r.config import PATCH, NetworkConfig
from das3r_ns.frontend.network.monst3r.heads import MaskHead, PointsHead


class PairNetwork(nn.Module):
    """DAS3R (with mask heads), MonST3R or DUSt3R (without). Always in evaluation mode; computes no gradients.

    The mask heads alone can be trained, on what :meth:`decode_layers` gives: das3r_ns.training does.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        wide, narrow = config.enc_embed_dim, config.dec_embed_dim
        # In the order of the official state dict.
        self.mask_token = nn.Parameter(torch.zeros(1, 1, narrow))  # stored with every checkpoint, and never used
        self.patch_embed = PatchEmbedding(wide)
        self.enc_blocks = nn.ModuleList(EncoderBlock(wide, config.enc_num_heads) for _ in range(config.enc_depth))
        self.enc_norm = layer_norm(wide)
        self.decoder_embed = nn.Linear(wide, narrow)
        self.dec_blocks = nn.ModuleList(DecoderBlock(narrow, config.dec_num_heads) for _ in range(config.dec_depth))
        self.dec_norm = layer_norm(narrow)
        self.dec_blocks2 = nn.ModuleList(DecoderBlock(narrow, config.dec_num_heads) for _ in range(config.dec_depth))
        dims = (wide, narrow, narrow, narrow)
        if config.mask_heads:
            self.downstream_head_dynamic_mask1 = MaskHead(dims)
            self.downstream_head_dynamic_mask2 = MaskHead(dims)
        self.downstream_head1 = PointsHead(dims)
        self.downstream_head2 = PointsHead(dims)
        self.eval()

    def train(self, mode: bool = True) -> PairNetwork:
        """Stay in evaluation mode: no more than its mask heads are ever trained, which are told so themselves."""
        del mode
        return super().train(False)

    @torch.no_grad()
    def encode(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B T C"]:
        """Tokens of frames, each for itself.

        Args:
            images: RGB from -1 to 1; height and width are multiples of 16.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must have shape B x 3 x H x W, not {tuple(images.shape)}")
        rows, columns = _grid((images.shape[2], images.shape[3]))
        rotation = Rotation(rows, columns, self.config.enc_embed_dim // self.config.enc_num_heads, images.device)
        tokens = self.patch_embed(images)
        for block in self.enc_blocks:
            tokens = block(tokens, rotation)
        return self.enc_norm(tokens)

    @torch.no_grad()
    def decode(
        self,
        tokens1: Float[Tensor, "B T C"],
        tokens2: Float[Tensor, "B T C"],
        size: tuple[int, int],
        second_mask: bool = True,
    ) -> dict[str, Tensor]:
        """What :meth:`infer_pair` returns, from the tokens of the frames.

        Args:
            tokens1: View 1 of each pair, from :meth:`encode`.
            tokens2: View 2 of each pair.
            size: Height and width of the frames in pixels.
            second_mask: Also compute ``dynamic_mask2``, a seventh of the work, which nothing needs where each pair is
                there both ways.
        """
        grid = _grid(size)
        if tokens1.shape != tokens2.shape or tokens1.shape[1] != grid[0] * grid[1]:
            raise ValueError(
                f"tokens1 and tokens2 must have shape B x {grid[0] * grid[1]} x C for frames of {size[0]} x {size[1]} "
                f"pixels, not {tuple(tokens1.shape)} and {tuple(tokens2.shape)}"
            )
        layers1, layers2 = self.decode_layers(tokens1, tokens2, grid)
        pts3d, conf = self.downstream_head1(layers1, grid)
        pts3d_in_other_view, conf2 = self.downstream_head2(layers2, grid)
        out = {"pts3d": pts3d, "conf": conf, "pts3d_in_other_view": pts3d_in_other_view, "conf2": conf2}
        if self.config.mask_heads:
            out["dynamic_mask1"] = self.downstream_head_dynamic_mask1(layers1, grid)
        if self.config.mask_heads and second_mask:
            out["dynamic_mask2"] = self.downstream_head_dynamic_mask2(layers2, grid)
        return out

    def infer_pair(self, img1: Float[Tensor, "B 3 H W"], img2: Float[Tensor, "B 3 H W"]) -> dict[str, Tensor]:
        """Points, confidence and dynamic probability of both views of each pair.

        Args:
            img1: View 1 of each pair: RGB from -1 to 1; height and width are multiples of 16.
            img2: View 2, of the same size.

        Returns:
            In the precision of the weights, float32 as they are stored: ``pts3d`` and ``pts3d_in_other_view``
            ([B, H, W, 3]; points of view 1 and of view 2, both in the frame of camera 1, to an unknown scale), ``conf``
            and ``conf2`` ([B, H, W], 1 = none), and with mask heads ``dynamic_mask1`` and ``dynamic_mask2``
            ([B, H, W], 1 = moves).
        """
        if img1.shape != img2.shape:
            raise ValueError(f"img1 and img2 must have one shape, not {tuple(img1.shape)} and {tuple(img2.shape)}")
        tokens1, tokens2 = self.encode(torch.cat([img1, img2])).chunk(2)
        return self.decode(tokens1, tokens2, (img1.shape[2], img1.shape[3]))

    @torch.no_grad()
    def decode_layers(
        self, tokens1: Float[Tensor, "B T C"], tokens2: Float[Tensor, "B T C"], grid: tuple[int, int]
    ) -> tuple[list[Float[Tensor, "B T c"]], list[Float[Tensor, "B T c"]]]:
        """The four layers of tokens that the heads of each view look at: the encoder's, and three of the decoder's."""
        depth = self.config.dec_depth
        wanted = (depth // 2, 3 * depth // 4, depth)
        rotation = Rotation(*grid, self.config.dec_embed_dim // self.config.dec_num_heads, tokens1.device)
        layers1, layers2 = [tokens1], [tokens2]
        view1, view2 = self.decoder_embed(tokens1), self.decoder_embed(tokens2)
        for number, (block1, block2) in enumerate(zip(self.dec_blocks, self.dec_blocks2, strict=True), start=1):
            # At once: each view looks at the other one as the block before has left it.
            view1, view2 = block1(view1, view2, rotation), block2(view2, view1, rotation)
            if number in wanted:
                last = number == depth
                layers1.append(self.dec_norm(view1) if last else view1)
                layers2.append(self.dec_norm(view2) if last else view2)
        return layers1, layers2


def build_network(config: Mapping[str, Any]) -> PairNetwork:
    """A network with random weights, ready for those of a checkpoint.

    Args:
        config: Constructor arguments under their official names, as config.json of a checkpoint holds them. Without
            ``"mask_heads": False`` there are heads for the dynamic probability, as in DAS3R.

    Raises:
        Das3rError: The configuration describes another architecture, or sizes that cannot be.
    """
    return PairNetwork(NetworkConfig.from_dict(config))


def _grid(size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of tokens of a frame."""
    if min(size) < PATCH or size[0] % PATCH or size[1] % PATCH:
        raise ValueError(f"height and width of a frame must be multiples of {PATCH} pixels, not {size[0]} x {size[1]}")
    return size[0] // PATCH, size[1] // PATCH
