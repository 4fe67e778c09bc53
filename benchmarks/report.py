"""Tables of what reach.py measured, for the terminal and for docs/results.md."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from provenance import provenance_line
from rich.console import Console
from rich.table import Table as RichTable

from das3r_ns.evaluation.machine import machine_line

Results = dict[str, Any]

COST = ("wall s", "CPU s", "peak MB")


@dataclass
class Section:
    """One table with what it aims at."""

    title: str
    aim: str
    prefix: str
    """Of the keys of the results that it shows."""
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)


def print_report(results: Results, console: Console) -> None:
    """Print every table that has a row, and the machine."""
    console.print(f"\n[bold]Machine[/bold]  {machine_line(results['machine'])}")
    for section in sections(results):
        shown = RichTable(*section.columns, title=section.title, caption=section.aim, title_justify="left")
        for row in section.rows:
            shown.add_row(*row)
        console.print(shown)


def update_between_marks(path: Path, name: str, markdown: str) -> None:
    """Replace what stands between the marks ``<!-- name:begin -->`` and ``<!-- name:end -->`` of a Markdown file.

    Raises:
        SystemExit: The marks are not there.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    text = path.read_text()
    if begin not in text or end not in text:
        raise SystemExit(f"{path} has no {begin} ... {end}.")
    before, after = text.split(begin)[0], text.split(end)[1]
    path.write_text(f"{before}{begin}\n{markdown}\n{end}{after}")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows)]


def markdown(results: Results) -> str:
    """The tables as Markdown, each with where its figures come from."""
    lines: list[str] = []
    for section in sections(results):
        shown = [record for _, record in _of(results, section.prefix)]
        lines += [f"**{section.title}** ({section.aim})", "", provenance_line(shown), ""]
        lines += [*table(section.columns, section.rows), ""]
    return "\n".join(lines).strip()


def sections(results: Results) -> list[Section]:
    """All tables that have a row."""
    made = [
        _frontend(results),
        _masks(results),
        _still(results),
        _plates(results, "plates"),
        _light(results),
        _bad_input(results),
    ]
    made += [_plates(results, "gpu"), _rasterizer(results)]
    return [section for section in made if section.rows]


def _of(results: Results, prefix: str) -> list[tuple[str, Results]]:
    """Measurements whose key starts with ``prefix``, by what follows it."""
    return [(key.removeprefix(prefix), value) for key, value in sorted(results.items()) if key.startswith(prefix)]


def _number(record: Results, key: str, digits: int, factor: float = 1.0) -> str:
    if "failed" in record:
        return "failed"
    return f"{record[key] * factor:.{digits}f}" if key in record else "-"


def _cost(record: Results) -> tuple[str, ...]:
    return (_number(record, "wall_s", 0), _number(record, "cpu_s", 0), _number(record, "peak_mb", 0))


def _frontend(results: Results) -> Section:
    section = Section(
        "Front end, sets with true cameras",
        "aims: 40 frames of 480x270 under 180 s, memory under 8000 MB, ATE at most 2 % of the path, focal within 10 %, "
        "J at least 0.70",
        "frontend/",
        ("set", "frames", "size", *COST, "camera", "ATE %", "focal error %", "J", "false alarms %"),
    )
    for name, r in _of(results, "frontend/"):
        truth = (_number(r, "ate_percent", 2), _number(r, "focal_error", 1, 100), _number(r, "J", 3))
        truth += (_number(r, "false_alarms", 2, 100),)
        section.rows.append(
            (name, str(r.get("frames")), r.get("size", "-"), *_cost(r), r.get("camera_kind", "-"), *truth)
        )
    return section


