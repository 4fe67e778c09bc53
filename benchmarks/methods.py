"""Held-out frames of das3r-light: cameras refined, given or COLMAP's, splatfacto beside it, and ablations.

    python benchmarks/methods.py --data SETS                                    # refined, given, colmap, splatfacto
    python benchmarks/methods.py --data SETS --runs refined given --sets davis_dog
    python benchmarks/methods.py --data SETS --runs no-depth degree-3 --sets davis_car-shadow

SETS is a folder of sets in the layout that ``das3r demo`` writes. Every training is one of das3r bench, in a process of
its own, of stated reduced cost. The workspace keeps a record of each, with its cost, commit and machine: what a run has
measured the next one does not measure again, unless --fresh. The figures go to benchmarks/results/methods.json, and the
tables from there to docs/results.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import tyro
from cameras import Arguments as Sets
from cameras import all_registered, linked_sets
from provenance import commit, provenance_line
from report import table, update_between_marks

from das3r_ns.evaluation.bench.config import BenchConfig
from das3r_ns.evaluation.bench.job import Job, Record
from das3r_ns.evaluation.bench.run import in_own_process, run_bench
from das3r_ns.evaluation.bench.tables import FRONT_END
from das3r_ns.files import write_json
from das3r_ns.frontend.choice import FRONT_ENDS
from das3r_ns.frontend.config import Cameras, FrontEndConfig
from das3r_ns.progress import Progress

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "methods.json"
MARK = "methods"
BASE = "das3r-light"
SEQUENCES_OF_DAVIS = "davis_"
KEPT = ("figures", "figures_given", "frames", "size", "iterations", "gaussians", "training_cpu_s", "peak_mb")
KEPT_OF_FRONT_END = ("figures", "frames", "size", "camera_kind", "colmap")
STAMP = ("front_end", "front_end_version", "date", "commit", "machine")
Records = Mapping[str, Mapping[str, Record]]
"""Set -> name of a run -> what was measured; ``colmap-cameras`` is the front end's."""


@dataclass(frozen=True)
class Run:
    """One way to train."""

    method: str
    title: str
    cameras: Cameras = "own"


RUNS = {
    "refined": Run(BASE, "das3r-light"),
    "given": Run("das3r-no-camera-refinement", "cameras as given"),
    "colmap": Run(BASE, "COLMAP's cameras", "colmap"),
    "splatfacto": Run("splatfacto", "splatfacto"),
    "many-gaussians": Run("das3r-many-gaussians", "no limit to the Gaussians"),
    "degree-3": Run("das3r-degree-3", "spherical harmonics of degree 3"),
    "no-depth": Run("das3r-no-depth", "no depth term"),
    "no-masks": Run("das3r-no-masks", "no masks, staticness alone"),
    "splatfacto-masks": Run("splatfacto-masks", "splatfacto with das3r's masks"),
}
USUAL = ("refined", "given", "colmap", "splatfacto")
ABLATED = ("refined", "given", "many-gaussians", "degree-3", "no-depth", "no-masks", "splatfacto-masks", "splatfacto")


@dataclass
class Arguments:
    """Train das3r-light in several ways, and write the tables."""

    data: Path
    """Folder of the sets."""
    sets: tuple[str, ...] = ()
    """Names of those to measure; all if none is named."""
    runs: tuple[str, ...] = USUAL
    """Which trainings: refined, given, colmap, splatfacto, many-gaussians, degree-3, no-depth, no-masks,
    splatfacto-masks."""
    steps: int = 1500
    """Of every training."""
    train_size: int = 256
    """Long side of the images that are trained on, pixels; the front end works at 512."""
    num_frames: int = 24
    """Only so many frames of every set, from the first on, ..."""
    num_frames_davis: int = 40
    """... and of those of DAVIS (davis_*), for which others have published figures."""
    workspace: Path = Path("results/methods")
    """Folder for links to the sets, the front end's results, records, logs and trained runs."""
    fresh: bool = False
    """Measure again what has been measured."""
    results: Path = RESULTS
    """File for the figures; what it holds of other sets and runs stays."""
    output: Path = HERE.parent / "docs" / "results.md"
    """Markdown file for the tables, between the marks."""


