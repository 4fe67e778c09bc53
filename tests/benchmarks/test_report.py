"""Tables of the measuring script."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

MACHINE = {key: key for key in ("processor", "cores", "memory", "gpu", "system", "packages")}
COST = {"wall_s": 12.4, "cpu_s": 20.0, "peak_mb": 900}
RESULTS: dict[str, Any] = {
    "machine": MACHINE,
    "frontend/room": {**COST, "frames": 36, "size": "320x180", "ate_percent": 0.234, "focal_error": 0.014, "J": 0.597},
    "masks/a": {**COST, "frames": 5, "size": "64x48", "seconds_per_frame": 0.5, "J": 0.5},
    "masks/b": {"failed": 1, "log": "b.txt", "last": []},
    "masks/c": {**COST, "frames": 5, "size": "64x48", "seconds_per_frame": 0.5, "J": 0.9},
    "plates/room/das3r-light": {**COST, "psnr_hidden": 25.0, "psnr_static": 27.9, "iterations_per_s": 3.0},
    "plates/room/das3r-light/plain": {**COST, "psnr_hidden": 18.5, "psnr_static": 28.0, "iterations_per_s": 3.0},
}


@pytest.fixture(scope="module")
def report() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "report.py"
    spec = importlib.util.spec_from_file_location("reach_report", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses looks itself up there
    spec.loader.exec_module(module)
    return module


def test_rows_hold_the_figures(report: ModuleType) -> None:
    frontend, masks, plates = report.sections(RESULTS)
    assert frontend.rows == [("room", "36", "320x180", "12", "20", "900", "-", "0.23", "1.4", "0.597")]
    assert masks.rows[0] == ("a", "5", "64x48", "0.50", "900", "-", "0.500")
    assert plates.rows == [
        ("room", "das3r-light", "25.00", "18.50", "+6.50", "27.90", "28.00", "-0.10", "3.00", "12", "900")
    ]
    assert len(report.sections({"machine": MACHINE})) == 0


def test_mean_leaves_failures_out_and_shows_them(report: ModuleType) -> None:
    masks = next(s for s in report.sections(RESULTS) if s.title == "Front end, other sets")
    assert masks.rows[1][3] == "failed"
    assert masks.rows[-1] == ("mean of 2", "", "", "", "", "", "0.700")


def test_readme_keeps_what_is_outside_the_marks(report: ModuleType, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- reach:begin -->\nold\n<!-- reach:end -->\nafter\n")
    for _ in range(2):
        report.update_between_marks(readme, "reach", report.markdown(RESULTS))
    text = readme.read_text()
    assert text.startswith("before\n<!-- reach:begin -->\nMachine") and text.endswith("<!-- reach:end -->\nafter\n")
    assert "old" not in text and "| room | 36 | 320x180 | 12 | 20 | 900 | - | 0.23 | 1.4 | 0.597 |" in text
    readme.write_text("no marks")
    with pytest.raises(SystemExit, match="reach:begin"):
        report.update_between_marks(readme, "reach", report.markdown(RESULTS))


def test_prints(report: ModuleType) -> None:
    console = Console(record=True, width=160)
    report.print_report(RESULTS, console)
    assert "0.597" in console.export_text()
