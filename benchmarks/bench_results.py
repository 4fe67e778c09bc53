"""Tables of docs/results.md and of the page for nerfstudio, from the JSON files in benchmarks/results/.

    python benchmarks/bench_results.py                  # writes the tables anew
    python benchmarks/bench_results.py --add RESULT     # takes in what was measured first

RESULT is the output folder of ``das3r bench``, or the JSON file that measure_clean_plate.py or depth.py wrote. What is
taken in is stamped with the commit of this checkout, so measure with the code that is checked out. Where two files hold
the same sequence and method, the one with more steps counts; with as many, the one whose name comes last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import tyro
from provenance import Record, provenance_line, stamp
from report import table, update_between_marks

from das3r_ns.evaluation.bench.tables import FRONT_END
from das3r_ns.evaluation.protocols import load_protocol
from das3r_ns.files import write_json

HERE = Path(__file__).parent
RESULTS = HERE / "results"
RESULTS_PAGE = HERE.parent / "docs" / "results.md"
NERFSTUDIO_PAGE = HERE.parent / "docs" / "nerfstudio" / "das3r.md"
PUBLISHED = ("DAS3R", "MonST3R + InstantSplat")
"""Methods whose figures of single sequences are known."""
Records = Mapping[str, Mapping[str, Record]]
"""Sequence -> method (or FRONT_END) -> what was measured."""


@dataclass
class Arguments:
    """Write the tables of what was measured."""

    add: tuple[Path, ...] = ()
    """Output folders of das3r bench, or JSON files of measure_clean_plate.py and depth.py, to be copied to
    benchmarks/results/ under their own names."""


def load_results(folder: Path) -> list[dict[str, Any]]:
    """The JSON files in a folder, in the order of their names."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def take_in(source: Path, results: Path = RESULTS) -> Path:
    """Copy a result to where the tables are made from, with what says where it comes from.

    Returns:
        The copy.

    Raises:
        SystemExit: It is not a result that a table is made from.
    """
    path = source / "bench.json" if source.is_dir() else source
    if not path.is_file():
        raise SystemExit(f"{path} is not there. Name the output folder of das3r bench, or a JSON file.")
    result = json.loads(path.read_text())
    made_by = stamp()
    if "records" in result:
        kind, name = "bench", source.resolve().name if source.is_dir() else path.stem
        for record in (record for of_sequence in result["records"].values() for record in of_sequence.values()):
            if "failed" not in record and "front_end_version" not in record:
                raise SystemExit(f"{path} is of das3r 0.1, which did not say which front end it had: measure again.")
            record.setdefault("commit", made_by["commit"])
    elif "psnr_static_to_frame" in result or "rows" in result:
        kind, name = "depth" if "rows" in result else "composites", path.stem
        result = {**made_by, **result}
    else:
        raise SystemExit(f"{path} is not of das3r bench, measure_clean_plate.py or depth.py: no table shows it.")
    target = results / kind / f"{name}.json"
    write_json(target, result)
    return target


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


def front_end(record: Record) -> str:
    """Name and version of the front end behind a record."""
    return f"{record['front_end']} {record['front_end_version']}"


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
        rows.append([sequence + star, *shown, *rest, front_end(record)])
    if paper:
        means = [f"**{mean(values):.2f}**" for values in (paper, *published.values())]
        rows.append([f"**mean of the {len(paper)} published**", *means, "", "", "", ""])
    names = [f"{name}, published" for name in PUBLISHED]
    return table(["sequence", f"psnr_paper, {method}", *names, "psnr_static", "SSIM", "steps", "front end"], rows)


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


def cost(records: Records, method: str) -> list[str]:
    """CPU time and memory of the front end and of the training."""
    rows = []
    for sequence, of_sequence in records.items():
        found, trained = of_sequence.get(FRONT_END, {}), of_sequence.get(method, {})
        used = [f"{record[key]:.0f}" if record else "-" for record in (found, trained) for key in ("cpu_s", "peak_mb")]
        clip = [str(found.get(key, "-")) for key in ("frames", "size")]
        rows.append([sequence, *clip, *used, *(str(trained.get(key, "-")) for key in ("gaussians", "iterations"))])
    columns = ["sequence", "frames", "size", "front end, CPU s", "MB", "training, CPU s", "MB", "Gaussians", "steps"]
    return table(columns, rows)


