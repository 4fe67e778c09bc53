"""The tables of docs/results.md and of the page for nerfstudio: what stands there is what was measured."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MACHINE = {key: key for key in ("processor", "cores", "memory", "gpu", "system", "packages")}
COMMON: dict[str, Any] = {
    "machine": MACHINE,
    "date": "2026-01-02",
    "commit": "abc1234",
    "front_end": "geometric",
    "front_end_version": 7,
    "cpu_s": 12.3,
    "peak_mb": 900,
}


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
    text = module.bench_text(results)
    assert "| davis_dog | 29.20 | 28.63 | 24.41 | 28.70 | 0.840 | 4000 | geometric 7 |" in text
    assert "| clip * | - | - | - | - | - | 100 | geometric 7 |" in text
    assert "| **mean of the 1 published** | **29.20** | **28.63** | **24.41** |" in text
    assert "| davis_dog | 60 | general | 0.885 | - | - | - | 1.4 | - | - |" in text
    assert "| davis_dog | 60 | - | 12 | 900 | 12 | 900 | - | 4000 |" in text
    assert text.count("Measured 2026-01-02. Commit: abc1234. Front end: geometric, version 7. Machine: ") == 3


def test_what_is_taken_in_says_where_it_comes_from(module: ModuleType, results: list, tmp_path: Path) -> None:
    source = tmp_path / "run"
    source.mkdir()
    for of_sequence in results[0]["records"].values():
        for record in of_sequence.values():
            record.pop("commit", None)
    (source / "bench.json").write_text(json.dumps(results[0]))
    kept = json.loads(module.take_in(source, tmp_path / "results").read_text())
    assert (tmp_path / "results/bench/run.json").is_file()
    assert all(record["commit"] for of_sequence in kept["records"].values() for record in of_sequence.values())

    plate = tmp_path / "plate.json"
    plate.write_text(json.dumps({"set": "a", "machine": MACHINE, "psnr_static_to_frame": 40.0}))
    kept = json.loads(module.take_in(plate, tmp_path / "results").read_text())
    assert {"date", "commit", "front_end", "front_end_version"} <= set(kept) and kept["machine"] == MACHINE

    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(SystemExit, match="no table shows it"):
        module.take_in(tmp_path / "other.json", tmp_path / "results")
    del results[1]["records"]["clip"]["das3r-light"]["front_end_version"]
    (tmp_path / "older.json").write_text(json.dumps(results[1]))
    with pytest.raises(SystemExit, match="measure again"):
        module.take_in(tmp_path / "older.json", tmp_path / "results")
    with pytest.raises(SystemExit, match="not there"):
        module.take_in(tmp_path / "missing.json", tmp_path / "results")


def test_composites_and_depth_are_tables(module: ModuleType) -> None:
    figures = {
        "psnr_hidden": 25.0,
        "psnr_hidden_render": 25.1,
        "psnr_static_to_frame": 50,
        "psnr_static_to_clean": 49.5,
    }
    text = module.composites_text([{**COMMON, "set": "a", "seed": 1, "note": "short", **figures}])
    assert text.startswith("Measured 2026-01-02") and "| a, short | 1 | 25.00 | 25.10 | 50.00 | 49.50 |" in text
    row = {"set": "a", "depth": "stereo", "within": {"0.01": 0.5, "0.1": 0.925}, "median": 0.0101}
    text = module.depth_text([{**COMMON, "rows": [row]}])
    assert text.startswith("Measured 2026-01-02") and "| a | stereo | 50.0% | 92.5% | 1.01% |" in text


def test_every_figure_on_the_page_says_where_it_comes_from(module: ModuleType, results: list) -> None:
    rows = module.page_text(results).splitlines()[2:]
    assert all("geometric 7; 2026-01-02" in row for row in rows) and len(rows) == 2


@pytest.mark.parametrize(
    ("file", "mark", "folder"),
    [
        ("docs/results.md", "bench", "bench"),
        ("docs/results.md", "composites", "composites"),
        ("docs/results.md", "depth", "depth"),
        ("docs/nerfstudio/das3r.md", "results", "bench"),
    ],
)
def test_what_is_written_is_what_was_measured(module: ModuleType, file: str, mark: str, folder: str) -> None:
    """Nobody has changed a figure by hand, and no new result was forgotten."""
    text = {"results": "page_text"}.get(mark, f"{mark}_text")
    written = between_marks(ROOT / file, mark)
    assert written == getattr(module, text)(module.load_results(module.RESULTS / folder))


def test_what_reach_measured_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    kept = json.loads((ROOT / "benchmarks/results/reach.json").read_text())
    assert between_marks(ROOT / "docs/results.md", "reach") == importlib.import_module("report").markdown(kept)


def test_what_full_size_measured_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module = importlib.import_module("full_size")
    assert between_marks(ROOT / "docs/results.md", "full_size") == module.markdown(module.load_results())


def test_what_a_gpu_check_measured_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module = importlib.import_module("gpu_tables")
    assert between_marks(ROOT / "docs/results.md", "gpu") == module.markdown(module.load_results())


def test_what_long_videos_measured_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module = importlib.import_module("long_videos")
    rows = module.load_results()
    assert between_marks(ROOT / "docs/results.md", "long") == module.markdown(rows)
    assert [row["frames"] for row in rows] == sorted(row["frames"] for row in rows)


def between_marks(path: Path, mark: str) -> str:
    return path.read_text().split(f"<!-- {mark}:begin -->\n")[1].split(f"\n<!-- {mark}:end -->")[0]


def test_every_table_of_results_is_written_by_a_script() -> None:
    outside = re.sub(r"<!-- (\w+):begin -->.*?<!-- \1:end -->", "", (ROOT / "docs/results.md").read_text(), flags=re.S)
    assert "|" not in outside


def test_results_name_no_folders_of_a_machine() -> None:
    files = list((ROOT / "benchmarks" / "results").rglob("*.json"))
    assert len(files) >= 4
    for path in files:
        assert '"/' not in path.read_text()
