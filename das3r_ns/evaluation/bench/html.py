"""One HTML page with everything in it: no network, no other file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jaxtyping import Float

from das3r_ns.evaluation.bench.config import BenchConfig, plain
from das3r_ns.evaluation.bench.tables import FRONT_END, PUBLISHED, Table, failures
from das3r_ns.evaluation.machine import machines_of
from das3r_ns.frontend.config import unset_front_end
from das3r_ns.page import figure, html_page

STYLE = """
tr.mean td{font-weight:600;border-top:2px solid #8a94a3}td.published,th.published{color:#68727f}
.tables{display:flex;flex-wrap:wrap;gap:1rem;margin:1rem 0}
.tables h4{max-width:18rem}
svg{display:block;border:1px solid #e2e6ec;border-radius:3px}
"""
OVERVIEWS = ("methods", "cost")
"""Tables that are not of one metric."""
COMMON = ("input", "mask over input")
"""Pictures that are the same for every method."""
PLOT = 300
"""Side of a trajectory plot, pixels."""
MARGIN = 18


def html_report(results: Mapping[str, Any], tables: Sequence[Table], notes: str, directory: Path) -> str:
    """The page.

    Args:
        results: As :func:`~das3r_ns.evaluation.bench.run.run_bench` gives them.
        tables: Of the figures.
        notes: How to read them.
        directory: The output folder, which the pictures' names are relative to.
    """
    parts = [
        f"<h1>das3r bench: {escape(results['protocol'])}</h1><p>{escape(results['description'])}</p>",
        f"<p class=note>Measured {escape(_dates(results))} with das3r {escape(results['das3r_version'])} on: "
        f"{escape('; '.join(machines_of(results)))}.</p>",
        f"<p class=note>Baselines and ablations follow {escape(results['base'])}. Options: "
        f"{escape(_options(results['options']))}.</p>",
        _links(results),
    ]
    if problems := failures(results):
        parts.append("<h2>What could not be measured</h2><ul>")
        parts += [f"<li class=failed>{escape(f'{s}, {name}: {reason}')}</li>" for s, name, reason in problems]
        parts.append("</ul>")
    overviews = [table for table in tables if table.key in OVERVIEWS]
    figures = [table for table in tables if table.key not in OVERVIEWS]
    parts.append("<h2 id=figures>Figures</h2>")
    parts += [_card(table) for table in overviews if table.key == "methods"]
    parts += ["<div class=tables>", *(_card(table) for table in figures), "</div>"]
    parts += [f"<p class=note>{escape(notes)}</p>", "<h2 id=pictures>Pictures</h2>"]
    parts += [_sequence(name, results["records"][name], directory) for name in results["sequences"]]
    parts.append("<h2 id=cost>Cost</h2>")
    parts += [_table(table) for table in overviews if table.key == "cost"]
    return html_page(f"das3r bench {results['protocol']}", parts, STYLE)


def _links(results: Mapping[str, Any]) -> str:
    places = [("figures", "Figures"), ("pictures", "Pictures")]
    places += [(_anchor(name), name) for name in results["sequences"]] + [("cost", "Cost")]
    return "<nav>" + "".join(f'<a href="#{place}">{escape(name)}</a>' for place, name in places) + "</nav>"


def _anchor(sequence: str) -> str:
    return "sequence-" + quote(sequence, safe="")


def _card(table: Table) -> str:
    return f"<section class=card><h4>{escape(table.title)}</h4>{_table(table)}</section>"


def _table(table: Table) -> str:
    published = [name == "published" or name.endswith(PUBLISHED) for name in table.columns]
    head = "".join(f"<th{_class(p)}>{escape(name)}</th>" for name, p in zip(table.columns, published, strict=True))
    body = []
    for number, row in enumerate(table.text_rows()):
        cells = "".join(
            "<td class=failed>failed</td>" if text == "failed" else f"<td{_class(p)}>{escape(text)}</td>"
            for text, p in zip(row, published, strict=True)
        )
        mean = " class=mean" if number == table.mean_row else ""
        body.append(f"<tr{mean}>{cells}</tr>")
    inside = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f"<div class=scroll>{inside}</div>"


def _class(published: bool) -> str:
    return " class=published" if published else ""


def _sequence(name: str, records: Mapping[str, Any], directory: Path) -> str:
    front_end = records.get(FRONT_END, {})
    kind = {"tripod": "from a tripod", "rotation": "from a camera that only turns"}.get(front_end.get("camera_kind"))
    parts = [f'<h3 id="{_anchor(name)}">{escape(name)}{f", {kind}" if kind else ""}</h3>']
    trajectory = front_end.get("trajectory")
    if trajectory:
        plot = trajectory_svg(np.array(trajectory["estimated"]), np.array(trajectory["truth"]))
        caption = "camera path from its flattest side: truth grey, estimate orange (Sim(3)-aligned)"
        parts.append(f"<figure>{plot}<figcaption>{caption}</figcaption></figure>")
    trained = {key: record for key, record in records.items() if key != FRONT_END and record.get("pictures")}
    frames: dict[str, list[tuple[str, str]]] = {}
    for key, record in (trained or {FRONT_END: front_end}).items():
        for shown in record.get("pictures", []):
            row = frames.setdefault(shown["frame"], [])
            for title, file in shown.items():
                common = title in COMMON
                label = title if common else f"{title}, {key}"
                if title != "frame" and not (common and any(label == known for known, _ in row)):
                    row.append((label, file))
    for frame, row in frames.items():
        shown_as = "held-out frame" if trained else "frame"
        parts.append(f"<p class=note>{shown_as} {escape(frame)}</p><div class=pictures>")
        # The renders of all methods beside each other, then what only some have.
        parts += [figure(directory / file, label) for label, file in sorted(row, key=_place)]
        parts.append("</div>")
    if not frames:
        parts.append("<p class=note>There is nothing to show.</p>")
    return "".join(parts)


def _place(labelled: tuple[str, str]) -> int:
    label = labelled[0]
    return COMMON.index(label) if label in COMMON else len(COMMON) + (not label.startswith("clean render"))


def trajectory_svg(estimated: Float[np.ndarray, "N 3"], truth: Float[np.ndarray, "N 3"]) -> str:
    """Both camera paths, seen along the direction in which the true one extends least.

    Args:
        estimated: Camera centres, aligned to the true ones.
        truth: True camera centres.
    """
    centre = truth.mean(axis=0)
    axes = np.linalg.svd(truth - centre, full_matrices=False)[2][:2]
    planes = [(points - centre) @ axes.T for points in (truth, estimated)]
    everything = np.concatenate(planes)
    low, extent = everything.min(axis=0), float(np.ptp(everything, axis=0).max()) or 1.0
    lines = []
    for plane, colour, width in zip(planes, ("#9aa3af", "#e8590c"), (5, 2), strict=True):
        pixels = MARGIN + (plane - low) / extent * (PLOT - 2 * MARGIN)
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in pixels)
        x, y = pixels[0]
        lines.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="{width}" points="{points}"/>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{width + 1}" fill="{colour}"/>'
        )
    height = MARGIN * 2 + float(np.ptp(everything[:, 1])) / extent * (PLOT - 2 * MARGIN)
    return f'<svg width="{PLOT}" height="{height:.0f}" role="img" aria-label="camera path">{"".join(lines)}</svg>'


def _options(options: Mapping[str, Any]) -> str:
    """Those that differ from the defaults, as they are typed."""
    standard = {field.name: field.default for field in dataclasses.fields(BenchConfig)}
    standard |= plain(dataclasses.asdict(unset_front_end()))
    given = {name: value for name, value in options.items() if name != "front_end"} | options.get("front_end", {})
    typed = [_typed(name, value) for name, value in given.items() if value != standard.get(name)]
    return ", ".join(typed) or "the defaults"


def _typed(name: str, value: Any) -> str:
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{option}" if value else f"--no-{option}"
    return f"--{option} {value}"


def _dates(results: Mapping[str, Any]) -> str:
    dates = sorted({r["date"] for records in results["records"].values() for r in records.values() if "date" in r})
    return " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "never"
