"""Records as tables: one per metric with the published rows beside ours, the methods side by side, and the cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from das3r_ns.evaluation.methods import METHODS
from das3r_ns.evaluation.protocols import Protocol, PublishedRow

FRONT_END = "front-end"
"""Key of the front end among the records of a sequence."""
PUBLISHED = ", published"
"""Ends the name of somebody else's method."""
Cell = float | str | None
"""A figure, a word in its place (failed), or nothing."""


@dataclass(frozen=True)
class Metric:
    """A figure of merit."""

    key: str
    title: str
    digits: int
    front_end: bool = False
    """Whether it belongs to the front end and not to a trained method."""
    held_out: bool = False
    """Whether it is of held-out frames, and so also known with refined cameras."""


METRICS = (
    Metric("J", "Masks: J, intersection over union of what moves (higher is better)", 3, front_end=True),
    Metric("F", "Masks: F, agreement of the outlines (higher is better)", 3, front_end=True),
    Metric("recall", "Masks: recall, share of frames with J above 0.5 (higher is better)", 3, front_end=True),
    Metric("ate", "Cameras: ATE after Sim(3), in the unit of the set (lower is better)", 4, front_end=True),
    Metric("ate_percent", "Cameras: ATE in percent of the path (lower is better)", 2, front_end=True),
    Metric("rpe_t", "Cameras: RPE, translation from frame to frame (lower is better)", 4, front_end=True),
    Metric("rpe_r", "Cameras: RPE, rotation from frame to frame, degrees (lower is better)", 3, front_end=True),
    Metric("focal_error", "Cameras: relative error of the focal (lower is better)", 3, front_end=True),
    Metric("psnr_paper", "psnr_paper of held-out frames, dB (higher is better)", 2, held_out=True),
    Metric("psnr_static", "psnr_static of held-out frames, dB (higher is better)", 2, held_out=True),
    Metric("psnr_agreed", "psnr_agreed of held-out frames, dB (higher is better)", 2, held_out=True),
    Metric("ssim", "SSIM of held-out frames, static pixels (higher is better)", 3, held_out=True),
    Metric("lpips", "LPIPS of held-out frames, static pixels (lower is better)", 3, held_out=True),
    Metric("plate_psnr_hidden", "Clean plate: PSNR where something moved, seen in another frame, dB", 2),
    Metric("plate_psnr_static", "Clean plate: PSNR where nothing moved, dB", 2),
)


@dataclass
class Table:
    """Rows of figures under a title."""

    key: str
    title: str
    columns: list[str]
    digits: list[int]
    """Of each column but the first."""
    rows: list[tuple[str, list[Cell]]] = field(default_factory=list)
    mean_row: int | None = None
    """Which row is the mean of those above it. Below it stand published means without figures of their own above."""

    def text(self, column: int, cell: Cell) -> str:
        """A cell as it is shown; ``column`` counts from the first figure."""
        if cell is None:
            return "-"
        return cell if isinstance(cell, str) else f"{cell:.{self.digits[column]}f}"

    def text_rows(self) -> list[list[str]]:
        """All rows as they are shown."""
        return [[name, *(self.text(i, cell) for i, cell in enumerate(cells))] for name, cells in self.rows]


def make_tables(results: Mapping[str, Any], protocol: Protocol) -> list[Table]:
    """Every table that has a figure in it.

    Args:
        results: As :func:`~das3r_ns.evaluation.bench.run.run_bench` gives them.
        protocol: Whose published figures stand beside ours.
    """
    tables = [metric_table(metric, results, protocol) for metric in METRICS]
    return [table for table in (*tables, side_by_side(results), cost_table(results)) if table is not None]


def metric_table(metric: Metric, results: Mapping[str, Any], protocol: Protocol) -> Table | None:
    """Sequences below each other; our methods and the published ones beside each other; the mean at the end.

    Of published methods whose figures for single sequences are not known, a row below the mean holds theirs.
    """
    ours = _columns(metric, results)
    records = results["records"]
    sequences = [s for s in results["sequences"] if any(get(records[s], metric.key) is not None for _, get in ours)]
    if not any(isinstance(get(records[s], metric.key), float) for s in sequences for _, get in ours):
        return None
    all_published = protocol.published_rows(metric.key, sequences)
    published = [row for row in all_published if any(sequence in row.values for sequence in sequences)]
    rest = [row for row in all_published if row not in published and row.mean is not None]
    names = [name for name, _ in ours] + [f"{row.name}{PUBLISHED}" for row in published]
    names += ["published"] if rest else []
    empty: list[Cell] = [None] if rest else []
    table = Table(metric.key, metric.title, ["sequence", *names], [metric.digits] * len(names))
    cells = {s: [get(records[s], metric.key) for _, get in ours] for s in sequences}
    for sequence in sequences:
        guessed = metric.held_out and any(r.get("masks") == "front end" for r in records[sequence].values())
        label = f"{sequence} *" if guessed else sequence
        table.rows.append((label, cells[sequence] + [row.values.get(sequence) for row in published] + empty))
    means = [_mean([cells[s][k] for s in sequences], metric.digits) for k in range(len(ours))]
    everything = list(protocol.splats.sequences if metric.held_out else protocol.front_end.sequences)
    means += [_published_mean(row, sequences, everything, metric.digits) for row in published]
    table.mean_row = len(table.rows)
    table.rows.append((f"mean of {len(sequences)}", means + empty))
    for row in rest:
        mean_of = _published_mean(row, sequences, everything, metric.digits)
        table.rows.append((f"{row.name}{PUBLISHED}", [None] * (len(names) - 1) + [mean_of]))
    return table


