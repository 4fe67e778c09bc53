"""The table of our own cameras beside COLMAP's."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
STAMP: dict[str, Any] = {
    "machine": {key: key for key in ("processor", "cores", "memory", "gpu", "system", "packages")},
    "date": "2026-01-02",
    "commit": "abc1234",
    "front_end": "geometric",
    "front_end_version": 6,
    "camera_kind": "general",
    "frames": 24,
}


@pytest.fixture()
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("cameras")


def cameras(seconds: float, registered: int | None = None, held: bool = True, **figures: float) -> dict[str, Any]:
    colmap = None if registered is None else {"registered": registered, "held": held}
    return {**STAMP, "seconds": {"Cameras": seconds}, "figures": figures, "colmap": colmap}


@pytest.fixture()
def records() -> dict[str, dict[str, Any]]:
    return {
        "fox": {
            "own": cameras(30, ate_percent=0.0631, rpe_r=0.0123, focal_error=0.0068, J=0.9),
            "colmap": cameras(70, 24, ate_percent=0.0484, rpe_r=0.0101, focal_error=0.003, J=0.91),
        },
        "pan": {"own": cameras(30, J=0.5), "colmap": cameras(40, 3, held=False, J=0.5)},
        "gone": {"own": {**STAMP, "failed": True}},
    }


def test_a_row_for_each_kind_of_cameras(module: ModuleType, records: dict) -> None:
    lines = module.text(records).splitlines()
    assert "| fox | 24 | own | - | 0.063 | 0.012 | 0.7 | 0.900 | 30 |" in lines
    assert "| fox | 24 | COLMAP | 24 | 0.048 | 0.010 | 0.3 | 0.910 | 100 |" in lines
    assert "| pan | 24 | COLMAP | 3, ours stay | - | - | - | 0.500 | 70 |" in lines
    assert "| gone | - | own | failed | - | - | - | - | - |" in lines
    assert "abc1234" in lines[0] and "geometric, version 6" in lines[0] and "2026-01-02" in lines[0]


def test_only_what_colmap_registers_whole_is_trained_on(module: ModuleType, records: dict) -> None:
    assert [name for name in records if module.all_registered(records[name].get("colmap", {}))] == ["fox"]


def test_the_table_replaces_itself_and_nothing_else(module: ModuleType, records: dict, tmp_path: Path) -> None:
    page = tmp_path / "docs/results.md"
    module.write_table(page, "one")
    page.write_text(page.read_text() + "\n## Something else\n")
    module.write_table(page, module.text(records))
    text = page.read_text()
    assert text.count("<!-- cameras:begin -->") == 1 and "one" not in text.splitlines()
    assert "| fox | 24 | own |" in text and text.endswith("## Something else\n")


def test_what_is_kept_names_no_folder(module: ModuleType) -> None:
    record = {**STAMP, "failed": "/tmp/somewhere is gone", "pictures": [{"input": "/a.jpg"}], "problems": ["/b"]}
    assert module.kept(record) == {**STAMP, "failed": True}


def test_sets_and_clips_are_found(module: ModuleType, tmp_path: Path) -> None:
    for folder in ("sets/a", "sets/b", "hill_6m/truth"):
        (tmp_path / folder / "frames").mkdir(parents=True)
    arguments = module.Arguments(data=tmp_path / "sets", clips=(tmp_path / "hill_6m/truth",))
    assert module.linked_sets(arguments, tmp_path / "links") == ["a", "b", "hill_6m"]
    assert module.linked_sets(arguments, tmp_path / "links") == ["a", "b", "hill_6m"]
    assert (tmp_path / "links/hill_6m").resolve() == tmp_path / "hill_6m/truth"
    with pytest.raises(SystemExit, match="No such set: c"):
        module.linked_sets(module.Arguments(data=tmp_path / "sets", sets=("c",)), tmp_path / "links")