def _masks(results: Results) -> Section:
    section = Section(
        "Front end, other sets",
        "aims: mean J over the davis sets at least 0.66, none under 0.40",
        "masks/",
        ("set", "frames", "size", *COST, "camera", "J", "F", "recall", "false alarms %"),
    )
    records = _of(results, "masks/")
    for name, r in records:
        scores = (_number(r, "J", 3), _number(r, "F", 3), _number(r, "recall", 2), _number(r, "false_alarms", 2, 100))
        section.rows.append(
            (name, str(r.get("frames")), r.get("size", "-"), *_cost(r), r.get("camera_kind", "-"), *scores)
        )
    judged = [r["J"] for _, r in records if "J" in r]
    if judged:
        section.rows.append((f"mean of {len(judged)}", *[""] * 6, f"{mean(judged):.3f}", *[""] * 3))
    return section


def _still(results: Results) -> Section:
    section = Section(
        "Films in which nothing moves: the clean plates of a set as the video",
        "aim: under 1 % of the picture marked",
        "still/",
        ("set", "frames", "size", *COST, "camera", "marked %", "ATE %", "focal error %"),
    )
    for name, r in _of(results, "still/"):
        figures = (_number(r, "marked", 2, 100), _number(r, "ate_percent", 2), _number(r, "focal_error", 1, 100))
        section.rows.append(
            (name, str(r.get("frames")), r.get("size", "-"), *_cost(r), r.get("camera_kind", "-"), *figures)
        )
    return section


def _plates(results: Results, part: str) -> Section:
    section = Section(
        "Clean plates, dB at the training cameras" + (", on the GPU" if part == "gpu" else ""),
        "hidden: under the true mask but seen static in some frame; static: away from it. Aims: hidden at least 20 and "
        "5 above plain splatfacto, static at most 0.2 below",
        f"{part}/",
        ("set", "method", "hidden", "plain", "gain", "static", "plain", "gain", "it/s", "wall s", "peak MB"),
    )
    for name, r in _of(results, f"{part}/"):
        plain = results.get(f"{part}/{name}/plain")
        if plain is None:
            continue
        figures: list[str] = []
        for key in ("psnr_hidden", "psnr_static"):
            figures += [_number(r, key, 2), _number(plain, key, 2)]
            figures.append(f"{r[key] - plain[key]:+.2f}" if key in r and key in plain else "-")
        end = (_number(r, "iterations_per_s", 2), _number(r, "wall_s", 0), _number(r, "peak_mb", 0))
        set_name, method = name.split("/")
        section.rows.append((set_name, method, *figures, *end))
    return section


def _light(results: Results) -> Section:
    section = Section(
        "ns-train das3r-light from video to checkpoint, start-up and front end included",
        "aim: 40 frames of 480x270 under 900 s",
        "light/",
        ("set", "wall s", "CPU s", "peak MB", "checkpoint MB"),
    )
    section.rows = [(name, *_cost(r), _number(r, "checkpoint_mb", 1)) for name, r in _of(results, "light/")]
    return section


def _bad_input(results: Results) -> Section:
    section = Section(
        "Bad input to ns-train das3r-light",
        "aims: under 20 s, an exit code that is not 0, no traceback",
        "bad-input/",
        ("case", "wall s", "CPU s", "exit code", "traceback", "said"),
    )
    for name, r in _of(results, "bad-input/"):
        traceback = "yes" if r.get("traceback") else "no"
        section.rows.append(
            (name, *_cost(r)[:2], str(r.get("exit_code", "-")), traceback, _without_folders(r.get("said", "-")))
        )
    return section


def _rasterizer(results: Results) -> Section:
    aim = "the CPU kernels against gsplat's CUDA ones on the same Gaussians"
    section = Section("Rasteriser", aim, "gpu/rasterizer", ("printed",))
    record = results.get("gpu/rasterizer", {})
    section.rows = [(line.strip(),) for line in record.get("printed", [])]
    return section


def _without_folders(message: str) -> str:
    """The message with the last name alone of every absolute path: what is above it is this machine's affair."""
    return re.sub(r"(?<![\w.-])/(?:[\w.-]+/)+", "", message)
