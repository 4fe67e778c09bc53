"""Weights of the head on disk, good and bad."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.geometric.head.network import MotionHead
from das3r_ns.frontend.geometric.head.views import CONTEXT, MAPS
from das3r_ns.frontend.geometric.head.weights import (
    FORMAT,
    check_weights,
    load_head,
    provenance_of,
    save_head,
    weights_identity,
)


@pytest.fixture()
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_head(MotionHead(len(MAPS), len(CONTEXT)).state_dict(), {"seed": 3}, tmp_path / "head.safetensors")
    return tmp_path / "head.safetensors"


def test_what_is_written_is_read(weights: Path) -> None:
    loaded = load_head(weights)
    assert not loaded.training and provenance_of(weights) == {"seed": 3}
    torch.manual_seed(0)
    for name, value in MotionHead(len(MAPS), len(CONTEXT)).state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])


def test_identity_is_of_the_contents(weights: Path, tmp_path: Path) -> None:
    again = tmp_path / "other.safetensors"
    again.write_bytes(weights.read_bytes())
    assert weights_identity(weights) == weights_identity(again)
    save_head(load_head(weights).state_dict(), {"seed": 4}, again)
    assert weights_identity(weights) != weights_identity(again)


def _rewritten(weights: Path, metadata: dict[str, str] | None, drop: str = "") -> Path:
    tensors = {name: value for name, value in load_file(weights).items() if name != drop}
    save_file(tensors, weights, metadata=metadata)
    return weights


def test_what_cannot_be_used_is_said(weights: Path, tmp_path: Path) -> None:
    whole = weights.read_bytes()
    for length in (0, 5, 200, len(whole) // 2, len(whole) - 1):
        weights.write_bytes(whole[:length])
        with pytest.raises(Das3rError, match=r"head\.safetensors are damaged or no safetensors"):
            check_weights(weights)
    with pytest.raises(Das3rError, match=r"nowhere\.safetensors, are not there \(--motion-weights\)"):
        weights_identity(tmp_path / "nowhere.safetensors")
    weights.write_bytes(whole)
    with pytest.raises(Das3rError, match="are not of a motion head"):
        check_weights(_rewritten(weights, None))
    with pytest.raises(Das3rError, match="are of version 0 of the head, not "):
        check_weights(_rewritten(weights, {"das3r_motion_head": "0"}))
    metadata = {"das3r_motion_head": FORMAT, "provenance": "{}"}
    with pytest.raises(Das3rError, match="of another network"):
        load_head(_rewritten(weights, metadata, drop="last.bias"))
