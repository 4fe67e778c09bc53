"""What ``das3r batch`` adds to the single commands that it runs, for each video.

``python benchmarks/batch.py CLIPS... --output-dir NEW``: runs a batch, one step at a time, and compares its wall time
with that of the commands in the same run, so that other work on the machine weighs on both. With ``--nodes 2`` as many
nodes of Ray, of one CPU each, are started on this machine and share the videos; the time beside the commands is then
that of all nodes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from das3r_ns.batch.config import STEPS, BatchConfig
from das3r_ns.batch.run import run_batch
from das3r_ns.frontend.config import FrontEndConfig, unset_front_end
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
    steps: tuple[str, ...] = STEPS
    """As of das3r batch."""
    nodes: int = 0
    """Nodes of Ray to start on this machine, of one CPU each; 0 = none, but what the address says."""
    front_end: Annotated[FrontEndConfig, tyro.conf.arg(name="")] = field(default_factory=unset_front_end)
    """As of das3r batch."""


@contextmanager
def nodes(number: int) -> Iterator[str | None]:
    """The address of a cluster of so many nodes while the block lasts; None for none."""
    if number == 0:
        yield None
        return
    from ray.cluster_utils import Cluster

    memory = available_bytes() // number
    node = {"num_cpus": 1, "memory": memory, "object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, connect=False, head_node_args=node)
    try:
        for _ in range(number - 1):
            cluster.add_node(**node)
        yield cluster.address
    finally:
        cluster.shutdown()


def available_bytes() -> int:
    """Memory of this machine that nothing has taken."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def main(arguments: Arguments) -> None:
    """Run and print."""
    with nodes(arguments.nodes) as address:
        config = BatchConfig(
            arguments.videos,
            arguments.output_dir,
            preset="das3r-light",
            steps=arguments.steps,
            max_num_iterations=arguments.max_num_iterations,
            address=address or arguments.address,
            cpus=10_000,  # all of a node: one step at a time on each
            front_end=arguments.front_end,
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
    side_by_side = max(arguments.nodes, 1)
    beside = side_by_side * wall - work
    console.print(f"Beside them {beside / len(videos):.1f} s for each video, {100 * beside / work:.1f} %.")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
