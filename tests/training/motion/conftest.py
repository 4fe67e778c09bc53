"""Records of clips made up: a square that moves, of which the rules see too little and one cue sees all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from das3r_ns.frontend.geometric.head.views import CONTEXT, MAPS
from das3r_ns.training.motion import clips
from das3r_ns.training.motion.config import MotionTrainingConfig
from das3r_ns.training.motion.record import Sample, save_samples

HEIGHT, WIDTH, SIDE = 40, 64, 16


def made_up(seed: int, frames: int = 4) -> list[Sample]:
    """Nothing moves where the seed is a multiple of four."""
    rng = np.random.default_rng(seed)
    samples = []
    for t in range(frames):
        maps = rng.integers(0, 80, (len(MAPS), HEIGHT, WIDTH), dtype=np.uint8)
        truth = np.zeros((HEIGHT, WIDTH), np.uint8)
        if seed % 4:
            truth[10 : 10 + SIDE, 4 + 8 * t : 4 + 8 * t + SIDE] = 255
        maps[MAPS.index("motion")] = np.maximum(maps[MAPS.index("motion")], truth)
        relative = (0.05 + 0.3 * (truth > 0) + rng.uniform(0, 0.05, truth.shape)).astype(np.float16)
        samples.append(Sample(maps, relative, truth, rng.random(len(CONTEXT), np.float32)))
    return samples


@pytest.fixture()
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Has clips made up in place of drawn ones; the seeds that were asked for."""
    seeds: list[int] = []

    def record_drawn(seed: int, config: MotionTrainingConfig, file: Path) -> None:
        seeds.append(seed)
        save_samples(made_up(seed, config.frames), file)

    monkeypatch.setattr(clips, "record_drawn", record_drawn)
    return seeds


@pytest.fixture()
def config(tmp_path: Path) -> MotionTrainingConfig:
    """A training of seconds."""
    return MotionTrainingConfig(
        tmp_path / "out",
        clips=8,
        frames=4,
        size=96,
        steps=40,
        batch_size=4,
        crop=40,
        learning_rate=1e-2,
        held_out=0.3,
        measure_every=15,
        caution=1.0,
        jaccard=0.5,
    )
