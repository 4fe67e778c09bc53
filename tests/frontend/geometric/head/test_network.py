"""The network of the head changes nothing until it has learned to."""

from __future__ import annotations

import numpy as np
import torch

from das3r_ns.frontend.geometric.head.correct import correct_frame
from das3r_ns.frontend.geometric.head.network import LARGEST, MotionHead, with_correction
from das3r_ns.frontend.geometric.head.views import CONTEXT, MAPS


def _head(seed: int = 0) -> MotionHead:
    torch.manual_seed(seed)
    return MotionHead(len(MAPS), len(CONTEXT)).eval()


def test_a_new_head_leaves_the_rules_as_they_are() -> None:
    rng = np.random.default_rng(0)
    relative = np.concatenate([np.linspace(0, 1.7, 35 * 50), np.zeros(50)]).reshape(36, 50).astype(np.float32)
    found = correct_frame(_head(), rng.random((len(MAPS), 36, 50)), relative, rng.random(len(CONTEXT)))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, relative, atol=1e-6)


def test_a_correction_overrules_the_rules_either_way() -> None:
    relative = torch.tensor([0.0, 0.3, 0.5, 0.9, 1.6])
    assert (with_correction(relative, torch.tensor(8.0)) > 0.85).all()
    assert (with_correction(relative, torch.tensor(-8.0)) < 0.05).all()
    for strength in (-3.0, -0.5, 0.5, 3.0):
        changed = with_correction(relative, torch.tensor(strength))
        assert (torch.diff(changed) > 0).all() and changed[2].item() == torch.sigmoid(torch.tensor(strength)).item()


def test_any_size_and_bounded() -> None:
    head = _head()
    assert head.last.bias is not None
    torch.nn.init.constant_(head.last.bias, 1e3)
    for height, width in ((8, 8), (37, 51), (9, 130)):
        maps, relative = torch.rand(2, len(MAPS), height, width), torch.rand(2, height, width)
        found = head(maps, relative, torch.rand(2, len(CONTEXT)))
        assert found.shape == relative.shape and torch.allclose(found, torch.tensor(LARGEST))


def test_is_small() -> None:
    assert sum(value.numel() for value in _head().parameters()) * 4 < 1_050_000


def test_sees_every_map_and_the_clip() -> None:
    head = _head()
    torch.nn.init.normal_(head.last.weight)
    maps, relative, context = torch.rand(1, len(MAPS), 16, 16), torch.rand(1, 16, 16), torch.rand(1, len(CONTEXT))
    for value in (maps, relative, context):
        value.requires_grad_()
    head(maps, relative, context).sum().backward()
    assert (maps.grad.abs().amax(dim=(0, 2, 3)) > 0).all()  # pyright: ignore[reportOptionalMemberAccess]
    assert (relative.grad != 0).any() and (context.grad != 0).all()  # pyright: ignore[reportOptionalMemberAccess]
