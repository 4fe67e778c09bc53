"""Clips as people film them: lenses, zoom, rolling shutter, cuts, clocks on the picture; and the verdict on every one.

    python benchmarks/field.py --field SCRIPTS --data SETS --update-docs   # everything; an hour or two on two cores
    python benchmarks/field.py --field SCRIPTS --only zoom lens-12         # some clips
    python benchmarks/field.py --judge-again --update-docs                 # the verdicts anew, of what was measured

SCRIPTS is a folder of scripts that write clips with their truth (field_clips.py names them and their arguments); SETS
holds sets in the layout of ``das3r demo``, of which the first frames are used, once as they are and once their clean
plates as a film in which nothing moves. Every clip goes through the front end in a process of its own.
What is in the result file is not measured again, unless --fresh; so a run that was interrupted goes on where it was.

The thresholds of the verdict were set on the clips of DEVELOPMENT, those that had been measured by then, and have not
been touched since, but for that of a focal that is a guess (it was lowered for drawn clips): all others were held out.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from field_clips import SOURCES, Clip, clips_of_sets, make
from provenance import provenance_line, stamp
from report import table, update_between_marks

from das3r_ns.files import write_json
from das3r_ns.frontend.signs import Signs
from das3r_ns.frontend.verdict import judge

HERE = Path(__file__).parent
KEPT = HERE / "results" / "field.json"
PAGE = HERE.parent / "docs" / "results.md"
DEVELOPMENT = (
    "bend-plaza-15",
    "comp_carton_cow",
    "comp_stairs_dog",
    "cut-cut",
    "fade-fade",
    "lens-28",
    "overlay-bonnet",
    "overlay-demo",
    "synth_plaza_arc",
    "zoom",
)
"""Clips that the thresholds of the verdict were set on."""

AIMS = {
    "bend-plaza-15": ("focal 24, ATE 0.59", "focal 2, ATE 0.1"),
    "bigmover": ("ATE 18.7", "ATE 1, J 0.85"),
    "comp_carton_cow": ("ATE 0.39", "ATE 0.06"),
    "comp_carton_cow-still": ("marked 13", "marked 1"),
    "comp_fern_car": ("ATE 0.11", "ATE 0.06"),
    "comp_fern_car-still": ("marked 21", "marked 1"),
    "comp_flower_scooter": ("ATE 0.08", "ATE 0.06"),
    "comp_flower_scooter-still": ("marked 5.5", "marked 1"),
    "comp_fox_dancer": ("ATE 0.06", "ATE 0.06"),
    "comp_fox_dancer-still": ("marked 4.5", "marked 1"),
    "comp_stairs_dog": ("ATE 3.7", "ATE 0.5"),
    "comp_stairs_dog-still": ("ATE 2.4, marked 20", "marked 1"),
    "comp_terrace_dancer": ("ATE 0.74", "ATE 0.2"),
    "comp_terrace_dancer-still": ("ATE 0.67, marked 3.9", "marked 1"),
    "fade-fade": ("ATE 11, J 0.59", "ATE 0.3"),
    "farhill-12": ("", "ATE 0.1, J 0.9"),
    "farhill-2.5": ("ATE 0.03", "ATE 0.1, J 0.9"),
    "farhill-6": ("J 0.09", "ATE 0.1, J 0.9"),
    "freeze-doubled": ("J 0.84", ""),
    "interlaced-interlaced": ("J 0.81", "J 0.90"),
    "lens-28": ("focal 65, ATE 1.65", "focal 3, ATE 0.3"),
    "overlay-bonnet": ("ATE 5.1, J 0.64", "ATE 0.3, J 0.85"),
    "overlay-clock": ("J 0.79", "J 0.88"),
    "overlay-hud": ("J 0.79", "J 0.88"),
    "overlay-logo": ("J 0.79", "J 0.88"),
    "rolling-70": ("ATE 14.9, J 0.83", "ATE 2, J 0.88"),
    "stopgo": ("J 0.39", "J 0.75"),
    "synth_plaza_arc-still": ("marked 0.8", "marked 1"),
    "zoom": ("focal 52 to 275, ATE 2.3 to 6.5", "focal 3, ATE 0.3"),
}
"""What clips gave when they were first tried (whole), and what was wanted of them: percent, at most, but for J."""

COLUMNS = (
    "clip",
    "set",
    "frames",
    "ATE %",
    "focal error %",
    "J",
    "false alarms %",
    "CPU s",
    "verdict",
    "why",
    "once",
    "aim",
)

Results = dict[str, dict[str, Any]]


@dataclass
class Arguments:
    """Measure das3r on clips as people film them."""

    field: Path | None = None
    """Folder of the scripts; if None, none of their clips is measured."""
    data: Path | None = None
    """Folder of the sets; if None, no set is measured, nor what bends one."""
    output_dir: Path = Path("field")
    """Folder for the clips, field.json and the logs."""
    only: tuple[str, ...] = ()
    """Names of scripts' clips or of sets to measure, or how they begin; all if none is named."""
    frames_of_sets: int = 24
    """Frames of a set that are used, the first ones."""
    max_frames: int = 150
    """Most frames of a clip; a longer one is thinned evenly."""
    stereo: bool = True
    """Whether the front end measures depth by stereo and looks again at what moves; its cameras come before."""
    fresh: bool = False
    """Measure again what has been measured."""
    judge_again: bool = False
    """Measure nothing: judge what is in benchmarks/results/field.json by the present rules."""
    update_docs: bool = False
    """Also keep the results in benchmarks/results/ and write the table between the marks in docs/results.md."""


