"""Where a figure comes from: date, commit and front end, which every table of docs/results.md states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from das3r_ns.evaluation.machine import commit, describe_machine, machine_line
from das3r_ns.frontend.choice import FRONT_ENDS, choose_front_end
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.progress import Progress

Record = Mapping[str, Any]
"""What was measured; ``date``, ``commit``, ``machine``, ``front_end`` and ``front_end_version`` say whence."""


def stamp() -> dict[str, Any]:
    """Date, commit of this checkout, machine, and the front end that runs here unless another is asked for."""
    front_end = choose_front_end(FrontEndConfig(), Progress(), may_download=False).name
    return {
        "date": date.today().isoformat(),
        "commit": commit(),
        "machine": describe_machine(),
        "front_end": front_end,
        "front_end_version": FRONT_ENDS[front_end].version,
    }


def provenance_line(records: Iterable[Record]) -> str:
    """Dates, commits, front ends and machines of the records that a table shows."""
    known = sorted(records, key=lambda record: record["date"])
    when = " to ".join(dict.fromkeys((known[0]["date"], known[-1]["date"])))
    commits = dict.fromkeys(record["commit"] for record in known)
    front_ends = dict.fromkeys(f"{record['front_end']}, version {record['front_end_version']}" for record in known)
    machines = dict.fromkeys(machine_line(record["machine"]) for record in known)
    return (
        f"Measured {when}. Commit: {', '.join(commits)}. Front end: {'; '.join(front_ends)}. "
        f"Machine: {'; '.join(machines)}."
    )