def measure(arguments: Arguments, sets: Path, names: list[str]) -> dict[str, dict[str, Record]]:
    """Everything asked for, set after set; COLMAP's cameras only where it registers every frame."""
    if unknown := set(arguments.runs) - set(RUNS):
        raise SystemExit(f"No such run: {', '.join(sorted(unknown))}. There are: {', '.join(RUNS)}.")
    own = {name: RUNS[name].method for name in arguments.runs if RUNS[name].cameras == "own"}
    records: dict[str, dict[str, Record]] = {}
    for name in names:
        found = _bench(arguments, sets, name, "own", tuple(own.values()))
        records[name] = {run: found[method] for run, method in own.items()}
        if "colmap" in arguments.runs:
            records[name]["colmap-cameras"] = record = _bench(arguments, sets, name, "colmap", ())[FRONT_END]
            if all_registered(record):
                records[name]["colmap"] = _bench(arguments, sets, name, "colmap", (BASE,))[BASE]
    return records


def _bench(
    arguments: Arguments, sets: Path, name: str, cameras: Cameras, methods: tuple[str, ...]
) -> dict[str, Record]:
    # A new version of the front end measures anew; both kinds of cameras share the front end's cache.
    version = arguments.workspace.resolve() / f"geometric-{FRONT_ENDS['geometric'].version}"
    (version / "videos").mkdir(parents=True, exist_ok=True)
    output = version / cameras
    output.mkdir(exist_ok=True)
    if not (output / "videos").exists():
        (output / "videos").symlink_to(version / "videos")
    davis = name.startswith(SEQUENCES_OF_DAVIS)
    config = BenchConfig(
        "folder",
        sets,
        output,
        methods=methods,
        sequences=(name,),
        front_end_only=not methods,
        max_iterations=arguments.steps,
        train_size=arguments.train_size,
        num_frames=arguments.num_frames_davis if davis else arguments.num_frames,
        base=BASE,
        plates=False,
        fresh=arguments.fresh and bool(methods),
        front_end=FrontEndConfig(front_end="geometric", cameras=cameras),
    )
    return run_bench(config, Progress(), _measure)["records"][name]


def _measure(job: Job) -> Record:
    if job.method is None and job.config.front_end.cameras == "own":
        return {"figures": {}}  # no table shows it: the first training runs the front end for itself and the others
    return {**in_own_process(job), "front_end_version": FRONT_ENDS["geometric"].version, "commit": commit()}


def kept(run: str, record: Record) -> Record:
    """What stays of a record in the file: no pictures, and nothing that names a folder of this machine."""
    keys = KEPT if run in RUNS else KEPT_OF_FRONT_END
    slim = {key: record[key] for key in (*keys, *STAMP) if record.get(key) is not None}
    return {**slim, "failed": True} if "failed" in record else slim


def text(records: Records) -> str:
    """The tables, each under what it was measured on."""
    shown = [
        (
            "Cameras refined in training, as given, and COLMAP's",
            "psnr_static, dB, of das3r-light; refined cameras also without what training corrected the frames beside "
            "the held-out one by",
            cameras_table(records),
            ("refined", "given", "colmap"),
        ),
        ("das3r-light and splatfacto", "same cameras, size, schedule and steps", beside_splatfacto(records), ()),
    ]
    ablated = {name: of_set for name, of_set in records.items() if measured(of_set, set(ABLATED) - set(USUAL))}
    shown += [(f"{name}: what costs what", "one change each", ablation(of_set), ()) for name, of_set in ablated.items()]
    lines: list[str] = []
    for title, explanation, rows, runs in shown:
        used = [record for of_set in records.values() for record in measured(of_set, runs or tuple(RUNS)).values()]
        if rows and used:
            lines += [f"**{title}** ({explanation})", "", provenance_line(used), "", *rows, ""]
    return "\n".join(lines).strip()


def measured(of_set: Mapping[str, Record], runs: Iterable[str]) -> dict[str, Record]:
    """The runs that there are figures of."""
    return {run: of_set[run] for run in runs if "figures" in of_set.get(run, {})}


def _value(record: Record | None, key: str = "psnr_static", part: str = "figures") -> float | None:
    return None if record is None else record.get(part, {}).get(key)


