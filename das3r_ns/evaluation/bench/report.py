"""What a benchmark found, on the terminal and as files."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from das3r_ns.evaluation.bench.html import html_report
from das3r_ns.evaluation.bench.tables import Table, failures, make_tables
from das3r_ns.evaluation.machine import machines_of
from das3r_ns.evaluation.protocols import Protocol
from das3r_ns.files import write_json, write_text

NOTES = """psnr_paper: both pictures black under the mask, error over ALL pixels, as the DAS3R paper does. psnr_static:
error over static pixels alone. psnr_agreed: over those that the front end, too, calls static. Held out are frames 5,
15, 25, ... of what is trained on. Their cameras are the front end's with what training corrected their neighbours by;
"cameras refined" are optimised on the frame itself. A figure with a number in brackets is the mean over so many
sequences; (all) marks a mean over all of the protocol's; * marks sequences without true masks, where the front end's
stand in."""


def write_report(results: Mapping[str, Any], protocol: Protocol, directory: Path) -> list[Table]:
    """Write ``bench.json``, ``bench.html`` and ``tables/*.csv``.

    Args:
        results: As :func:`~das3r_ns.evaluation.bench.run.run_bench` gives them.
        protocol: Of the run.
        directory: The output folder; pictures are read from it.
    """
    tables = make_tables(results, protocol)
    summary = {table.key: {"columns": table.columns, "rows": [[n, *c] for n, c in table.rows]} for table in tables}
    write_json(directory / "bench.json", {**results, "tables": summary})
    for table in tables:
        write_text(directory / "tables" / f"{table.key}.csv", csv_text(table))
    write_text(directory / "bench.html", html_report(results, tables, NOTES, directory))
    return tables


def csv_text(table: Table) -> str:
    """A table as CSV, with all digits; nothing where there is no figure."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(table.columns)
    for name, cells in table.rows:
        writer.writerow([name, *("" if cell is None else cell for cell in cells)])
    return stream.getvalue()


def print_report(results: Mapping[str, Any], tables: list[Table], console: Console) -> None:
    """Print every table, what went wrong, and the machine."""
    for table in tables:
        console.print(f"\n[bold]{table.title}[/bold]", highlight=False, soft_wrap=True)
        shown = RichTable(*table.columns)
        for column in shown.columns[1:]:
            column.justify = "right"
        rows = table.text_rows()
        for number, row in enumerate(rows):
            last_of_section = table.mean_row is not None and number in (table.mean_row - 1, table.mean_row)
            shown.add_row(*row, end_section=last_of_section)
        console.print(shown)
    for sequence, name, reason in failures(results):
        console.print(f"{sequence}, {name}: {reason}", markup=False, highlight=False, soft_wrap=True)
    console.print(" ".join(NOTES.split()), markup=False, highlight=False)
    for machine in machines_of(results):
        console.print(f"Machine: {machine}", markup=False, highlight=False)
