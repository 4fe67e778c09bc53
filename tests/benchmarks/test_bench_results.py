"""The tables of das3r bench in the README and on the page for nerfstudio: what stands there is what was measured."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MACHINE = {key: key for key in ("processor", "cores", "memory", "gpu", "system", "packages")}
COMMON: dict[str, Any] = {"machine": MACHINE, "date": "2026-01-02", "front_end": "geometric"}


def trained(iterations: int, masks: str = "truth", **figures: float) -> dict[str, Any]:
    return {**COMMON, "iterations": iterations, "masks": masks, "figures": figures}


@pytest.fixture()
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("bench_results")


@pytest.fixture()
def results() -> list[dict[str, Any]]:
    front_end = {**COMMON, "frames": 60, "camera_kind": "general", "figures": {"J": 0.8851, "focal_error": 0.0142}}
    long = {
        "davis_dog": {
            "front-end": front_end,
            "das3r-light": trained(4000, psnr_paper=29.2, psnr_static=28.7, ssim=0.84),
            "splatfacto": trained(4000, psnr_paper=20.0),
        },
        "davis_goat": {"das3r-light": {"failed": "no frames", **COMMON}},
    }
    short = {
        "davis_dog": {"das3r-light": trained(100, psnr_paper=10.0)},
        "clip": {"das3r-light": trained(100, "front end")},
    }
    return [{"records": long, "machine": MACHINE}, {"records": short, "machine": MACHINE}]


def test_more_steps_count_and_failures_do_not(module: ModuleType, results: list) -> None:
    records = module.all_records(results)
    assert records["davis_dog"]["das3r-light"]["iterations"] == 4000
    assert records["davis_goat"] == {}


def test_ours_stands_beside_what_was_published(module: ModuleType, results: list) -> None:
    text = module.readme_text(results)
    assert "| davis_dog | 29.20 | 28.63 | 24.41 | 28.70 | 0.840 | 4000 |" in text
    assert "| clip * | - | - | - | - | - | 100 |" in text
    assert "| **mean of the 1 published** | **29.20** | **28.63** | **24.41** |" in text
    assert "| davis_dog | 60 | general | 0.885 | - | - | - | 1.4 | - | - |" in text
    assert "| davis_dog | splatfacto: " in text
    assert "2026-01-02" in text and "geometric" in text


def test_every_figure_on_the_page_says_where_it_comes_from(module: ModuleType, results: list) -> None:
    rows = module.page_text(results).splitlines()[2:]
    assert all("geometric; 2026-01-02" in row for row in rows) and len(rows) == 2


@pytest.mark.parametrize(
    ("file", "mark", "text"),
    [("README.md", "bench", "readme_text"), ("docs/nerfstudio/das3r.md", "results", "page_text")],
)
def test_what_is_written_is_what_was_measured(module: ModuleType, file: str, mark: str, text: str) -> None:
    """Nobody has changed a figure by hand, and no new result was forgotten."""
    written = (ROOT / file).read_text().split(f"<!-- {mark}:begin -->\n")[1].split(f"\n<!-- {mark}:end -->")[0]
    assert written == getattr(module, text)(module.load_results(module.RESULTS))


def test_results_name_no_folders_of_a_machine() -> None:
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        assert '"/' not in path.read_text()
