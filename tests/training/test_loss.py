"""What all pairs together say of a frame, and who learns from it."""

from __future__ import annotations

import torch

from das3r_ns.training.groups import Batch, directed_pairs
from das3r_ns.training.heads import mask_heads, with_mask_heads
from das3r_ns.training.loss import aggregate, cross_entropy, loss_of


def test_pairs_speak_by_their_confidence() -> None:
    probability = torch.tensor([0.9, 0.3, 0.5]).view(1, 3, 1, 1)
    said = torch.tensor([3.0, 1.0, 2.0]).view(1, 3, 1, 1)
    together = aggregate(probability, said, torch.tensor([0, 0, 1]), 2)
    torch.testing.assert_close(together.flatten(), torch.tensor([(3 * 0.9 + 0.3) / 4, 0.5]))


def test_where_no_pair_is_confident_all_count_alike() -> None:
    together = aggregate(torch.tensor([0.8, 0.2]).view(1, 2, 1, 1), torch.zeros(1, 2, 1, 1), torch.tensor([0, 0]), 1)
    torch.testing.assert_close(together.flatten(), torch.tensor([0.5]))


def test_certainty_has_a_finite_loss() -> None:
    loss = cross_entropy(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
    assert 10 < loss < 20


def test_the_loss_is_that_of_the_pairs_one_by_one(make_network) -> None:
    network = make_network(True)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 3, 48, 64, generator=generator) * 2 - 1
    masks = (torch.rand(2, 3, 48, 64, generator=generator) > 0.7).float()
    expected = torch.zeros(())
    for view in (0, 1):
        together = torch.zeros(2, 3, 48, 64)
        weight = torch.zeros(2, 3, 48, 64)
        for i, j in directed_pairs(3):
            out = network.infer_pair(images[:, i], images[:, j])
            said = out["conf2" if view else "conf"].log().clamp(min=1e-3)
            together[:, (i, j)[view]] += said * out[f"dynamic_mask{view + 1}"]
            weight[:, (i, j)[view]] += said
        expected += cross_entropy(together / weight, masks) / 2
    torch.testing.assert_close(loss_of(network, Batch(images, masks), None), expected, rtol=1e-4, atol=1e-5)


def test_only_mask_heads_get_gradients(make_network, quiet) -> None:
    network = with_mask_heads(make_network(False), 0, quiet)
    images, masks = torch.rand(1, 2, 3, 48, 64) * 2 - 1, torch.ones(1, 2, 48, 64)
    for autocast in (None, torch.bfloat16):
        network.zero_grad()
        loss_of(network, Batch(images, masks), autocast).backward()
        learned = {name for name, value in network.named_parameters() if value.grad is not None}
        assert learned and all(name.startswith("downstream_head_dynamic_mask") for name in learned)
        # Two convolutions of each head are stored, and never used.
        assert sum(len(list(head.parameters())) for head in mask_heads(network)) - len(learned) == 8


def test_new_heads_begin_with_the_trunks_of_the_heads_for_points(make_network, quiet) -> None:
    network = with_mask_heads(make_network(False), 0, quiet)
    trunk = network.downstream_head_dynamic_mask2.dpt.scratch.refinenet1.out_conv.weight
    torch.testing.assert_close(trunk, network.downstream_head2.dpt.scratch.refinenet1.out_conv.weight)
    assert trunk.requires_grad and not network.downstream_head2.dpt.scratch.refinenet1.out_conv.weight.requires_grad
