"""A tiny network, and clips of a red square on a grey picture: the square moves, and its blue brother stands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console

from das3r_ns.frontend.network.monst3r import PairNetwork, build_network, dpt, heads
from das3r_ns.progress import Progress
from das3r_ns.training.config import TrainingConfig
from das3r_ns.training.state import write_checkpoint

WIDTH, HEIGHT, SIDE = 64, 48, 20
TINY = {
    "enc_embed_dim": 64,
    "enc_depth": 1,
    "enc_num_heads": 4,
    "dec_embed_dim": 48,
    "dec_depth": 4,
    "dec_num_heads": 4,
}


@pytest.fixture(autouse=True)
def small_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads have the same 20 million weights in networks of all sizes: too many for a test."""
    monkeypatch.setattr(dpt, "FEATURES", 8)
    monkeypatch.setattr(heads, "FEATURES", 8)
    monkeypatch.setattr(dpt, "LAYER_DIMS", (4, 6, 8, 10))


@pytest.fixture()
def quiet() -> Progress:
    """Remembers what is said, and prints nothing."""
    return Progress(Console(quiet=True))


@pytest.fixture()
def make_network() -> Callable[..., PairNetwork]:
    """Builds a tiny network with random weights, with or without mask heads."""

    def make(mask_heads: bool, seed: int = 1) -> PairNetwork:
        torch.manual_seed(seed)
        return build_network({**TINY, "mask_heads": mask_heads})

    return make


@pytest.fixture()
def checkpoint(tmp_path: Path, make_network: Callable[..., PairNetwork]) -> Path:
    """Its folder, as of MonST3R: without mask heads."""
    write_checkpoint(make_network(False), tmp_path / "monst3r")
    return tmp_path / "monst3r"


def draw_clip(folder: Path, seed: int, count: int = 6) -> None:
    """Write frames/ and masks/."""
    rng = np.random.default_rng(seed)
    (folder / "frames").mkdir(parents=True)
    (folder / "masks").mkdir()
    x, y = (int(v) for v in rng.integers(0, (WIDTH - SIDE - 10, HEIGHT - SIDE)))
    wall = rng.integers(90, 130, (HEIGHT, WIDTH, 1), dtype=np.uint8).repeat(3, axis=2)
    for number in range(count):
        image, mask = wall.copy(), np.zeros((HEIGHT, WIDTH), np.uint8)
        box = (slice(y, y + SIDE), slice(x + 2 * number, x + 2 * number + SIDE))
        image[box], mask[box] = (30, 30, 220), 255
        cv2.imwrite(str(folder / f"frames/{number:05d}.png"), image)
        cv2.imwrite(str(folder / f"masks/{number:05d}.png"), mask)


@pytest.fixture()
def clips(tmp_path: Path) -> Path:
    """A folder of five clips."""
    for seed in range(5):
        draw_clip(tmp_path / f"clips/some/{seed}", seed)
    return tmp_path / "clips"


@pytest.fixture()
def config(tmp_path: Path, clips: Path, checkpoint: Path) -> TrainingConfig:
    """A training of seconds."""
    return TrainingConfig(
        output_dir=tmp_path / "trained",
        checkpoint=str(checkpoint),
        data=[clips],
        epochs=2,
        batch_size=4,
        reach=4,
        learning_rate=3e-3,
        held_out=0.2,
        network_size=64,
        device="cpu",
    )
