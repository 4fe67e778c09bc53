"""The reference outputs, and a tiny network with the weights they were made with."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from das3r_ns.frontend.network.monst3r import PairNetwork, build_network, dpt, heads
from das3r_ns.frontend.network.monst3r.checkpoints import official_name

REFERENCE = Path(__file__).parents[3] / "reference"


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of the reference files; its README says what they are."""
    return REFERENCE


@pytest.fixture(scope="session")
def read_reference() -> Callable[[str], Any]:
    """Reads one of the JSON files."""
    return lambda name: json.loads((REFERENCE / name).read_text())


@pytest.fixture(scope="session")
def fill() -> ModuleType:
    """Formula weights and pictures."""
    specification = importlib.util.spec_from_file_location("reference_fill", REFERENCE / "fill.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def forward() -> dict[str, np.ndarray]:
    """Official outputs of the tiny network."""
    with np.load(REFERENCE / "forward_tiny.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="session")
def make_network(fill: ModuleType) -> Callable[[dict], PairNetwork]:
    """Builds a network with formula weights."""

    def make(config: dict) -> PairNetwork:
        network = build_network(config)
        weights = fill.fill_state_dict((name, value.shape) for name, value in network.state_dict().items())
        network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        return network

    return make


@pytest.fixture(scope="session")
def tiny(make_network: Callable[[dict], PairNetwork], fill: ModuleType) -> PairNetwork:
    """The tiny network; tests leave its weights alone."""
    return make_network(fill.TINY)


@pytest.fixture(scope="session")
def picture(fill: ModuleType) -> Callable[..., Tensor]:
    """Formula pictures, [B, 3, H, W]: ``picture(H, W, number, ...)``."""
    return lambda height, width, *numbers: torch.from_numpy(np.stack([fill.image(n, height, width) for n in numbers]))


@pytest.fixture()
def small_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads of all sizes of network have the same 20 million weights each: too many to write to disk in every test."""
    _shrink_heads(monkeypatch)


@pytest.fixture(scope="session")
def quick(make_network: Callable[[dict], PairNetwork], fill: ModuleType) -> PairNetwork:
    """The tiny network with small heads, for tests of what is done with it; tests leave its weights alone."""
    with pytest.MonkeyPatch.context() as patch:
        _shrink_heads(patch)
        return make_network(fill.TINY)


@pytest.fixture(scope="session")
def save_folder(fill: ModuleType) -> Callable[..., Path]:
    """Writes a checkpoint as the hub holds it: one name for each tensor, and infinite limits as bare words."""

    def save(folder: Path, network: PairNetwork) -> Path:
        folder.mkdir()
        weights = {name: value for name, value in network.state_dict().items() if official_name(name) == name}
        save_file(weights, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(fill.TINY))
        return folder

    return save


@pytest.fixture()
def checkpoint(tmp_path: Path, quick: PairNetwork, save_folder: Callable[..., Path], small_heads: None) -> Path:
    """A folder with the quick network, which only loads while the heads are small."""
    return save_folder(tmp_path / "checkpoint", quick)


@pytest.fixture(scope="session")
def frames(fill: ModuleType) -> Callable[..., np.ndarray]:
    """Formula pictures as 8-bit RGB, [N, H, W, 3]: ``frames(count, H, W)``."""

    def make(count: int, height: int, width: int) -> np.ndarray:
        pictures = np.stack([fill.image(number, height, width) for number in range(count)])
        return np.round((pictures.transpose(0, 2, 3, 1) * 0.5 + 0.5) * 255).astype(np.uint8)

    return make


def _shrink_heads(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dpt, "FEATURES", 8)
    patch.setattr(heads, "FEATURES", 8)
    patch.setattr(dpt, "LAYER_DIMS", (4, 6, 8, 10))
