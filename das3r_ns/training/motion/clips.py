"""The clips of the training: drawn one by one, shown to the front end, and kept as what it decided by."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from das3r_ns.demo.varied import write_clip
from das3r_ns.progress import Progress
from das3r_ns.training.motion.config import MotionTrainingConfig
from das3r_ns.training.motion.record import Record, record_clip
from das3r_ns.video.image_folder import images_in, read_image

WHITE = 127
"""Grey level above which a mask says that something moves."""


def gather_records(config: MotionTrainingConfig, progress: Progress) -> list[Record]:
    """What the front end saw of every clip; those that are there are not drawn again.

    Args:
        config: Which clips, and where to keep what is seen of them.
        progress: Where to report.

    Raises:
        Das3rError: A file cannot be read or written.
    """
    folder = config.output_dir / "clips" / f"{config.size}x{height_of(config.size)}x{config.frames}"
    first = config.seed * 1_000_000  # other clips for every seed of the training
    files = [folder / f"{seed:07d}.npz" for seed in range(first, first + config.clips)]
    with progress.stage("Clips through the front end", config.clips) as advance:
        for seed, file in enumerate(files, first):
            if not file.is_file():
                record_drawn(seed, config, file)
            advance()
    return [Record(file) for file in files]


def record_drawn(seed: int, config: MotionTrainingConfig, file: Path) -> None:
    """Draw the clip of a seed and keep what the front end sees of it; its pictures go again.

    Raises:
        Das3rError: A file cannot be written.
    """
    place = file.with_suffix(".drawn")
    shutil.rmtree(place, ignore_errors=True)
    write_clip(place, seed, config.frames, config.size, height_of(config.size))
    images = np.stack([read_image(path) for path in images_in(place / "frames")])
    masks = np.stack([read_image(path).max(axis=-1) > WHITE for path in images_in(place / "masks")])
    record_clip(images, masks, file)
    shutil.rmtree(place)


def height_of(size: int) -> int:
    """Shorter side of a clip in pixels, an even number."""
    return 2 * round(size * 9 / 32)


def split(records: Sequence[Record], share: float, seed: int) -> tuple[list[Record], list[Record]]:
    """Clips to train on, and those held out: at least one of each.

    Args:
        records: Two or more.
        share: Of all to hold out.
        seed: Decides which.
    """
    order = np.random.default_rng([seed, 7]).permutation(len(records))
    count = int(np.clip(round(share * len(records)), 1, len(records) - 1))
    return [records[i] for i in sorted(order[count:])], [records[i] for i in sorted(order[:count])]
