"""``das3r train-motion``: the head that corrects what the rules of the front end say of motion, trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from das3r_ns.training.motion.config import MotionTrainingConfig


@dataclass
class TrainMotionCommand:
    """Train the small network that corrects what `geometric` finds to move (--motion head of das3r masks and ns-train).

    Draws clips with exact masks, runs the front end on each, so that its real errors are what is learned from, and
    writes motion_head.safetensors for --motion-weights. J and false alarms on held-out clips are printed and kept in
    curves.json, those of the rules beside them.
    """

    config: Annotated[MotionTrainingConfig, tyro.conf.arg(name="")]

    def run(self) -> None:
        """Train, or go on where that was interrupted."""
        from das3r_ns.progress import Progress
        from das3r_ns.training.motion.train import train_motion

        progress = Progress()
        weights = train_motion(self.config, progress)
        progress.say(f"{weights} holds the head.")
        progress.say(f"Next: das3r masks --motion head --motion-weights {weights} --data VIDEO --output-dir masks")
