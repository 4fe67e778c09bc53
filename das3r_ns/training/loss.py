"""What the mask heads are trained by: cross-entropy of what all pairs together say of a frame."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from das3r_ns.frontend.network.monst3r.config import PATCH
from das3r_ns.frontend.network.monst3r.network import PairNetwork
from das3r_ns.training.groups import Batch, directed_pairs
from das3r_ns.training.heads import mask_heads

SURE = 1e-6
"""A probability is this far from 0 and 1 at least, so that its logarithm is finite."""
LEAST_SAID = 1e-3
"""Weight of a pair that is not confident at all: where none is, all count alike."""


def loss_of(network: PairNetwork, batch: Batch, autocast: torch.dtype | None) -> Tensor:
    """Binary cross-entropy of a batch.

    Frames are encoded once, and what comes before the heads has no gradients. Of every frame, head 1 speaks in the
    pairs that have it as view 1, and head 2 in those that have it as view 2; both are held to its mask.

    Args:
        network: With mask heads, which get the gradients.
        batch: On the device of the network.
        autocast: Type for matrix products and convolutions; None = float32.

    Returns:
        A single number.
    """
    pairs = directed_pairs(batch.images.shape[1])
    height, width = batch.masks.shape[-2:]
    device = batch.images.device
    with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
        layers, said = _frozen(network, batch, pairs)
        grid = (height // PATCH, width // PATCH)
        probability = [head(own, grid) for head, own in zip(mask_heads(network), layers, strict=True)]
    total = torch.zeros((), device=device)
    for view in (0, 1):
        own = torch.tensor([pair[view] for pair in pairs], device=device)
        together = aggregate(
            probability[view].float().unflatten(0, (-1, len(pairs))),
            said[view].float().unflatten(0, (-1, len(pairs))),
            own,
            batch.images.shape[1],
        )
        total = total + cross_entropy(together, batch.masks)
    return total / 2


@torch.no_grad()
def _frozen(
    network: PairNetwork, batch: Batch, pairs: list[tuple[int, int]]
) -> tuple[list[list[Tensor]], list[Tensor]]:
    """What the frozen part gives for all pairs: the tokens for the mask heads, and log confidences, of both views."""
    groups, size = batch.images.shape[:2]
    height, width = batch.masks.shape[-2:]
    grid = (height // PATCH, width // PATCH)
    tokens = network.encode(batch.images.flatten(0, 1)).unflatten(0, (groups, size))
    views = [tokens[:, [pair[view] for pair in pairs]].flatten(0, 1) for view in (0, 1)]
    layers = network.decode_layers(views[0], views[1], grid)
    points = (network.downstream_head1, network.downstream_head2)
    said = [head(own, grid)[1].float().log() for head, own in zip(points, layers, strict=True)]
    return list(layers), said


def aggregate(
    probability: Float[Tensor, "B E H W"], said: Float[Tensor, "B E H W"], frame: Tensor, frames: int
) -> Float[Tensor, "B G H W"]:
    """What all pairs together say of each frame: the mean, weighted by log confidence as in the alignment.

    Args:
        probability: That what a pair shows moves.
        said: Log confidence of the pair at the pixel.
        frame: Which frame of the group each pair speaks of.
        frames: Number of frames G.
    """
    weight = said.clamp(min=LEAST_SAID)
    shape = (probability.shape[0], frames, *probability.shape[2:])
    total = probability.new_zeros(shape).index_add(1, frame, weight * probability)
    return total / probability.new_zeros(shape).index_add(1, frame, weight)


def cross_entropy(probability: Float[Tensor, "B G H W"], masks: Float[Tensor, "B G H W"]) -> Tensor:
    """Mean binary cross-entropy over all pixels, in float32."""
    return functional.binary_cross_entropy(probability.clamp(SURE, 1.0 - SURE), masks)
