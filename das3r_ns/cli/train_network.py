"""``das3r train-network``: the network's mask heads, trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from das3r_ns.training.config import TrainingConfig


@dataclass
class TrainNetworkCommand:
    """Train the heads that predict what moves, on top of a frozen DAS3R, MonST3R or DUSt3R network.

    Binary cross-entropy of what all pairs of a group of frames together say of each, AdamW; J on held-out clips after
    every epoch. Writes checkpoint/, a folder like the published ones for --checkpoint of das3r masks and ns-train, with
    the highest J so far. A published checkpoint's licence (non-commercial) holds for what is trained from it.
    """

    config: Annotated[TrainingConfig, tyro.conf.arg(name="")]

    def run(self) -> None:
        """Train, or go on where that was interrupted."""
        from das3r_ns.progress import Progress
        from das3r_ns.training.train import train_network

        progress = Progress()
        checkpoint = train_network(self.config, progress)
        progress.say(f"{checkpoint} holds the network. Curves: tensorboard --logdir {self.config.output_dir / 'logs'}")
        progress.say(f"Next: das3r masks --front-end monst3r --checkpoint {checkpoint} --data VIDEO --output-dir masks")
