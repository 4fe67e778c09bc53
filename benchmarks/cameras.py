"""Our own cameras beside COLMAP's: accuracy and time. What the splats make of both is in methods.py.

    python benchmarks/cameras.py --data SETS --clips CLIP [CLIP ...]

SETS is a folder of sets in the layout that ``das3r demo`` writes, a CLIP one such set elsewhere. The figures go to
benchmarks/results/cameras.json, with what they were measured on, and the table from there to docs/results.md. Every
measurement is one of das3r bench, in a process of its own; what a run has measured the next one does not measure again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import tyro
from provenance import commit, provenance_line
from report import table, update_between_marks
from workspace import find_sets

from das3r_ns.evaluation.bench.config import BenchConfig
from das3r_ns.evaluation.bench.job import Job, Record
from das3r_ns.evaluation.bench.run import in_own_process, run_bench
from das3r_ns.evaluation.bench.tables import FRONT_END
from das3r_ns.files import write_json
from das3r_ns.frontend.choice import FRONT_ENDS
from das3r_ns.frontend.config import Cameras, FrontEndConfig
from das3r_ns.progress import Progress

HERE = Path(__file__).parent
MARK = "cameras"
BASE = "das3r-light"
TITLES: dict[Cameras, str] = {"own": "own", "colmap": "COLMAP"}
KEPT = ("figures", "frames", "size", "camera_kind", "colmap", "seconds", "failed")
STAMP = ("front_end", "front_end_version", "date", "commit", "machine")
Records = Mapping[str, Mapping[str, Record]]
"""Set -> ``own`` and ``colmap``."""


@dataclass
class Arguments:
    """Measure our own cameras and COLMAP's, and write the table."""

    data: Path | None = None
    """Folder of the sets; none if not given."""
    clips: tuple[Path, ...] = ()
    """Further sets, by their folders; a folder called truth bears the name of the one it lies in."""
    sets: tuple[str, ...] = ()
    """Names of those to measure; all if none is named."""
    cameras: tuple[Cameras, ...] = get_args(Cameras)
    """Whose cameras to measure. COLMAP's need our own first, for the masks."""
    workspace: Path = Path("results/cameras")
    """Folder for links to the sets, the front end's results and logs."""
    results: Path = HERE / "results" / "cameras.json"
    """File for the figures; what it holds of other sets stays."""
    output: Path = HERE.parent / "docs" / "results.md"
    """Markdown file for the table, between its marks; they are appended where they are missing."""
    fresh: bool = False
    """Measure again what has been measured."""


def linked_sets(arguments: Arguments, folder: Path) -> list[str]:
    """Links to all sets in one folder; their names, as far as asked for.

    Raises:
        SystemExit: There is no set, or none of a name that was asked for.
    """
    sources = {} if arguments.data is None else {name: arguments.data / name for name in find_sets(arguments.data)}
    for clip in arguments.clips:
        if not (clip / "frames").is_dir():
            raise SystemExit(f"{clip} is no set: it has no folder frames/.")
        sources[clip.resolve().parent.name if clip.resolve().name == "truth" else clip.resolve().name] = clip
    if not sources:
        raise SystemExit("Name a folder of sets (--data) or single ones (--clips).")
    if unknown := set(arguments.sets) - set(sources):
        raise SystemExit(f"No such set: {', '.join(sorted(unknown))}. There are: {', '.join(sources)}.")
    folder.mkdir(parents=True, exist_ok=True)
    names = [name for name in sources if not arguments.sets or name in arguments.sets]
    for name in names:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(sources[name].resolve())
    return names


def measure(arguments: Arguments, sets: Path, names: list[str]) -> dict[str, dict[str, Record]]:
    """Everything asked for, set after set within each kind of cameras, ours first."""
    records: dict[str, dict[str, Record]] = {name: {} for name in names}
    for cameras in sorted(arguments.cameras, key=get_args(Cameras).index):
        for name, of_set in _bench(arguments, sets, cameras, names).items():
            records[name][cameras] = of_set[FRONT_END]
    return records


