"""Tables of ``das3r bench`` for the README and the page for nerfstudio, from the JSON files in benchmarks/results/.

    python benchmarks/bench_results.py                      # writes the tables anew
    python benchmarks/bench_results.py --add OUTPUT_DIR     # takes in the bench.json of a run first

Where two files hold the same sequence and method, the one with more steps counts; with as many, the one whose name
comes last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import tyro
from report import table, update_between_marks

from das3r_ns.evaluation.bench.tables import FRONT_END
from das3r_ns.evaluation.machine import machines_of
from das3r_ns.evaluation.methods import METHODS
from das3r_ns.evaluation.protocols import load_protocol
from das3r_ns.files import write_json

HERE = Path(__file__).parent
RESULTS = HERE / "results"
MARK = "results"
PUBLISHED = ("DAS3R", "MonST3R + InstantSplat")
"""Methods whose figures of single sequences are known."""
Record = Mapping[str, Any]
Records = Mapping[str, Mapping[str, Record]]
"""Sequence -> method (or FRONT_END) -> what was measured."""


@dataclass
class Arguments:
    """Write the tables of what das3r bench measured."""

    add: tuple[Path, ...] = ()
    """Output folders of das3r bench, whose bench.json is copied to benchmarks/results/ under the folder's name."""


def load_results(folder: Path) -> list[dict[str, Any]]:
    """The bench.json files in a folder, in the order of their names."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def all_records(results: list[dict[str, Any]]) -> Records:
    """The records of all files together, without what failed."""
    records: dict[str, dict[str, Record]] = {}
    for result in results:
        for sequence, of_sequence in result["records"].items():
            known = records.setdefault(sequence, {})
            for name, record in of_sequence.items():
                if "failed" not in record and record.get("iterations", 0) >= known.get(name, {}).get("iterations", 0):
                    known[name] = record
    return {sequence: records[sequence] for sequence in sorted(records)}


def figure(record: Record, key: str, digits: int, factor: float = 1.0) -> str:
    """A figure of a record as text."""
    value = record.get("figures", {}).get(key)
    return "-" if value is None else f"{factor * value:.{digits}f}"


def held_out(records: Records, method: str) -> list[str]:
    """Held-out frames beside the published figures, and the means over the sequences that have those."""
    rows, paper, published = [], [], {name: [] for name in PUBLISHED}
    everything = {row.name: row for row in load_protocol("folder").published_rows("psnr_paper", list(records))}
    for sequence, of_sequence in records.items():
        if method not in of_sequence:
            continue
        record = of_sequence[method]
        theirs = [everything[f"{name} (davis)"].values.get(sequence) for name in PUBLISHED]
        if None not in theirs:
            paper.append(record["figures"]["psnr_paper"])
            for name, value in zip(PUBLISHED, theirs, strict=True):
                published[name].append(value)
        shown = [figure(record, "psnr_paper", 2), *("-" if v is None else f"{v:.2f}" for v in theirs)]
        star = "" if record["masks"] == "truth" else " *"
        rest = [figure(record, "psnr_static", 2), figure(record, "ssim", 3), str(record["iterations"])]
        rows.append([sequence + star, *shown, *rest])
    if paper:
        means = [f"**{mean(values):.2f}**" for values in (paper, *published.values())]
        rows.append([f"**mean of the {len(paper)} published**", *means, "", "", ""])
    names = [f"{name}, published" for name in PUBLISHED]
    return table(["sequence", f"psnr_paper, {method}", *names, "psnr_static", "SSIM", "steps"], rows)


def masks_and_plates(records: Records, method: str) -> list[str]:
    """What the front end found, and clean plates at the training cameras."""
    rows = []
    for sequence, of_sequence in records.items():
        front_end, trained = of_sequence.get(FRONT_END, {}), of_sequence.get(method, {})
        shown = [figure(front_end, "J", 3), figure(front_end, "F", 3), figure(front_end, "recall", 2)]
        shown += [figure(front_end, "ate_percent", 2), figure(front_end, "focal_error", 1, 100)]
        shown += [figure(trained, "plate_psnr_hidden", 2), figure(trained, "plate_psnr_static", 2)]
        rows.append([sequence, str(front_end.get("frames", "-")), str(front_end.get("camera_kind", "-")), *shown])
    columns = ["sequence", "frames", "camera", "J", "F", "recall", "ATE %", "focal error %"]
    return table([*columns, "plate, hidden dB", "plate, static dB"], rows)


def side_by_side(records: Records) -> list[str]:
    """All methods on the sequences that more than one was measured on."""
    rows = []
    for sequence, of_sequence in records.items():
        methods = [name for name in METHODS if name in of_sequence]
        for name in methods if len(methods) > 1 else ():
            record = of_sequence[name]
            shown = [figure(record, key, 2) for key in ("psnr_paper", "psnr_static")] + [figure(record, "ssim", 3)]
            shown += [figure(record, key, 2) for key in ("plate_psnr_hidden", "plate_psnr_static")]
            rows.append([sequence, f"{name}: {METHODS[name].description}", *shown, str(record["iterations"])])
    columns = ["sequence", "method", "psnr_paper", "psnr_static", "SSIM", "plate, hidden dB", "plate, static dB"]
    return table([*columns, "steps"], rows) if rows else []


def provenance(results: list[dict[str, Any]], records: Records) -> str:
    """Machines, dates and front ends of all records."""
    every = [record for of_sequence in records.values() for record in of_sequence.values()]
    dates = sorted({record["date"] for record in every})
    machines = dict.fromkeys(machine for result in results for machine in machines_of(result))
    front_ends = sorted({str(record["front_end"]) for record in every if record.get("front_end")})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return f"Front end: {', '.join(front_ends)}. Measured {when}. Machine: {'; '.join(machines)}."


def readme_text(results: list[dict[str, Any]], method: str = "das3r-light") -> str:
    """What stands in the README."""
    records = all_records(results)
    lines = [provenance(results, records), "", "**Held-out frames** (dB; * = no true masks: the front end's own)", ""]
    lines += held_out(records, method)
    lines += ["", "**Masks, cameras, clean plates** (hidden: under the true mask, but seen in another frame)", ""]
    lines += masks_and_plates(records, method)
    if compared := side_by_side(records):
        lines += ["", "**Methods side by side**, on the same cameras, at the same resolution and steps", "", *compared]
    return "\n".join(lines)


def page_text(results: list[dict[str, Any]], method: str = "das3r-light") -> str:
    """What stands on the page for nerfstudio: each figure with where it comes from."""
    rows = []
    for sequence, of_sequence in all_records(results).items():
        if method in of_sequence:
            record = of_sequence[method]
            m = record["machine"]
            gpu = "no GPU" if m["gpu"] == "none" else m["gpu"]
            source = f"{m['processor']}, {m['cores']} cores, {gpu}; {record['front_end']}; {record['date']}"
            shown = [figure(record, "psnr_paper", 2), figure(record, "psnr_static", 2), figure(record, "ssim", 3)]
            rows.append([sequence, f"{method}, {record['iterations']} steps", *shown, source])
    columns = ["Sequence", "Method", "psnr_paper", "psnr_static", "SSIM", "Machine, front end, date"]
    return "\n".join(table(columns, rows))


def main(arguments: Arguments) -> None:
    """Take in what is to be added, and write."""
    RESULTS.mkdir(exist_ok=True)
    for folder in arguments.add:
        path = folder / "bench.json"
        if not path.is_file():
            raise SystemExit(f"{path} is not there. Name the output folder of das3r bench.")
        write_json(RESULTS / f"{folder.resolve().name}.json", json.loads(path.read_text()))
    results = load_results(RESULTS)
    if not results:
        raise SystemExit(f"{RESULTS} holds no results. Add some: --add OUTPUT_DIR.")
    update_between_marks(HERE.parent / "README.md", "bench", readme_text(results))
    update_between_marks(HERE.parent / "docs" / "nerfstudio" / "das3r.md", MARK, page_text(results))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
