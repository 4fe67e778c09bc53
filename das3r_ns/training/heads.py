"""The part of the network that is trained: its two mask heads, made new where the checkpoint has none."""

from __future__ import annotations

from dataclasses import replace

import torch

from das3r_ns.frontend.network.monst3r.heads import MaskHead
from das3r_ns.frontend.network.monst3r.network import PairNetwork
from das3r_ns.progress import Progress

DROPPED = 0.1
"""Share of the channels before a head's last convolution that are left out in a step, as officially."""


def mask_heads(network: PairNetwork) -> tuple[MaskHead, MaskHead]:
    """Both mask heads of a network that has them: that of view 1, and that of view 2."""
    return network.downstream_head_dynamic_mask1, network.downstream_head_dynamic_mask2


def with_mask_heads(network: PairNetwork, seed: int, progress: Progress) -> PairNetwork:
    """The network, all of it frozen but its mask heads.

    Where it has none, it gets new ones: their trunks begin as those of the heads for points, which have learned to read
    the same tokens, and their last stages at random.

    Args:
        network: From a checkpoint; taken over.
        seed: Of the random part.
        progress: Told where heads are new.
    """
    if not network.config.mask_heads:
        progress.say("This checkpoint has no mask heads: new ones are made, with the trunks of its heads for points.")
        torch.manual_seed(seed)
        wider = PairNetwork(replace(network.config, mask_heads=True))
        wider.load_state_dict(network.state_dict(), strict=False)
        points = (wider.downstream_head1, wider.downstream_head2)
        for head, own in zip(mask_heads(wider), points, strict=True):
            head.dpt.scratch.load_state_dict(own.dpt.scratch.state_dict())
            head.dpt.act_postprocess.load_state_dict(own.dpt.act_postprocess.state_dict())
        network = wider
    network.requires_grad_(False)
    for head in mask_heads(network):
        head.requires_grad_(True)
        head.drop_out(DROPPED)
    return network
