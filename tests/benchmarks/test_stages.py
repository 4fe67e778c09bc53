"""The table of what the front end's stages cost."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture()
def stages(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("stages")


def record(**seconds: float) -> dict[str, Any]:
    machine = dict.fromkeys(("processor", "cores", "memory", "gpu", "system", "packages"), "x")
    whence = {"date": "2026-01-01", "commit": "abc", "machine": machine, "front_end": "g", "front_end_version": 1}
    return {**whence, "frames": 10, "size": "512x288", "cpu_s": 12.0, "stages": seconds}


def test_what_is_in_no_stage_is_the_rest(stages: ModuleType) -> None:
    found = {"plaza/before": record(Cameras=6.0, Stereo=4.0), "plaza/now": record(Cameras=1.0)}
    lines = stages.markdown(found).splitlines()
    assert lines[-2] == (
        "| plaza, 10 frames, 512x288 | before | 0.0 | 6.0 | 0.0 | 0.0 | 0.0 | 4.0 | 0.0 | 2.0 | 12.0 | **1.20** |"
    )
    assert lines[-1].startswith("|  | now | 0.0 | 1.0 |") and "| 11.0 | 12.0 |" in lines[-1]


def test_the_page_shows_what_was_measured(stages: ModuleType) -> None:
    page = stages.PAGE.read_text().split("<!-- stages:begin -->\n")[1].split("\n<!-- stages:end -->")[0]
    assert page == stages.markdown(json.loads(stages.KEPT.read_text()))
