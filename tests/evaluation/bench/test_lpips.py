"""LPIPS is used where its weights are, fetched where that is asked for, and left out otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from das3r_ns.evaluation.bench import lpips


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path


def test_without_weights_there_is_none_and_nobody_is_bothered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lpips, "build_lpips", lambda device: pytest.fail("it was built"))
    problems: list[str] = []
    assert lpips.find_lpips(False, problems) is None and not problems


def test_weights_at_hand_are_used(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (hub / "checkpoints/alexnet-owt-7be5be79.pth").touch()
    monkeypatch.setattr(lpips, "build_lpips", lambda device: f"built on {device}")
    assert lpips.find_lpips(False, []) == "built on cpu"


def test_weights_that_cannot_be_fetched_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(device: str) -> None:
        raise OSError("no network")

    monkeypatch.setattr(lpips, "build_lpips", offline)
    problems: list[str] = []
    assert lpips.find_lpips(True, problems) is None
    assert problems == ["LPIPS: its weights could not be loaded (no network)."]
