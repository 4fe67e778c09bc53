"""The table of the front end on drawn clips."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture()
def drawn(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("drawn")


def record(ate: float, word: str, movers: list[str], **more: Any) -> dict[str, Any]:
    figures = {"focal_error": 0.02, "J": 0.8 if movers else None, "false_alarms": 0.01, "marked": 0.05, "cpu_s": 20.0}
    camera = {"camera_kind": "general", "ate_percent": ate, "path": 2.0, "verdict": {"word": word}}
    return {**figures, **camera, "drawn": {"camera": "walk", "movers": movers}, **more}


def test_a_row_says_how_good_cameras_are_and_what_the_verdict_misses(drawn: ModuleType) -> None:
    records = [
        record(0.1, "sound", ["ball across"]),
        record(2.0, "sound", ["ball across"], J=0.4),
        record(3.0, "doubtful", [], marked=0.002),
        record(50.0, "sound", ["ball across"], path=0.01),  # hardly moves: no percent of that
        record(0.0, "sound", ["ball across"], camera_kind="tripod", J=float("nan")),
    ]
    row = drawn.row("walk", records)
    assert row[:6] == ("walk", "5", "3", "2.00", "1 of 3", "2, 1")
    assert row[7:10] == ("0.667", "1.00", "0.20")
    assert drawn.row("none", [])[3:6] == ("-", "-", "-")