def bench_text(results: list[dict[str, Any]], method: str = "das3r-light") -> str:
    """The tables of das3r bench, each with where its figures come from."""
    records = all_records(results)
    trained, found = _only(records, method), _only(records, FRONT_END)
    shown = [
        ("Held-out frames", "dB; * = no true masks: the front end's own", held_out(records, method), trained),
        (
            "Masks, cameras, clean plates",
            "hidden: under the true mask, but seen in another frame; the plates are the rendered scene alone",
            masks_and_plates(records, method),
            [*found, *trained],
        ),
        (
            "Cost",
            "CPU seconds of all threads; MB: peak memory of the process",
            cost(records, method),
            [*found, *trained],
        ),
    ]
    lines: list[str] = []
    for title, explanation, rows, used in shown:
        if used:
            lines += [f"**{title}** ({explanation})", "", provenance_line(used), "", *rows, ""]
    return "\n".join(lines).strip()


def _only(records: Records, name: str) -> list[Record]:
    return [of_sequence[name] for of_sequence in records.values() if name in of_sequence]


def composites_text(results: list[dict[str, Any]]) -> str:
    """What measure_clean_plate.py found: the clean plates that ``das3r clean-plate`` writes."""
    keys = ("psnr_hidden", "psnr_hidden_render", "psnr_static_to_frame", "psnr_static_to_clean")
    rows = []
    for result in results:
        name = f"{result['set']}, {result['note']}" if "note" in result else result["set"]
        rows.append([name, str(result.get("seed", "-")), *(f"{result[key]:.2f}" for key in keys)])
    columns = ["set", "seed", "hidden dB", "hidden dB of the render alone", "static dB, against the frame"]
    return "\n".join([provenance_line(results), "", *table([*columns, "static dB, against the true plate"], rows)])


def depth_text(results: list[dict[str, Any]]) -> str:
    """What depth.py found."""
    rows = [row for result in results for row in result["rows"]]
    shares = list(rows[0]["within"])
    cells = [
        [row["set"], row["depth"], *(f"{row['within'][share]:.1%}" for share in shares), f"{row['median']:.2%}"]
        for row in rows
    ]
    columns = ["set", "depth by", *(f"within {float(share):.0%}" for share in shares), "median error"]
    return "\n".join([provenance_line(results), "", *table(columns, cells)])


def page_text(results: list[dict[str, Any]], method: str = "das3r-light") -> str:
    """What stands on the page for nerfstudio: each figure with where it comes from."""
    rows = []
    for sequence, of_sequence in all_records(results).items():
        if method in of_sequence:
            record = of_sequence[method]
            m = record["machine"]
            gpu = "no GPU" if m["gpu"] == "none" else m["gpu"]
            source = f"{m['processor']}, {m['cores']} cores, {gpu}; {front_end(record)}; {record['date']}"
            shown = [figure(record, "psnr_paper", 2), figure(record, "psnr_static", 2), figure(record, "ssim", 3)]
            rows.append([sequence, f"{method}, {record['iterations']} steps", *shown, source])
    columns = ["Sequence", "Method", "psnr_paper", "psnr_static", "SSIM", "Machine, front end, date"]
    return "\n".join(table(columns, rows))


def main(arguments: Arguments) -> None:
    """Take in what is to be added, and write."""
    for source in arguments.add:
        take_in(source)
    bench = load_results(RESULTS / "bench")
    update_between_marks(RESULTS_PAGE, "bench", bench_text(bench))
    update_between_marks(RESULTS_PAGE, "composites", composites_text(load_results(RESULTS / "composites")))
    update_between_marks(RESULTS_PAGE, "depth", depth_text(load_results(RESULTS / "depth")))
    update_between_marks(NERFSTUDIO_PAGE, "results", page_text(bench))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
