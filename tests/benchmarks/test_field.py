"""The table of clips as people film them, and what it says of the verdict."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from das3r_ns.evaluation.ground_truth import GroundTruth
from das3r_ns.frontend.signs import Signs

ROOT = Path(__file__).parents[2]
STAMP: dict[str, Any] = {
    "machine": {key: key for key in ("processor", "cores", "memory", "gpu", "system", "packages")},
    "date": "2026-01-02",
    "commit": "abc1234",
    "front_end": "geometric",
    "front_end_version": 8,
    "frames": 24,
    "cpu_s": 30.0,
}
GOOD = Signs(
    "general", matches=(90,) * 4, links=(90,) * 3, share=0.9, median=0.2, errors=(0.2,) * 4, apart={"left": 0.001}
)


@pytest.fixture()
def modules(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("field"), importlib.import_module("field_clips")


def test_the_verdict_is_that_of_the_present_rules_and_its_misses_are_named(modules: Any) -> None:
    lost = Signs(
        "general",
        matches=(90,) * 4,
        links=(90,) * 3,
        share=0.1,
        median=5.0,
        errors=(5.0,) * 4,
        apart={"every other point": 1},
    )
    figures = {"focal_error": 0.021, "J": 0.9, "false_alarms": 0.01}
    results = {
        "zoom": {**STAMP, **figures, "ate_percent": 7.7, "signs": GOOD.record()},
        "fine": {**STAMP, **figures, "ate_percent": 0.05, "signs": lost.record()},
        "gone": {**STAMP, "failed": 1, "last": ["MemoryError"]},
    }
    text = modules[0].markdown(modules[0].judged(results))
    assert "| zoom | development | 24 | 7.70 | 2.1 | 0.900 | 1.00 | 30 | sound |  | focal 52 to 275, ATE" in text
    assert (
        "| fine | held out | 24 | 0.05 | 2.1 | 0.900 | 1.00 | 30 | not solved | misfit, halves disagree |  |  |" in text
    )
    assert "| gone | held out | - | - | - | - | - | - | failed | MemoryError |  |  |" in text
    assert "1 clips, development: 1 sound, of which ATE is above 1 % on 1 (zoom)" in text
    assert "1 not solved, of which ATE is under 0.3 % on 1 (fine)" in text


def test_every_clip_that_thresholds_were_set_on_exists(modules: Any) -> None:
    field, clips = modules
    films = {f"{s.name}-{Path(film).stem}" for s in clips.SOURCES for film in s.films}
    names = films | {source.name for source in clips.SOURCES}
    assert {name for name in field.DEVELOPMENT if not name.startswith(("comp_", "synth_"))} <= names


def test_the_truth_of_a_film_follows_the_order_of_its_frames(modules: Any, demo_video: Any, tmp_path: Path) -> None:
    (tmp_path / "demo").symlink_to(demo_video.folder)
    (tmp_path / "frozen.txt").write_text("0,1,1,1,4")
    truth = GroundTruth(modules[1]._truth_of(tmp_path, "frozen.mp4"))
    whole = GroundTruth(demo_video.folder)
    assert truth.num_frames == 5
    np.testing.assert_allclose(truth.c2w_cv[2], whole.c2w_cv[1])
    np.testing.assert_array_equal(truth.mask(4), whole.mask(4))
