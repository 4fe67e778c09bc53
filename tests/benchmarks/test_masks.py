"""The table of rules and head, and what it says of the default."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

MACHINE = {key: key for key in ("processor", "cores", "memory", "gpu", "system", "packages")}
FROM = {"machine": MACHINE, "date": "2026-01-02", "commit": "abc", "front_end": "geometric", "front_end_version": 9}


def row(rules: float, head: float, still: tuple[float, float] | None = None) -> dict[str, Any]:
    figures = [{"J": j, "false_alarms": 0.01} for j in (rules, head)]
    for one, share in zip(figures, still or (), strict=False):
        one["still"] = share
    return {"frames": 24, "size": "9x5", "head_s": 0.04, "rules": figures[0], "head": figures[1], **FROM}


@pytest.fixture()
def masks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("masks")


def test_rows_and_means(masks: ModuleType) -> None:
    text = masks.table({"b": row(0.5, 0.6), "a": row(0.7, 0.69, (0.02, 0.005))})
    assert text.startswith("Measured 2026-01-02. Commit: abc.")
    assert text.index("| a | 24 | 9x5 | 0.700 | 0.690 | 1.00 | 1.00 | 2.00 | 0.50 |") < text.index("| b | 24 | 9x5 |")
    assert "| b | 24 | 9x5 | 0.500 | 0.600 | 1.00 | 1.00 | - | - |" in text
    assert "| **mean** | | | **0.600** | **0.645** | **1.00** | **1.00** | **2.00** | **0.50** |" in text
    assert "The head adds 0.040 CPU s a frame" in text


def test_says_whether_the_head_may_be_the_default(masks: ModuleType) -> None:
    better = {"a": row(0.7, 0.8, (0.02, 0.01)), "b": row(0.7, 0.68)}
    assert "by it is b (-0.020 J): it may be the default" in masks.table(better)
    for worse in (row(0.7, 0.66), row(0.7, 0.71, (0.0, 0.05)), row(0.9, 0.75)):
        assert "it stays an option" in masks.table({**better, "b": worse})
