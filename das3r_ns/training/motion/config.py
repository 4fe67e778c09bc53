"""Settings of the training of the motion head. Only light imports: the command line loads this module."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from das3r_ns.errors import Das3rError

LEAST_SIZE = 96
"""Longer side of a clip, in pixels, from which on flow and stereo have something to see."""


@dataclass
class MotionTrainingConfig:
    """How the motion head is trained."""

    output_dir: Path
    """Folder to write: clips/ (what the front end saw of each), state/ (to go on from), curves.json, and at last
    motion_head.safetensors. The same command goes on where it was interrupted, clip by clip."""
    clips: int = 300
    """Clips to draw; nothing moves in a quarter of them."""
    frames: int = 12
    """Frames of a clip."""
    size: int = 256
    """Longer side of a clip, in pixels; the other is nine sixteenths of it."""
    steps: int = 6000
    """Steps of AdamW; the learning rate falls to nothing over them."""
    batch_size: int = 8
    """Pieces of frames at once, each of another clip."""
    crop: int = 160
    """Side of a piece, in pixels."""
    learning_rate: float = 2e-3
    """Of AdamW at its highest, after a hundred steps."""
    jaccard: float = 0.0
    """Weight of a soft Jaccard loss beside cross-entropy; it knows no caution."""
    caution: float = 4.0
    """Price of a static pixel that is called moving, against 1 for a moving one that is called static. Drawn clips are
    harder than most films: at one price the head learns to mark whatever is in doubt."""
    strength: float = 0.5
    """Share of the corrections that is written: drawn clips are not the films that the head is for. At last the figures
    are those of the head that is written."""
    colours: bool = True
    """Whether the head sees the colours of the picture."""
    held_out: float = 0.12
    """Share of the clips that is never trained on, one at least: J and false alarms are measured on them."""
    measure_every: int = 500
    """Steps between measurements."""
    seed: int = 0
    """Of the clips, of the order, of changes to them, and of the weights at first."""
    save_minutes: float = 3.0
    """How often the state is saved between measurements."""

    def check(self) -> None:
        """Make sure that the numbers make sense.

        Raises:
            Das3rError: One does not; names it.
        """
        least = {"clips": 2, "frames": 4, "size": LEAST_SIZE, "steps": 1, "batch_size": 1, "crop": 32}
        least |= {"measure_every": 1, "seed": 0}
        for name, lowest in least.items():
            if getattr(self, name) < lowest:
                option = f"--{name.replace('_', '-')}"
                raise Das3rError(f"{getattr(self, name)} cannot be ({option}): take {lowest} or more.")
        if not 0.0 < self.held_out < 1.0:
            raise Das3rError(f"A share of {self.held_out:g} cannot be held out (--held-out): take 0.12.")
        if not 0.0 < self.learning_rate < 1.0:
            raise Das3rError(f"A learning rate of {self.learning_rate:g} cannot be (--learning-rate): take 2e-3.")
        if not 0.0 < self.strength <= 1.0:
            raise Das3rError(f"A share of {self.strength:g} cannot be written (--strength): take 0.5, or 1 for all.")
        if not 0.0 < self.caution < 100.0:
            raise Das3rError(f"A price of {self.caution:g} cannot be (--caution): take 4, or 1 for none.")
        if not 0.0 <= self.jaccard < 100.0:
            raise Das3rError(f"A weight of {self.jaccard:g} cannot be (--jaccard): take 0.5, or 0 for none.")

    def decisive(self) -> dict[str, object]:
        """The settings that a resumed training must share: what is not among them changes no step."""
        free = ("output_dir", "save_minutes", "strength")
        return {name: value for name, value in vars(self).items() if name not in free}
