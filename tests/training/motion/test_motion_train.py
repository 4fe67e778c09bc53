"""The training of the motion head: it learns what the rules miss, goes on bit for bit, and writes its weights."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from rich.console import Console

from das3r_ns.cli import main
from das3r_ns.errors import Das3rError
from das3r_ns.frontend.geometric.head.views import MAPS, OF_PICTURE
from das3r_ns.frontend.geometric.head.weights import load_head, provenance_of
from das3r_ns.progress import Progress
from das3r_ns.training.motion import train
from das3r_ns.training.motion.config import MotionTrainingConfig
from das3r_ns.training.motion.train import train_motion


@pytest.fixture()
def quiet() -> Progress:
    return Progress(Console(quiet=True))


def _curves(config: MotionTrainingConfig) -> list[dict[str, float]]:
    return json.loads((config.output_dir / "curves.json").read_text())


def test_learns_what_the_rules_miss(config: MotionTrainingConfig, recorded: list[int], quiet: Progress) -> None:
    weights = train_motion(dataclasses.replace(config, steps=120, strength=1.0), quiet)
    rows = _curves(config)
    assert [row["step"] for row in rows] == [0, 15, 30, 45, 60, 75, 90, 105, 120]
    assert rows[0]["head_j"] == rows[0]["rules_j"] == 0.0
    assert rows[-1]["loss"] < 0.5 * rows[1]["loss"]
    assert rows[-1]["head_j"] > 0.8 and rows[-1]["head_false_alarms"] < 0.02 and rows[-1]["head_still"] < 0.02
    said = provenance_of(weights)
    assert said["figures"] == rows[-1] and said["settings"]["seed"] == 0 and said["commit"]
    assert said["training_clips"] == 6 and said["held_out_clips"] == 2
    load_head(weights)


def test_goes_on_bit_for_bit(
    config: MotionTrainingConfig, recorded: list[int], quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(config, save_minutes=0.0)
    whole = load_head(train_motion(config, quiet)).state_dict()
    again = dataclasses.replace(config, output_dir=config.output_dir.with_name("again"))
    loss_of, calls = train.loss_of, []

    def interrupted(*arguments: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 23:
            raise KeyboardInterrupt
        return loss_of(*arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(train, "loss_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_motion(again, quiet)
    recorded.clear()
    resumed = load_head(train_motion(again, quiet)).state_dict()
    assert not recorded  # clips are not drawn again
    assert "Goes on after 22 steps." in quiet.messages
    assert _curves(again) == _curves(config)
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_clips_that_are_missing_are_recorded_again(
    config: MotionTrainingConfig, recorded: list[int], quiet: Progress
) -> None:
    train_motion(dataclasses.replace(config, seed=2), quiet)
    assert recorded == list(range(2_000_000, 2_000_008))
    (next(config.output_dir.glob("clips/*/2000005.npz"))).unlink()
    recorded.clear()
    train_motion(dataclasses.replace(config, seed=2), quiet)
    assert recorded == [2_000_005]


def test_a_share_of_the_corrections_is_written(
    config: MotionTrainingConfig, recorded: list[int], quiet: Progress
) -> None:
    half = load_head(train_motion(config, quiet)).state_dict()
    again = load_head(train_motion(dataclasses.replace(config, strength=1.0), quiet)).state_dict()
    for name, value in half.items():
        assert torch.equal(again[name], 2 * value if name.startswith("last.") else value), name
    assert _curves(config)[-1]["step"] == 40 and len(_curves(config)) == 4


def test_a_head_that_sees_no_colours(config: MotionTrainingConfig, recorded: list[int], quiet: Progress) -> None:
    head = load_head(train_motion(dataclasses.replace(config, colours=False), quiet))
    columns = [2 + MAPS.index(name) for name in OF_PICTURE]
    assert not head.first.weight[:, columns].any() and head.first.weight[:, : columns[0]].all()


def test_refuses_what_cannot_be(config: MotionTrainingConfig, recorded: list[int], quiet: Progress) -> None:
    for name, value in (
        ("clips", 1),
        ("frames", 2),
        ("size", 40),
        ("held_out", 1.0),
        ("learning_rate", 0.0),
        ("caution", 0.0),
    ):
        with pytest.raises(Das3rError, match=f"--{name.replace('_', '-')}"):
            train_motion(dataclasses.replace(config, **{name: value}), quiet)
    config.output_dir.mkdir()
    (config.output_dir / "letters.txt").write_text("mine")
    with pytest.raises(Das3rError, match="was not written by this command"):
        train_motion(config, quiet)
    assert not recorded
    (config.output_dir / "letters.txt").unlink()
    train_motion(config, quiet)
    with pytest.raises(Das3rError, match="--steps was 40, is 41"):
        train_motion(dataclasses.replace(config, steps=41), quiet)


def test_what_is_damaged_is_said(config: MotionTrainingConfig, recorded: list[int], quiet: Progress) -> None:
    train_motion(config, quiet)
    file = next(config.output_dir.glob("clips/*/0000003.npz"))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Das3rError, match=r"0000003\.npz is no record of a clip, or damaged"):
        train_motion(config, quiet)
    file.write_bytes(whole)
    (config.output_dir / "state/state.pt").write_bytes(b"nothing")
    with pytest.raises(Das3rError, match=r"Delete .* and start anew"):
        train_motion(config, quiet)


def test_the_command(config: MotionTrainingConfig, recorded: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    options = {"clips": 4, "frames": 4, "steps": 2, "batch-size": 2, "crop": 32, "measure-every": 9}
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    main.entrypoint(["train-motion", "--output-dir", str(config.output_dir), *arguments])
    assert load_head(config.output_dir / "motion_head.safetensors")
    assert "--motion-weights" in capsys.readouterr().err
    assert np.isfinite(_curves(config)[-1]["loss"])
