"""What the motion head is trained by."""

from __future__ import annotations

import torch

from das3r_ns.frontend.geometric.head.network import MotionHead
from das3r_ns.frontend.geometric.head.views import CONTEXT, MAPS
from das3r_ns.training.motion.batches import Batch
from das3r_ns.training.motion.loss import loss_of, soft_jaccard


def _loss(relative: float, truth: float, caution: float, jaccard: float = 0.0) -> float:
    torch.manual_seed(0)
    head = MotionHead(len(MAPS), len(CONTEXT))  # new: corrects nothing
    shape = (2, 16, 16)
    maps = torch.rand(2, len(MAPS), 16, 16)
    batch = Batch(maps, torch.full(shape, relative), torch.rand(2, len(CONTEXT)), torch.full(shape, truth))
    return loss_of(head, batch, caution, jaccard).item()


def test_a_false_alarm_costs_as_much_more_as_one_is_cautious() -> None:
    missed, alarm = _loss(0.1, 1.0, 1.0), _loss(0.9, 0.0, 1.0)
    torch.testing.assert_close(torch.tensor(missed), torch.tensor(alarm))
    assert _loss(0.1, 1.0, 5.0) == missed
    torch.testing.assert_close(torch.tensor(_loss(0.9, 0.0, 5.0)), torch.tensor(5.0 * alarm))


def test_the_jaccard_loss_counts_what_is_marked_where_nothing_moves() -> None:
    empty = torch.zeros(1, 20, 20)
    assert soft_jaccard(empty, empty).item() == 1.0
    assert soft_jaccard(torch.ones(1, 20, 20), empty).item() < 0.01
    assert _loss(0.9, 0.0, 1.0, jaccard=1.0) > _loss(0.9, 0.0, 1.0) + 0.9
    half = empty.clone()
    half[:, :10] = 1.0
    assert abs(soft_jaccard(torch.ones(1, 20, 20), half).item() - 0.5) < 0.01
