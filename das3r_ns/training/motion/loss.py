"""What the motion head is trained by."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from das3r_ns.frontend.geometric.head.network import MotionHead, logit_of
from das3r_ns.training.motion.batches import Batch

LEAST = 0.005
"""Share of the picture that the soft Jaccard index counts as found besides: where nothing moves, what is marked beyond
it costs all the same."""
MODEST = 2e-3
"""Price of a squared correction: the rules stay where nothing speaks against them."""


def loss_of(head: MotionHead, batch: Batch, caution: float, jaccard: float) -> Tensor:
    """Cross-entropy, the soft Jaccard loss, and a price for corrections; a single number.

    Args:
        head: Gets the gradients.
        batch: Pieces with their truth.
        caution: Price of a static pixel that is called moving, against 1.
        jaccard: Weight of the Jaccard loss.
    """
    correction = head(batch.maps, batch.relative, batch.context)
    logit = logit_of(batch.relative) + correction
    price = batch.truth + caution * (1.0 - batch.truth)
    entropy = functional.binary_cross_entropy_with_logits(logit, batch.truth, price)
    index = soft_jaccard(torch.sigmoid(logit), batch.truth) if jaccard else torch.ones(1)
    return entropy + jaccard * (1.0 - index).mean() + MODEST * correction.square().mean()


def soft_jaccard(found: Float[Tensor, "B h w"], truth: Float[Tensor, "B h w"]) -> Float[Tensor, " B"]:
    """Intersection over union of probabilities, of each piece (Rahman and Wang, ISVC 2016), 1 where both are empty."""
    both = (found * truth).sum(dim=(1, 2))
    either = (found + truth).sum(dim=(1, 2)) - both
    least = LEAST * truth[0].numel()
    return (both + least) / (either + least)
