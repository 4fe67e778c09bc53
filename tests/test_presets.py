"""Presets are data that really arrives, and mistakes in them are named."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
import yaml

from das3r_ns import presets
from das3r_ns.errors import Das3rError
from das3r_ns.presets import apply_overrides, configs_dir, read_preset, trainer_config


@dataclass
class Inner:
    rate: float = 1.0
    kind: Literal["a", "b"] = "a"
    size: tuple[int, int] = (1, 2)
    folder: Path | None = None


@dataclass
class Outer:
    count: int = 3
    flag: bool = False
    inner: Inner = field(default_factory=Inner)


def test_overrides_reach_every_level_and_convert_plain_types() -> None:
    config = apply_overrides(
        Outer(), {"count": 5, "inner": {"rate": 2, "kind": "b", "size": [3, 4], "folder": "x"}}, "here"
    )
    assert config == Outer(5, False, Inner(2.0, "b", (3, 4), Path("x")))
    assert isinstance(config.inner.rate, float)
    assert apply_overrides(config, {"inner": {"folder": None}}, "here").inner.folder is None


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"conut": 5}, r"here sets 'conut'.*Outer has no field 'conut'"),
        ({"inner": {"rat": 1}}, r"'inner\.rat'"),
        ({"count": 1.5}, r"'count' to 1\.5.*int"),
        ({"count": True}, r"'count' to True"),
        ({"flag": 1}, r"'flag' to 1"),
        ({"inner": {"kind": "c"}}, r"'inner\.kind' to 'c'"),
        ({"inner": {"size": [1]}}, r"'inner\.size'"),
        ({"inner": {"rate": "fast"}}, r"'inner\.rate' to 'fast'"),
        ({"inner": 3}, r"'inner' to 3"),
    ],
)
def test_a_wrong_override_is_named(overrides: dict, named: str) -> None:
    with pytest.raises(Das3rError, match=named):
        apply_overrides(Outer(), overrides, "here")


@pytest.mark.parametrize("name", ["das3r", "das3r-light", "das3r-paper"])
def test_presets_are_really_used(name: str) -> None:
    config = trainer_config(name)
    preset = read_preset(name)["trainer"]
    assert config.method_name == name
    assert config.max_num_iterations == preset["max_num_iterations"]
    dataparser = config.pipeline.datamanager.dataparser  # pyright: ignore[reportAttributeAccessIssue]
    assert dataparser.max_points == preset["pipeline"]["datamanager"]["dataparser"]["max_points"]
    assert config.viewer.websocket_host == "127.0.0.1"
    model = config.pipeline.model
    for key, value in preset["pipeline"].get("model", {}).items():
        if not isinstance(value, dict):
            assert getattr(model, key) == value
    assert set(config.optimizers) >= {"means", "opacities"}


def test_a_changed_file_changes_the_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = read_preset("das3r-light")
    preset["trainer"]["max_num_iterations"] = 77
    (tmp_path / "das3r-light.yaml").write_text(yaml.safe_dump(preset))
    monkeypatch.setattr(presets, "configs_dir", lambda: tmp_path)
    assert trainer_config("das3r-light").max_num_iterations == 77
    (tmp_path / "das3r-light.yaml").write_text("trainer: {}")
    with pytest.raises(Das3rError, match=r"das3r-light\.yaml"):
        trainer_config("das3r-light")
    with pytest.raises(Das3rError, match=r"das3r\.yaml"):
        trainer_config("das3r")


def test_the_default_trains_4000_steps_from_at_most_a_million_points() -> None:
    trainer = read_preset("das3r")["trainer"]
    assert trainer["max_num_iterations"] == 4000
    assert trainer["pipeline"]["datamanager"]["dataparser"]["max_points"] <= 1_000_000
    assert (configs_dir() / "das3r-paper.yaml").is_file()
