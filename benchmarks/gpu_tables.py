"""The tables of docs/results.md on a GPU, from what gpu_check.py wrote: ``python benchmarks/gpu_tables.py``.

benchmarks/results/gpu.json holds the runs: the ``results.json`` of each as ``parts``, with date, commit, front end and
machine.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from provenance import provenance_line
from report import table, update_between_marks

ROOT = Path(__file__).parents[1]
TRAINED = {"demo": "`das3r demo`", "video": "davis_horsejump-high"}


def rasteriser(parts: dict[str, Any]) -> list[str]:
    """gsplat's kernels against those for the CPU, how long they take, and the SSIM term."""
    same, ssim, verdict = parts["rasterisers"], parts["ssim"], "passed" if parts["contract"]["passed"] else "failed"
    rows = [
        ["tests of the rasteriser's contract, gsplat's own kernels included", verdict],
        ["100,000 Gaussians at 960x540: largest difference of a pixel", f"{same['picture_off_most']:.4f}"],
        ["the same: largest relative difference of a gradient", f"{max(same['gradients_off'].values()):.1e}"],
        ["the same, forwards and backwards: CPU of 16 cores, GPU", f"{same['cpu_ms']:.0f} ms, {same['ms']:.1f} ms"],
    ]
    for name, times in parts["many"].items():
        if isinstance(times, dict):
            count, size = name.split(", ")
            told = f"{times['forward_ms']:.1f} ms, {times['backward_ms']:.1f} ms"
            rows.append([f"{int(count):,} Gaussians at {size.replace(' ', '')}: forwards, backwards", told])
    off = ", ".join(f"{ssim[name]['gradient_off']:.1e}" for name in ("tf32_false", "tf32_true"))
    rows.append(["relative error of the gradient of the SSIM term, TF32 forbidden and allowed", off])
    return table(("what", "found"), rows)


def training(runs: list[dict[str, Any]]) -> list[str]:
    """Front end, training and clean plates of each run; a dash is what a run did not get to."""
    columns = ("commit", "video", "front end s", "training at", "steps", "training s", "steps/s", "Gaussians",
               "launches a step", "waits a step", "GPU GB", "clean plates s")  # fmt: skip
    rows = []
    for run in runs:
        for part, name in TRAINED.items():
            one = run["parts"][part]
            known = "train_s" in one
            rows.append([
                run["commit"], f"{name}, {one['frames']} frames", f"{one['setup_s']:.0f}", one["size"],
                str(one["steps"]) if known else "-", f"{one['train_s']:.1f}" if known else "-",
                f"{one['steady_steps_per_s']:.1f}" if known else "-", f"{one['gaussians']:,}" if known else "-",
                f"{one['launches_per_step']:.0f}", f"{one['waits_per_step']:.0f}" if known else "-",
                f"{one['cost']['gpu_peak_mb'] / 1000:.1f}" if known else "-",
                f"{one['clean_plates_s']:.1f}" if known else "-",
            ])  # fmt: skip
    return table(columns, rows)


def stages(runs: list[dict[str, Any]]) -> list[str]:
    """Seconds of the front end by stage."""
    columns, named = [], list(runs[0]["parts"]["video"]["front_end_s"])
    for run in runs:
        for part, name in TRAINED.items():
            columns.append((f"{name}, {run['commit']}", run["parts"][part]["front_end_s"]))
    numba = runs[0]["parts"]["demo"]["front_end_numba_s"]
    columns.insert(1, (f"{TRAINED['demo']}, dense kernels on the CPU", numba))
    rows = [[stage, *(f"{seconds.get(stage, 0):.1f}" for _, seconds in columns)] for stage in named]
    rows.append(["all", *(f"{sum(seconds.values()):.0f}" for _, seconds in columns)])
    return table(("stage", *(name for name, _ in columns)), rows)


def kernels(parts: dict[str, Any]) -> list[str]:
    """The front end's dense kernels, numba on all cores against torch."""
    rows = []
    for name, found in parts["kernels"].items():
        if isinstance(found, dict):
            shares = [one["share_above_1e-3"] for one in found["apart"].values()]
            told = f"{100 * max(shares):.3f}" if shares else "-"  # compared by a scale that was next to nothing
            rows.append([name, f"{found['cpu_ms']:.0f}", f"{found['ms']:.0f}", told])
    return table(("kernel", "16 cores, ms a frame", "GPU, ms a frame", "values more than 0.001 apart, %"), rows)


def load_results() -> list[dict[str, Any]]:
    """The runs."""
    return json.loads((ROOT / "benchmarks/results/gpu.json").read_text())["runs"]


def markdown(runs: list[dict[str, Any]]) -> str:
    """All tables, with what they were measured on."""
    first = runs[0]["parts"]
    tables = (rasteriser(first), training(runs), stages(runs), kernels(first))
    return "\n\n".join([provenance_line(runs), *("\n".join(rows) for rows in tables)])


if __name__ == "__main__":
    update_between_marks(ROOT / "docs/results.md", "gpu", markdown(load_results()))