def clips(arguments: Arguments) -> list[Clip]:
    """All clips asked for; those of scripts are written where they are missing."""
    found: list[Clip] = []

    def wanted(name: str) -> bool:
        return not arguments.only or any(name.startswith(start) for start in arguments.only)

    if arguments.data is not None:
        folder = arguments.output_dir / f"sets-{arguments.frames_of_sets}"
        found += [c for c in clips_of_sets(arguments.data, folder, arguments.frames_of_sets) if wanted(c.name)]
    for source in SOURCES:
        if arguments.field is not None and wanted(source.name):
            found += make(
                source, arguments.field, arguments.data, arguments.output_dir / "clips", arguments.frames_of_sets
            )
    return found


def measure(clip: Clip, arguments: Arguments) -> dict[str, Any]:
    """One clip in a process of its own; a failure is a result too."""
    folder = arguments.output_dir
    log, output = folder / "logs" / f"{clip.name}.txt", folder / "parts" / f"{clip.name}.json"
    for path in (log, output):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
    if arguments.fresh:
        shutil.rmtree(clip.video.with_name(f"{clip.video.name}.das3r"), ignore_errors=True)
        for cache in clip.video.rglob(".das3r") if clip.video.is_dir() else ():
            shutil.rmtree(cache)
    command = [sys.executable, str(HERE / "measure_field.py"), str(clip.video), str(clip.truth)]
    command += ["--output", str(output), *(["--still"] if clip.still else [])]
    command += ["--front-end.max-frames", str(arguments.max_frames)]
    command += [] if arguments.stereo else ["--front-end.no-stereo"]
    with log.open("w") as stream:
        code = subprocess.run(command, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL).returncode
    if output.is_file():
        return json.loads(output.read_text())
    return {"failed": code, "last": log.read_text().strip().splitlines()[-3:]}


def judged(results: Results) -> Results:
    """The records with the verdict of the present rules on the signs that were measured."""
    verdicts = {name: judge(Signs.read(r["signs"])).record() for name, r in results.items() if "signs" in r}
    return {name: {**record, "verdict": verdicts.get(name)} for name, record in results.items()}


def group(name: str) -> str:
    """Whether the thresholds were set on a clip."""
    return "development" if name in DEVELOPMENT else "held out"


def row(name: str, record: dict[str, Any]) -> tuple[str, ...]:
    """A line of the table."""

    def number(key: str, digits: int, factor: float = 1.0) -> str:
        value = record.get(key)
        return "-" if value is None or value != value else f"{value * factor:.{digits}f}"

    aims = AIMS.get(name, ("", ""))
    if "failed" in record:
        return (name, group(name), *["-"] * 6, "failed", record["last"][-1] if record["last"] else "", *aims)
    verdict = record["verdict"]
    said = ("-", "") if verdict is None else (verdict["word"], ", ".join(doubt["sign"] for doubt in verdict["doubts"]))
    figures = (number("ate_percent", 2), number("focal_error", 1, 100), number("J", 3), number("false_alarms", 2, 100))
    return (name, group(name), str(record["frames"]), *figures, number("cpu_s", 0), *said, *aims)


def misses(results: Results, of: str) -> str:
    """What the verdict gets wrong on the clips of a group, in a sentence."""
    known = {n: r for n, r in results.items() if r.get("verdict") and "ate_percent" in r and group(n) == of}
    sound = [n for n, r in known.items() if r["verdict"]["word"] == "sound"]
    lost = [n for n, r in known.items() if r["verdict"]["word"] == "not solved"]
    wrong = [n for n in sound if known[n]["ate_percent"] > 1.0]
    refused = [n for n in lost if known[n]["ate_percent"] < 0.3]
    good = [n for n, r in known.items() if r["ate_percent"] < 0.3]
    return (
        f"Of {len(known)} clips, {of}: {len(sound)} sound, of which ATE is above 1 % on "
        f"{len(wrong)}{_names(wrong)}; {len(lost)} not solved, of which ATE is under 0.3 % on "
        f"{len(refused)}{_names(refused)}. Of {len(good)} with an ATE under 0.3 %, "
        f"{sum(n in sound for n in good)} are sound."
    )


def _names(names: list[str]) -> str:
    return f" ({', '.join(names)})" if names else ""


def markdown(results: Results) -> str:
    """The table as Markdown, with where its figures come from and what the verdict gets wrong."""
    rows = [row(name, results[name]) for name in sorted(results)]
    said = [f"- {misses(results, of)}" for of in ("development", "held out")]
    return "\n".join([provenance_line(results.values()), "", *table(COLUMNS, rows), "", *said])


def main(arguments: Arguments) -> None:
    """Measure what is missing and print everything."""
    path = KEPT if arguments.judge_again else arguments.output_dir / "field.json"
    results: Results = json.loads(path.read_text()) if path.is_file() else {}
    for clip in [] if arguments.judge_again else clips(arguments):
        if arguments.fresh or "failed" in results.get(clip.name, {"failed": None}):
            print(clip.name, flush=True)
            results[clip.name] = {**measure(clip, arguments), **stamp()}
            write_json(path, results)
    results = judged(results)
    if arguments.update_docs:
        kept: Results = json.loads(KEPT.read_text()) if KEPT.is_file() else {}
        results = judged(kept | results)
        write_json(KEPT, results)
        update_between_marks(PAGE, "field", markdown(results))
    print(markdown(results))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
