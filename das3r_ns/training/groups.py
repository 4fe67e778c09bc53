"""Groups of frames: which are looked at together in an epoch, and their pictures as tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from das3r_ns.frontend.network.monst3r.preprocessing import network_input
from das3r_ns.training.clips import TrainingClip
from das3r_ns.training.config import TrainingConfig

GAIN, GAMMA = 0.3, 0.2
"""Largest change of brightness and contrast, in powers of e; one for all frames of a group, as of one exposure."""


@dataclass(frozen=True)
class Group:
    """Frames of a clip that are looked at together."""

    clip: TrainingClip
    frames: tuple[int, ...]


@dataclass
class Batch:
    """B groups of G frames, of one size."""

    images: Float[Tensor, "B G 3 H W"]
    """RGB from -1 to 1."""
    masks: Float[Tensor, "B G H W"]
    """1 = moves."""


def split(clips: list[TrainingClip], held_out: float, seed: int) -> tuple[list[TrainingClip], list[TrainingClip]]:
    """Clips to train on, and those that are held out: whole clips, never some of their runs.

    Args:
        clips: All runs.
        held_out: Share of the clips to hold out; one at least, and not all.
        seed: Decides which.
    """
    names = sorted({clip.name for clip in clips})
    count = min(max(1, round(held_out * len(names))), len(names) - 1)
    chosen = {names[i] for i in np.random.default_rng([seed, 1]).permutation(len(names))[:count]}
    return [clip for clip in clips if clip.name not in chosen], [clip for clip in clips if clip.name in chosen]


def plan_epoch(clips: list[TrainingClip], config: TrainingConfig, epoch: int) -> list[list[Group]]:
    """The batches of an epoch, the same whenever they are asked for: every frame begins a group.

    Groups of a batch have pictures of one size; a batch that would not be full is filled with groups it has.
    """
    rng = np.random.default_rng([config.seed, 2, epoch])
    by_size: dict[tuple[int, int], list[Group]] = {}
    for clip in clips:
        for first in range(len(clip.frames)):
            by_size.setdefault(clip.size, []).append(Group(clip, _partners(clip, first, config, rng)))
    batches: list[list[Group]] = []
    for groups in by_size.values():
        order = rng.permutation(len(groups))
        wanted = math.ceil(len(groups) / config.batch_size) * config.batch_size
        order = np.resize(order, wanted)
        batches += [
            [groups[i] for i in order[start : start + config.batch_size]]
            for start in range(0, wanted, config.batch_size)
        ]
    return [batches[i] for i in rng.permutation(len(batches))]


def _partners(clip: TrainingClip, first: int, config: TrainingConfig, rng: np.random.Generator) -> tuple[int, ...]:
    """A frame and others around it, in random order: each is view 1 and view 2 of pairs in turn."""
    span = max(config.reach + 1, config.group_size)
    start = int(rng.integers(max(0, first - span + 1), max(min(first, len(clip.frames) - span), 0) + 1))
    others = [number for number in range(start, min(start + span, len(clip.frames))) if number != first]
    chosen = rng.choice(others, config.group_size - 1, replace=False)
    return tuple(int(i) for i in rng.permutation([first, *chosen]))


def load_batch(groups: list[Group], seed: int, epoch: int, number: int) -> Batch:
    """Pictures and masks of a batch, mirrored and of other brightness by chance: the same for the same numbers.

    Raises:
        Das3rError: A picture cannot be read, or is of another shape than its clip.
    """
    rng = np.random.default_rng([seed, 3, epoch, number])
    images, masks = [], []
    for group in groups:
        picture = network_input(np.stack([group.clip.image(i) for i in group.frames]))
        mask = torch.from_numpy(np.stack([group.clip.mask(i) for i in group.frames]).astype(np.float32))
        gain, gamma = np.exp(rng.uniform(-1, 1, 2) * [GAIN, GAMMA])
        picture = (float(gain) * (picture * 0.5 + 0.5) ** float(gamma)).clamp(0, 1) * 2 - 1
        if rng.random() < 0.5:
            picture, mask = picture.flip(-1), mask.flip(-1)
        images.append(picture)
        masks.append(mask)
    return Batch(torch.stack(images), torch.stack(masks))


def directed_pairs(size: int) -> list[tuple[int, int]]:
    """All pairs of a group, each both ways."""
    return list(permutations(range(size), 2))