def _bench(arguments: Arguments, sets: Path, cameras: Cameras, names: list[str]) -> dict[str, dict[str, Record]]:
    # A new version of the front end measures anew; both kinds of cameras share the front end's cache.
    version = arguments.workspace.resolve() / f"geometric-{FRONT_ENDS['geometric'].version}"
    (version / "videos").mkdir(parents=True, exist_ok=True)
    output = version / cameras
    output.mkdir(exist_ok=True)
    if not (output / "videos").exists():
        (output / "videos").symlink_to(version / "videos")
    config = BenchConfig(
        "folder",
        sets,
        output,
        sequences=tuple(names),
        front_end_only=True,
        base=BASE,
        fresh=arguments.fresh,
        front_end=FrontEndConfig(front_end="geometric", long_side=0, cameras=cameras),
    )
    return run_bench(config, Progress(), _measure)["records"]


def _measure(job: Job) -> Record:
    return {**in_own_process(job), "front_end_version": FRONT_ENDS["geometric"].version, "commit": commit()}


def all_registered(record: Record) -> bool:
    """Whether COLMAP registered every frame."""
    return "failed" not in record and bool(record.get("colmap")) and record["colmap"]["registered"] == record["frames"]


def kept(record: Record) -> Record:
    """What stays of a record in the file: no pictures, and nothing that names a folder of this machine."""
    slim = {key: record[key] for key in (*KEPT, *STAMP) if record.get(key) is not None}
    if "failed" in slim:
        slim["failed"] = True
    return slim


def text(records: Records) -> str:
    """The table, under what it was measured on."""
    rows = [_row(name, of_set, cameras) for name, of_set in records.items() for cameras in TITLES if cameras in of_set]
    columns = ["set", "frames", "cameras", "registered", "ATE %", "RPE, degrees", "focal error %", "J", "s"]
    shown = table(columns, rows)
    every = [record for of_set in records.values() for record in of_set.values() if "failed" not in record]
    origin = provenance_line(every) if every else "Nothing could be measured."
    return "\n".join([origin, "", *shown])


def _row(name: str, of_set: Mapping[str, Record], cameras: Cameras) -> list[str]:
    record = of_set[cameras]
    if "failed" in record:
        return [name, "-", TITLES[cameras], "failed", *["-"] * 5]
    registered, own = record.get("colmap") or {}, record["camera_kind"]
    seconds = sum(record["seconds"].values())
    if cameras == "colmap":  # it read the run with our own cameras from the cache
        seconds += sum(of_set.get("own", {}).get("seconds", {}).values())
    which = "-" if cameras == "own" else f"{registered['registered']}" + ("" if registered["held"] else ", ours stay")
    figures = [_figure(record, "ate_percent", 3), _figure(record, "rpe_r", 3)]
    figures += [_figure(record, "focal_error", 1, 100), _figure(record, "J", 3)]
    title = TITLES[cameras] + ("" if own == "general" else f" ({own})")
    return [name, str(record["frames"]), title, which, *figures, f"{seconds:.0f}"]


def _figure(record: Record, key: str, digits: int, factor: float = 1.0) -> str:
    value = record.get("figures", {}).get(key)
    return "-" if value is None else f"{factor * value:.{digits}f}"


def write_table(path: Path, markdown: str) -> None:
    """Put the table between its marks; append a section with them where they are missing."""
    before = path.read_text() if path.is_file() else "# Results\n"
    if f"<!-- {MARK}:begin -->" not in before:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{before.rstrip()}\n\n{SECTION}\n\n<!-- {MARK}:begin -->\n<!-- {MARK}:end -->\n")
    update_between_marks(path, MARK, markdown)


SECTION = """## Cameras: our own and COLMAP's

`python benchmarks/cameras.py --data SETS --clips CLIP ...`. COLMAP sees the frames at the size of the video
without what our front end found to move; frames that it does not register follow our own cameras, and where it
registers less than half of them ours stay. Seconds are those of the whole front end, COLMAP's own pass included."""


def main(arguments: Arguments) -> None:
    """Measure what is missing, keep the figures, write the table."""
    sets = arguments.workspace.resolve() / "sets"
    found = measure(arguments, sets, linked_sets(arguments, sets))
    records = json.loads(arguments.results.read_text())["records"] if arguments.results.is_file() else {}
    for name, of_set in found.items():
        records[name] = {**records.get(name, {}), **{key: kept(record) for key, record in of_set.items()}}
    records = {name: records[name] for name in sorted(records)}
    write_json(arguments.results, {"records": records})
    write_table(arguments.output, text(records))
    print(text(records))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
