"""What ``das3r batch`` adds to the single commands that it runs, for each video.

``python benchmarks/batch.py CLIPS... --output-dir NEW``: runs a batch, one step at a time, and compares its wall time
with that of the commands in the same run, so that other work on the machine weighs on both.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from das3r_ns.batch.config import STEPS, BatchConfig
from das3r_ns.batch.run import run_batch
from das3r_ns.progress import Progress


@dataclass
class Arguments:
    """Measure the overhead of a batch."""

    videos: tyro.conf.Positional[tuple[str, ...]]
    """As of das3r batch."""
    output_dir: Path
    """A new folder."""
    max_num_iterations: int | None = None
    """Steps of every training; those of the preset if not given."""
    address: str | None = None
    """As of das3r batch."""


def main(arguments: Arguments) -> None:
    """Run and print."""
    config = BatchConfig(
        arguments.videos,
        arguments.output_dir,
        preset="das3r-light",
        max_num_iterations=arguments.max_num_iterations,
        address=arguments.address,
        cpus=10_000,  # all of the machine: one step at a time
    )
    start = time.perf_counter()
    results = run_batch(config, Progress())
    wall = time.perf_counter() - start
    videos = results["videos"].values()
    table = Table("step", "seconds", "CPU seconds", "peak MB", "MB written")
    for step in STEPS:
        records = [video["steps"][step] for video in videos if "seconds" in video["steps"].get(step, {})]
        sums = [sum(record.get(name, 0) for record in records) for name in ("seconds", "cpu_s", "bytes")]
        peak = max((record["peak_mb"] for record in records), default=0)
        table.add_row(step, f"{sums[0]:.1f}", f"{sums[1]:.1f}", str(peak), f"{sums[2] / 1e6:.1f}")
    console = Console()
    console.print(table)
    work = results["work_seconds"]
    console.print(f"{len(videos)} videos: {wall:.1f} s, of which {work:.1f} s in the commands.")
    console.print(f"Beside them {(wall - work) / len(videos):.1f} s for each video, {100 * (wall / work - 1):.1f} %.")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
