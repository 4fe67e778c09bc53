"""``das3r batch``: many videos, on one machine or a cluster."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from das3r_ns.batch.config import BatchConfig


@dataclass
class BatchCommand:
    """Take many videos through masks, training, export and clean plates, on one machine or a Ray cluster.

    Writes a folder for every video with what das3r masks, ns-train, das3r export and das3r clean-plate write (masks/,
    train/, export/, clean-plate/), batch.json, and batch.html: one page that needs no network. A video that fails does
    not stop the others; called again, only what is missing is done. Needs `pip install 'das3r-ns[cluster]'`.
    """

    config: Annotated[BatchConfig, tyro.conf.arg(name="")]

    def run(self) -> None:
        """Do what is missing, then say what failed."""
        from das3r_ns.batch.run import failures, run_batch
        from das3r_ns.progress import Progress

        progress = Progress()
        results = run_batch(self.config, progress)
        failed = list(failures(results))
        for name, reason in failed:
            progress.say(f"{name}: {reason}")
        progress.say(f"The report is {self.config.output_dir / 'batch.html'}.")
        if failed:
            sys.exit(1)
