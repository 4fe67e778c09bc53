"""The front end on drawn clips of many kinds that nothing was ever set on: cameras, masks and the verdict, by kind.

    python benchmarks/drawn.py --output-dir DIR --update-docs    # 40 clips; 15 CPU minutes

A seed is a clip (see ``das3r_ns.demo.varied``): a room, a street, open land, a thing on show or a thicket, filmed by
hand or from a car, with up to five movers, often with faults of the film and a lens that bends; in a quarter nothing
moves. They are harder than most footage, and small. What is in the result file is not measured again, unless --fresh.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import field
import numpy as np
import tyro
from field_clips import Clip
from provenance import provenance_line, stamp
from report import table, update_between_marks

from das3r_ns.demo.varied import write_clip
from das3r_ns.files import write_json

HERE = Path(__file__).parent
KEPT = HERE / "results" / "drawn.json"
PAGE = HERE.parent / "docs" / "results.md"
SHORT = 0.1
"""Metres of the camera's path below which an error in percent of it says nothing."""
GOOD, BAD = 0.3, 1.0
"""ATE, percent of the path, up to which cameras are good, and above which they must not be called sound."""

COLUMNS = (
    "camera",
    "clips",
    "with parallax",
    "median ATE %",
    "ATE below 0.3 %",
    "ATE above 1 %, of them called sound",
    "median focal error %",
    "J, mean",
    "false alarms %",
    "marked where nothing moves %",
    "CPU s",
)

Results = dict[str, dict[str, Any]]


@dataclass
class Arguments:
    """Measure the front end on drawn clips."""

    output_dir: Path = Path("drawn")
    """Folder for the clips, drawn.json and the logs."""
    first: int = 5000
    """Seed of the first clip."""
    clips: int = 40
    """How many."""
    frames: int = 20
    """Of each."""
    width: int = 320
    """Of the pictures, pixels."""
    height: int = 180
    """Of the pictures, pixels."""
    fresh: bool = False
    """Measure again what has been measured."""
    update_docs: bool = False
    """Also keep the results in benchmarks/results/ and write the table between the marks in docs/results.md."""


def measured(seed: int, arguments: Arguments) -> dict[str, Any]:
    """The clip of a seed, drawn where it is missing, through the front end in a process of its own."""
    place = arguments.output_dir / "clips" / str(seed)
    write_clip(place, seed, arguments.frames, arguments.width, arguments.height)
    drawn = json.loads((place / "clip.json").read_text())
    rows = np.loadtxt(place / "poses.txt", ndmin=2).reshape(-1, 3, 4)
    still = not drawn["movers"]
    record = field.measure(
        Clip(str(seed), place, place, still), field.Arguments(output_dir=arguments.output_dir, fresh=arguments.fresh)
    )
    path = float(np.linalg.norm(np.diff(rows[:, :, 3], axis=0), axis=1).sum())
    return {**record, "drawn": drawn, "path": round(path, 3), **stamp()}


def row(name: str, records: list[dict[str, Any]]) -> tuple[str, ...]:
    """A line of the table."""

    def values(key: str, wanted: Callable[[dict[str, Any]], bool] = lambda record: True) -> np.ndarray:
        found = [record[key] for record in records if record.get(key) is not None and wanted(record)]
        return np.array([value for value in found if value == value])

    def said(numbers: np.ndarray, digits: int, factor: float = 1.0, middle: Callable[..., Any] = np.mean) -> str:
        return f"{middle(numbers) * factor:.{digits}f}" if len(numbers) else "-"

    general = [r for r in records if r.get("camera_kind") == "general" and r["path"] >= SHORT]
    ate = np.array([r["ate_percent"] for r in general])
    sound = np.array([(r.get("verdict") or {}).get("word") == "sound" for r in general], bool)
    focal = np.array([abs(r["focal_error"]) for r in general])

    def moves(record: dict[str, Any]) -> bool:
        return bool(record["drawn"]["movers"])

    return (
        name,
        str(len(records)),
        str(len(general)),
        said(ate, 2, middle=np.median),
        f"{(ate < GOOD).sum()} of {len(ate)}" if len(ate) else "-",
        f"{(ate > BAD).sum()}, {(sound & (ate > BAD)).sum()}" if len(ate) else "-",
        said(focal, 1, 100, np.median),
        said(values("J", moves), 3),
        said(values("false_alarms", moves), 2, 100),
        said(values("marked", lambda record: not moves(record)), 2, 100),
        said(values("cpu_s"), 0),
    )


def markdown(results: Results) -> str:
    """The table, with where its figures come from, and what failed."""
    good = {name: record for name, record in results.items() if "failed" not in record}
    kinds = sorted({record["drawn"]["camera"] for record in good.values()})
    rows = [row(kind, [r for r in good.values() if r["drawn"]["camera"] == kind]) for kind in kinds]
    rows.append(row("**all**", list(good.values())))
    lines = [provenance_line(results.values()), "", *table(COLUMNS, rows)]
    lost = [f"{name} ({'; '.join(record['last'][-1:])})" for name, record in results.items() if "failed" in record]
    return "\n".join([*lines, *(["", f"Failed: {', '.join(lost)}."] if lost else [])])


def main(arguments: Arguments) -> None:
    """Measure what is missing and print everything."""
    path = arguments.output_dir / "drawn.json"
    results: Results = json.loads(path.read_text()) if path.is_file() else {}
    for seed in range(arguments.first, arguments.first + arguments.clips):
        if arguments.fresh or "failed" in results.get(str(seed), {"failed": None}):
            print(seed, flush=True)
            results[str(seed)] = measured(seed, arguments)
            write_json(path, results)
    results = field.judged(results)
    if arguments.update_docs:
        write_json(KEPT, results)
        update_between_marks(PAGE, "drawn", markdown(results))
    print(markdown(results))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
