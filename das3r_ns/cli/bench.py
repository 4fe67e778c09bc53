"""``das3r bench``: published protocols, with the baselines beside das3r."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from das3r_ns.evaluation.bench.config import BenchConfig


@dataclass
class BenchCommand:
    """Measure masks, cameras, held-out frames and clean plates on a data set, with baselines in the same run.

    Writes bench.html (one page with tables and pictures that needs no network), bench.json and tables/*.csv, and prints
    the tables. What fails is named and does not stop the rest; an interrupted run goes on where it was.
    """

    config: Annotated[BenchConfig, tyro.conf.arg(name="")]

    def run(self) -> None:
        """Measure what is missing, then report."""
        from rich.console import Console

        from das3r_ns.evaluation.bench.report import print_report, write_report
        from das3r_ns.evaluation.bench.run import run_bench
        from das3r_ns.evaluation.protocols import load_protocol
        from das3r_ns.progress import Progress

        progress = Progress()
        results = run_bench(self.config, progress)
        tables = write_report(results, load_protocol(self.config.protocol), self.config.output_dir)
        console = Console()
        print_report(results, tables, console if console.is_terminal else Console(width=160))
        progress.say(f"The report is {self.config.output_dir / 'bench.html'}.")
