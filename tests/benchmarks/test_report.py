"""Tables of the measuring script."""

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

MACHINE = {key: key for key in ("processor", "cores", "memory", "gpu", "system", "packages")}
FROM = {"machine": MACHINE, "date": "2026-01-02", "commit": "abc", "front_end": "geometric", "front_end_version": 7}
COST = {"wall_s": 12.4, "cpu_s": 20.0, "peak_mb": 900, **FROM}
RESULTS: dict[str, Any] = {
    "machine": MACHINE,
    "frontend/room": {
        **COST,
        **{"frames": 36, "size": "320x180", "ate_percent": 0.234, "focal_error": 0.014},
        **{"J": 0.597, "false_alarms": 0.0125},
    },
    "still/room": {**COST, "frames": 36, "size": "320x180", "ate_percent": 0.05, "marked": 0.021},
    "masks/a": {**COST, "frames": 5, "size": "64x48", "seconds_per_frame": 0.5, "J": 0.5},
    "masks/b": {"failed": 1, "log": "b.txt", "last": [], **FROM},
    "masks/c": {**COST, "frames": 5, "size": "64x48", "seconds_per_frame": 0.5, "J": 0.9},
    "plates/room/das3r-light": {**COST, "psnr_hidden": 25.0, "psnr_static": 27.9, "iterations_per_s": 3.0},
    "plates/room/das3r-light/plain": {**COST, "psnr_hidden": 18.5, "psnr_static": 28.0, "iterations_per_s": 3.0},
}


@pytest.fixture()
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("report")


def test_rows_hold_the_figures(report: ModuleType) -> None:
    frontend, masks, still, plates = report.sections(RESULTS)
    assert frontend.rows == [("room", "36", "320x180", "12", "20", "900", "-", "0.23", "1.4", "0.597", "1.25")]
    assert masks.rows[0] == ("a", "5", "64x48", "12", "20", "900", "-", "0.500", "-", "-", "-")
    assert still.rows == [("room", "36", "320x180", "12", "20", "900", "-", "2.10", "0.05", "-")]
    assert plates.rows == [
        ("room", "das3r-light", "25.00", "18.50", "+6.50", "27.90", "28.00", "-0.10", "3.00", "12", "900")
    ]
    assert len(report.sections({"machine": MACHINE})) == 0


def test_mean_leaves_failures_out_and_shows_them(report: ModuleType) -> None:
    masks = next(s for s in report.sections(RESULTS) if s.title == "Front end, other sets")
    assert masks.rows[1][3] == "failed"
    assert masks.rows[-1] == ("mean of 2", "", "", "", "", "", "", "0.700", "", "", "")


def test_every_table_says_where_it_comes_from(report: ModuleType) -> None:
    text = report.markdown(RESULTS)
    line = "Measured 2026-01-02. Commit: abc. Front end: geometric, version 7. Machine: processor, cores cores"
    assert text.count(line) == len(report.sections(RESULTS)) == 4


def test_the_page_keeps_what_is_outside_the_marks(report: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    page.write_text("before\n<!-- reach:begin -->\nold\n<!-- reach:end -->\nafter\n")
    for _ in range(2):
        report.update_between_marks(page, "reach", report.markdown(RESULTS))
    text = page.read_text()
    assert text.startswith("before\n<!-- reach:begin -->\n**Front end") and text.endswith("<!-- reach:end -->\nafter\n")
    assert "old" not in text and "| room | 36 | 320x180 | 12 | 20 | 900 | - | 0.23 | 1.4 | 0.597 | 1.25 |" in text
    page.write_text("no marks")
    with pytest.raises(SystemExit, match="reach:begin"):
        report.update_between_marks(page, "reach", report.markdown(RESULTS))


def test_what_was_measured_before_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    reach = importlib.import_module("reach")
    page, kept = tmp_path / "results.md", tmp_path / "results/reach.json"
    page.write_text("<!-- reach:begin -->\n<!-- reach:end -->\n")
    reach.keep(RESULTS, kept, page)
    light = {**COST, "wall_s": 300.0, "checkpoint_mb": 16.4}
    reach.keep({"machine": MACHINE, "light/room": light, "masks/a": {**RESULTS["masks/a"], "J": 0.75}}, kept, page)
    assert json.loads(kept.read_text()).keys() == {*RESULTS, "light/room"}
    text = page.read_text()
    assert "| room | 300 | 20 | 900 | 16.4 |" in text and "| 0.597 |" in text
    assert "| 0.750 |" in text and "| 0.500 |" not in text


def test_prints(report: ModuleType) -> None:
    console = Console(record=True, width=160)
    report.print_report(RESULTS, console)
    assert "0.597" in console.export_text()