def side_by_side(results: Mapping[str, Any]) -> Table | None:
    """Methods below each other: means over the sequences that all of them could do, and the gain over the baseline."""
    metrics = [metric for metric in METRICS if not metric.front_end]
    records = results["records"]
    done = {m: {s for s in results["sequences"] if "figures" in records[s].get(m, {})} for m in results["methods"]}
    methods = [method for method in results["methods"] if done[method]]
    if len(methods) < 2:
        return None
    common = [s for s in results["sequences"] if all(s in done[method] for method in methods)]
    if not common:
        return None

    def value(method: str, key: str) -> float | None:
        figures = [records[s][method]["figures"].get(key) for s in common]
        known = [figure for figure in figures if figure is not None]
        return mean(known) if known else None

    metrics = [metric for metric in metrics if any(value(method, metric.key) is not None for method in methods)]
    baseline = next((method for method in ("splatfacto", *methods) if method in methods), methods[0])
    names = [metric.key for metric in metrics] + [f"psnr_static over {baseline}"]
    over = f"means over the {len(common)} sequences that all of them did" if len(common) > 1 else common[0]
    title = f"Methods side by side (what each adds): {over}"
    table = Table("methods", title, ["method", *names], [*(m.digits for m in metrics), 2])
    reference = value(baseline, "psnr_static")
    for method in methods:
        own = value(method, "psnr_static")
        gain = None if own is None or reference is None else f"{own - reference:+.2f}"
        label = f"{method}: {METHODS[method].description}" if method in METHODS else method
        table.rows.append((label, [*(value(method, metric.key) for metric in metrics), gain]))
    return table


def cost_table(results: Mapping[str, Any]) -> Table | None:
    """Seconds per stage and peak memory of every measurement."""
    columns = [
        "sequence and method",
        "frames",
        "front end s",
        "training s",
        "rest s",
        "steps/s",
        "peak MB",
        "GPU peak MB",
    ]
    table = Table("cost", "Cost", columns, [0, 1, 1, 1, 2, 0, 0])
    for sequence in results["sequences"]:
        for name, record in results["records"][sequence].items():
            if "failed" in record:
                continue
            seconds = record.get("seconds", {})
            stages = (
                [float(sum(seconds.values())), None, None]
                if name == FRONT_END
                else [seconds.get(stage) for stage in ("front end", "training", "rest")]
            )
            memory = [record.get("peak_mb"), record.get("gpu_peak_mb")]
            row: list[Cell] = [record.get("frames"), *stages, record.get("iterations_per_s"), *memory]
            table.rows.append((f"{sequence}, {name}", row))
    return table if table.rows else None


def failures(results: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Sequence, method and reason of everything that could not be measured."""
    found = []
    for sequence, records in results["records"].items():
        for name, record in records.items():
            reasons = [record["failed"]] if "failed" in record else record.get("problems", [])
            found += [(sequence, name, reason) for reason in reasons]
    return found


Getter = Callable[[Mapping[str, Any], str], Cell]


def _columns(metric: Metric, results: Mapping[str, Any]) -> list[tuple[str, Getter]]:
    """Our columns of a metric: name and how to read a sequence's records."""
    if metric.front_end:
        named = {r[FRONT_END].get("front_end") for r in results["records"].values() if FRONT_END in r} - {None}
        return [(f"das3r ({', '.join(sorted(named)) or 'front end'})", _getter(FRONT_END, "figures"))]
    columns = [(name, _getter(name, "figures")) for name in results["methods"]]
    if metric.held_out and results["options"].get("refine_test_poses"):
        refined = [(f"{name}, cameras refined", _getter(name, "figures_refined")) for name in results["methods"]]
        columns = [column for pair in zip(columns, refined, strict=True) for column in pair]
    return columns


def _getter(name: str, part: str) -> Getter:
    def get(records: Mapping[str, Any], key: str) -> Cell:
        record = records.get(name)
        if record is None:
            return None
        return "failed" if "failed" in record else (record.get(part) or {}).get(key)

    return get


def _mean(cells: list[Cell], digits: int) -> Cell:
    known = [cell for cell in cells if isinstance(cell, float) and math.isfinite(cell)]
    if not known:
        return None
    return mean(known) if len(known) == len(cells) else f"{mean(known):.{digits}f} ({len(known)})"


def _published_mean(row: PublishedRow, sequences: list[str], everything: list[str], digits: int) -> Cell:
    """Over our sequences where their figures are published; else the mean over all of the protocol, saying so."""
    if sequences and all(sequence in row.values for sequence in sequences):
        return mean(row.values[sequence] for sequence in sequences)
    if row.mean is None or set(everything) == set(sequences):
        return row.mean
    return f"{row.mean:.{digits}f} (all)"
