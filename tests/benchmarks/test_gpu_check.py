"""The check of a GPU, as far as it goes without one."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_check.py"


@pytest.fixture(scope="module")
def check() -> ModuleType:
    """The script."""
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_check"] = module
    spec.loader.exec_module(module)
    return module


def test_parts_measure_what_they_say(check, tmp_path: Path) -> None:
    arguments = check.Arguments(tmp_path, dry=True)
    for found in check.ssim(arguments).values():
        assert abs(found["value_off"]) < 1e-6 and found["gradient_off"] < 1e-4
    found = check.rasterisers(arguments)
    assert found["picture_off_most"] == 0 and set(found["gradients_off"].values()) == {0.0}
    check.main(check.Arguments(tmp_path, dry=True, part="build"))
    assert "skipped" in json.loads((tmp_path / "build.json").read_text())


def test_a_part_that_fails_or_comes_too_late_leaves_the_others_alone(check, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(tmp_path), "--dry", "--steps", "many"])
    monkeypatch.setattr(check, "PARTS", {check.build: 60, check.ssim: 0})
    check.main(check.Arguments(tmp_path, dry=True))
    results = json.loads((tmp_path / "results.json").read_text())
    assert any("--steps" in line for line in results["build"]["failed"])
    assert results["ssim"]["failed"] == ["not done after 0 s"]
