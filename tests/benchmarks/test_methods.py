"""The tables of held-out frames: cameras refined or given, COLMAP's, splatfacto, and what each setting costs."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest

from das3r_ns.evaluation.methods import METHODS
from das3r_ns.frontend.config import Cameras

ROOT = Path(__file__).parents[2]
STAMP: dict[str, Any] = {
    "machine": {key: key for key in ("processor", "cores", "memory", "gpu", "system", "packages")},
    "date": "2026-01-02",
    "commit": "abc1234",
    "front_end": "geometric",
    "front_end_version": 9,
    "frames": 24,
}


@pytest.fixture()
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("methods")


def trained(psnr: float, agreed: float | None = None, uncorrected: float | None = None) -> dict[str, Any]:
    figures = {"psnr_static": psnr, "psnr_agreed": agreed or psnr, "ssim": 0.9}
    given = {"psnr_static": uncorrected or psnr, "psnr_agreed": agreed or psnr}
    return {
        **STAMP,
        "figures": figures,
        "figures_given": given,
        "gaussians": 9000,
        "training_cpu_s": 41.2,
        "iterations": 1500,
    }


@pytest.fixture()
def records() -> dict[str, dict[str, Any]]:
    front_end = {**STAMP, "figures": {}, "camera_kind": "general"}
    return {
        "comp_fox": {
            "colmap-cameras": {**front_end, "colmap": {"registered": 24, "held": True}},
            "given": trained(30.0),
            "refined": trained(30.5, uncorrected=30.25),
            "colmap": trained(30.2),
        },
        "davis_car": {
            "colmap-cameras": {**front_end, "colmap": {"registered": 3, "held": False}},
            "given": trained(28.5, 33.0),
            "refined": trained(29.0, 33.5),
            "splatfacto": trained(31.0, 32.0),
            "no-depth": trained(28.9, 33.4),
            "degree-3": trained(29.1, 33.4),
        },
        "gone": {"refined": {**STAMP, "failed": True}},
    }


def test_what_is_gained_stands_in_the_tables(module: ModuleType, records: dict) -> None:
    lines = module.text(records).splitlines()
    fox = "| comp_fox | 24 | 30.00 | 30.50 | 30.25 | +0.50 | +0.50 | 24 of 24 | 30.20 | +0.30 | 0.900 / 0.900 / 0.900 |"
    assert fox in lines
    assert "| davis_car | 24 | 28.50 | 29.00 | 29.00 | +0.50 | +0.50 | 3 of 24 | - | - | 0.900 / 0.900 / - |" in lines
    assert "| **mean (sets)** |  |  |  |  | +0.50 (2) | +0.50 (2) |  |  | +0.30 (1) |  |" in lines
    beside = (
        "| davis_car | 24 | 29.00 | 31.00 | -2.00 | 33.50 | 32.00 | +1.50 | 0.900 | 0.900 | 9000 / 9000 | 36 / 36 |"
    )
    assert beside in lines
    assert "| no depth term | 28.90 | 33.40 | 28.90 | 33.40 | 0.900 | 9000 | 36 |" in lines
    assert "**davis_car: what costs what** (one change each)" in lines
    assert not any("gone" in line or "comp_fox: what" in line for line in lines)
    assert sum(line.startswith("Measured 2026-01-02. Commit: abc1234.") for line in lines) == 3


def test_nothing_measured_is_no_table(module: ModuleType, records: dict) -> None:
    assert module.text({"gone": records["gone"]}) == ""


def test_runs_are_those_that_the_bench_knows(module: ModuleType) -> None:
    assert all(run.method in METHODS and run.cameras in get_args(Cameras) for run in module.RUNS.values())
    assert {*module.USUAL, *module.ABLATED} == set(module.RUNS)


def test_unknown_runs_are_refused(module: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="No such run: refind"):
        module.measure(module.Arguments(data=tmp_path, runs=("refind",)), tmp_path, ["room"])


def test_what_is_kept_names_no_folder(module: ModuleType) -> None:
    record = {**STAMP, "failed": "/tmp/somewhere is gone", "pictures": [{"input": "/a.jpg"}], "problems": ["/b"]}
    assert module.kept("refined", record) == {**STAMP, "failed": True}


def test_what_was_measured_is_written(module: ModuleType) -> None:
    kept = json.loads(module.RESULTS.read_text())["records"]
    page = (ROOT / "docs/results.md").read_text()
    assert page.split("<!-- methods:begin -->\n")[1].split("\n<!-- methods:end -->")[0] == module.text(kept)
