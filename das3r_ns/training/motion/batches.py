"""Pieces of frames as tensors: cut, mirrored and changed by chance, the same for the same seed and step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from das3r_ns.frontend.geometric.head.views import MAPS, OF_DEPTH, OF_NEIGHBOURS, OF_PICTURE, OF_REGIONS
from das3r_ns.training.motion.config import MotionTrainingConfig
from das3r_ns.training.motion.record import Record

DROPPED = 0.15
"""How often a whole kind of maps is left out: the head must not lean on one, for each fails somewhere."""
GAIN, SHIFT = 0.3, 0.1
"""Largest change of colours: of their contrast in powers of e, and of their middle."""
WEAKER = 0.25
"""Largest change, in powers of e, of what the rules say: other clips leave more evidence or less."""
NEUTRAL: dict[str, float] = dict.fromkeys((*OF_PICTURE, OF_DEPTH[0]), 0.5)
"""What maps that are left out have; the others have 0."""
PICTURE, DEPTH, NEIGHBOURS = ([MAPS.index(name) for name in kind] for kind in (OF_PICTURE, OF_DEPTH, OF_NEIGHBOURS))


@dataclass
class Batch:
    """B pieces of frames."""

    maps: Float[Tensor, "B C h w"]
    relative: Float[Tensor, "B h w"]
    context: Float[Tensor, "B G"]
    truth: Float[Tensor, "B h w"]
    """Share of the pixel that moves."""


def load_batch(records: Sequence[Record], config: MotionTrainingConfig, step: int) -> Batch:
    """The pieces of a step.

    Args:
        records: Clips to train on.
        config: Whose seed decides.
        step: Counted from 0.

    Raises:
        Das3rError: A record is damaged.
    """
    rng = np.random.default_rng([config.seed, 3, step])
    count = config.batch_size
    chosen = rng.choice(len(records), count, replace=count > len(records))
    pieces = [_piece(records[i], config, rng) for i in chosen]
    return Batch(*(torch.from_numpy(np.stack(parts)) for parts in zip(*pieces, strict=True)))


def _piece(record: Record, config: MotionTrainingConfig, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    sample = record.frame(int(rng.integers(len(record))))
    height, width = sample.truth.shape
    rows, columns = min(config.crop, height), min(config.crop, width)
    top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
    cut = np.s_[..., top : top + rows, left : left + columns]
    maps, relative, truth = sample.maps[cut] / np.float32(255), sample.relative[cut], sample.truth[cut]
    _change(maps, config, rng)
    relative = relative.astype(np.float32) * np.float32(np.exp(rng.uniform(-WEAKER, WEAKER)))
    if rng.random() < 0.5:
        maps, relative, truth = maps[..., ::-1], relative[..., ::-1], truth[..., ::-1]
    parts = (maps, relative, sample.context, truth / np.float32(255))
    return tuple(np.ascontiguousarray(part, np.float32) for part in parts)


def _change(maps: Float[np.ndarray, "C h w"], config: MotionTrainingConfig, rng: np.random.Generator) -> None:
    """Other colours, and maps left out, in place."""
    gain, shift = np.exp(rng.uniform(-GAIN, GAIN)), rng.uniform(-SHIFT, SHIFT, (3, 1, 1))
    maps[PICTURE] = np.clip(0.5 + gain * (maps[PICTURE] - 0.5) + shift, 0.0, 1.0)
    single = [int(rng.integers(len(OF_REGIONS)))]
    for kind in (PICTURE, DEPTH, NEIGHBOURS, single):
        if rng.random() < DROPPED:
            leave_out(maps, kind)
    if not config.colours:
        leave_out(maps, PICTURE)


def leave_out(maps: Float[np.ndarray, "C h w"], which: Sequence[int]) -> None:
    """Give some maps the value that says nothing, in place."""
    for number in which:
        maps[number] = NEUTRAL.get(MAPS[number], 0.0)