def _shown(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _difference(a: float | None, b: float | None) -> str:
    return "-" if a is None or b is None else f"{a - b:+.2f}"


def cameras_table(records: Records) -> list[str]:
    """Refined against given cameras, and our own against COLMAP's."""
    rows, gains, agreed, leads = [], [], [], []
    for name, of_set in records.items():
        runs = measured(of_set, ("refined", "given", "colmap"))
        if "refined" not in runs or len(runs) == 1:
            continue
        own, given, theirs = (_value(runs.get(run)) for run in ("refined", "given", "colmap"))
        uncorrected = _value(runs["refined"], part="figures_given")
        own_agreed, given_agreed = (_value(runs.get(run), "psnr_agreed") for run in ("refined", "given"))
        gains += [] if own is None or given is None else [own - given]
        agreed += [] if own_agreed is None or given_agreed is None else [own_agreed - given_agreed]
        leads += [] if own is None or theirs is None else [own - theirs]
        ssims = [_shown(_value(runs.get(run), "ssim"), 3) for run in ("refined", "given", "colmap")]
        rows.append(
            [
                *(name, str(runs["refined"]["frames"])),
                *(
                    _shown(given),
                    _shown(own),
                    _shown(uncorrected),
                    _difference(own, given),
                    _difference(own_agreed, given_agreed),
                ),
                *(_registered(of_set.get("colmap-cameras")), _shown(theirs), _difference(own, theirs)),
                " / ".join(ssims),
            ]
        )
    if not rows:
        return []
    summary = [f"{mean(values):+.2f} ({len(values)})" if values else "-" for values in (gains, agreed, leads)]
    rows.append(["**mean (sets)**", "", "", "", "", *summary[:2], "", "", summary[2], ""])
    columns = ["set", "frames", "as given", "refined", "refined, not corrected", "refined less given"]
    columns += [
        "the same, psnr_agreed",
        "COLMAP registers",
        "on COLMAP's",
        "refined less COLMAP's",
        "SSIM: refined / given / COLMAP's",
    ]
    return table(columns, rows)


def _registered(record: Record | None) -> str:
    if record is None:
        return "-"
    return "none" if not record.get("colmap") else f"{record['colmap']['registered']} of {record['frames']}"


def beside_splatfacto(records: Records) -> list[str]:
    """das3r-light against splatfacto, over what the true masks call static, and over what the front end does too."""
    rows = []
    for name, of_set in records.items():
        runs = measured(of_set, ("refined", "splatfacto"))
        if len(runs) < 2:
            continue
        row = [name, str(runs["refined"]["frames"])]
        for key in ("psnr_static", "psnr_agreed"):
            ours, theirs = (_value(record, key) for record in runs.values())
            row += [_shown(ours), _shown(theirs), _difference(ours, theirs)]
        row += [_shown(_value(record, "ssim"), 3) for record in runs.values()]
        row += [" / ".join(str(record["gaussians"]) for record in runs.values())]
        row += [" / ".join(_speed(record) for record in runs.values())]
        rows.append(row)
    columns = ["set", "frames", "psnr_static, das3r-light", "splatfacto", "less", "psnr_agreed, das3r-light"]
    columns += ["splatfacto", "less", "SSIM, das3r-light", "splatfacto", "Gaussians", "steps a CPU s"]
    return table(columns, rows) if rows else []


def _speed(record: Record) -> str:
    return f"{record['iterations'] / record['training_cpu_s']:.0f}"


def ablation(of_set: Mapping[str, Record]) -> list[str]:
    """All runs on our own cameras of one set."""
    rows = []
    for run, record in measured(of_set, ABLATED).items():
        figures = [_shown(_value(record, key)) for key in ("psnr_static", "psnr_agreed")]
        figures += [_shown(_value(record, key, "figures_given")) for key in ("psnr_static", "psnr_agreed")]
        cost = [str(record["gaussians"]), _speed(record)]
        rows.append([RUNS[run].title, *figures, _shown(_value(record, "ssim"), 3), *cost])
    columns = ["training", "psnr_static", "psnr_agreed", "psnr_static, not corrected", "psnr_agreed, not corrected"]
    return table([*columns, "SSIM", "Gaussians", "steps a CPU s"], rows)


def main(arguments: Arguments) -> None:
    """Measure what is missing, keep the figures, write the tables."""
    sets = arguments.workspace.resolve() / "sets"
    found = measure(arguments, sets, linked_sets(Sets(data=arguments.data, sets=arguments.sets), sets))
    records = json.loads(arguments.results.read_text())["records"] if arguments.results.is_file() else {}
    for name, of_set in found.items():
        records[name] = {**records.get(name, {}), **{run: kept(run, record) for run, record in of_set.items()}}
    records = {name: records[name] for name in sorted(records)}
    write_json(arguments.results, {"records": records})
    update_between_marks(arguments.output, MARK, text(records))
    print(text(records))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
