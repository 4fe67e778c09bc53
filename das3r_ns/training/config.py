"""Settings of the training. Only light imports: the command line loads this module."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.config import Precision

LEAST_SIDE = 64
"""Shorter side of a picture and longer side of what the network sees, in pixels, from which on things have a shape."""

MOST_TOGETHER = 8
"""Frames in a group, which has 56 directed pairs then."""


@dataclass
class TrainingConfig:
    """How the mask heads are trained."""

    output_dir: Path
    """Folder to write: checkpoint/ (what --checkpoint takes), state/ (to go on from), logs/ (TensorBoard), curves.json,
    and the clips that were drawn. The same command goes on where it was interrupted."""
    checkpoint: str = "auto"
    """Where to start: as for das3r masks. Of MonST3R and DUSt3R, which have no mask heads, new ones are made."""
    data: list[Path] = field(default_factory=list)
    """Folders with clips in them, at any depth: frames/ and masks/ of the same names (255 = moves), or a scene of
    PointOdyssey (rgbs/, depths/, anno.npz)."""
    drawn: int = 0
    """Clips to draw besides, or alone: rooms, streets, open land, things on show, thickets; a quarter are still."""
    drawn_frames: int = 12
    """Frames of a drawn clip."""
    epochs: int = 20
    """How often every frame is gone through."""
    batch_size: int = 2
    """Groups of frames at once."""
    group_size: int = 3
    """Frames that are looked at together, each paired with every other both ways."""
    reach: int = 9
    """Frames that the first and the last of a group are apart at most."""
    learning_rate: float = 5e-5
    """Of AdamW; reached after a hundred steps."""
    held_out: float = 0.15
    """Share of the clips that is never trained on, one at least: J is measured on them after every epoch."""
    network_size: int = 512
    """Longer side, in pixels, of what the network sees. The published ones were trained on 512."""
    max_frames: int = 120
    """Most frames of a clip to use: longer ones give runs of twelve, evenly spread."""
    seed: int = 0
    """Of the order, of changes to the pictures, and of new heads. On a CPU the same seed gives the same
    weights."""
    save_minutes: float = 5.0
    """How often the state is saved within an epoch; it is after each one."""
    precision: Precision = "auto"
    """Precision of the network; 'auto' is float16 on a GPU, float32 on a CPU."""
    device: str = "auto"
    """Where it is trained: auto, cpu, cuda, cuda:1, ..."""

    def check(self) -> None:
        """Make sure that the numbers make sense.

        Raises:
            Das3rError: One does not; names it.
        """
        least = {
            "epochs": 1,
            "batch_size": 1,
            "group_size": 2,
            "drawn": 0,
            "drawn_frames": 2,
            "max_frames": 2,
            "seed": 0,
        }
        for name, lowest in least.items():
            if getattr(self, name) < lowest:
                option = f"--{name.replace('_', '-')}"
                raise Das3rError(f"{getattr(self, name)} cannot be ({option}): take {lowest} or more.")
        if self.group_size > MOST_TOGETHER:
            raise Das3rError(
                f"Groups of {self.group_size} frames are too large (--group-size): take {MOST_TOGETHER} at most."
            )
        short = [name for name in ("max_frames", "drawn_frames") if getattr(self, name) < self.group_size]
        if short:
            raise Das3rError(
                f"Clips of {getattr(self, short[0])} frames (--{short[0].replace('_', '-')}) hold no group of "
                f"{self.group_size} (--group-size): take more."
            )
        if not self.data and not self.drawn:
            raise Das3rError(
                "There is nothing to train on. Name folders with clips (--data), or have some drawn (--drawn 64)."
            )
        if self.reach < self.group_size - 1:
            raise Das3rError(
                f"Groups of {self.group_size} frames (--group-size) have no room within {self.reach} frames (--reach): "
                f"take a reach of {self.group_size - 1} or more."
            )
        if not 0.0 < self.held_out < 1.0:
            raise Das3rError(f"A share of {self.held_out:g} cannot be held out (--held-out): take 0.15.")
        if not 0.0 < self.learning_rate < 1.0:
            raise Das3rError(f"A learning rate of {self.learning_rate:g} cannot be (--learning-rate): take 5e-5.")
        if self.network_size < LEAST_SIDE:
            raise Das3rError(
                f"The network cannot learn at {self.network_size} pixels (--network-size): take 512, or {LEAST_SIDE} "
                "at least."
            )

    def decisive(self) -> dict[str, object]:
        """The settings that a resumed training must share: what is not among them changes no step."""
        free = ("output_dir", "checkpoint", "epochs", "save_minutes", "precision", "device")
        return {
            name: [str(path.expanduser().resolve()) for path in value] if name == "data" else value
            for name, value in vars(self).items()
            if name not in free
        }
