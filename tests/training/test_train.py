"""The training as a whole: it learns, goes on bit for bit, and writes what the front end takes."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from das3r_ns.cli import main
from das3r_ns.errors import Das3rError
from das3r_ns.frontend.network.monst3r.checkpoints import load_network
from das3r_ns.progress import Progress
from das3r_ns.training import train
from das3r_ns.training.config import TrainingConfig
from das3r_ns.training.train import train_network


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def curves(config: TrainingConfig) -> list[dict[str, float]]:
    return json.loads((config.output_dir / "curves.json").read_text())


def test_the_loss_falls_and_j_rises_above_marking_everything(config: TrainingConfig, quiet: Progress) -> None:
    out = train_network(dataclasses.replace(config, epochs=14, learning_rate=8e-3), quiet)
    measured = curves(config)
    assert [row["epoch"] for row in measured] == list(range(15))
    assert measured[-1]["loss"] < 0.5 * measured[1]["loss"]
    assert max(row["j"] for row in measured) > max(0.5, 2 * measured[0]["j_everything"])
    assert list((config.output_dir / "logs").iterdir())
    assert load_network(out).config.mask_heads
    assert any("new ones are made" in said for said in quiet.messages)


def test_only_the_mask_heads_change(config: TrainingConfig, checkpoint: Path, quiet: Progress) -> None:
    before, after = weights(checkpoint), weights(train_network(config, quiet))
    assert all(torch.equal(before[name], after[name]) for name in before)
    new = set(after) - set(before)
    assert new and all(name.startswith("downstream_head_dynamic_mask") for name in new)


def test_it_starts_from_the_mask_heads_of_a_checkpoint(config: TrainingConfig, quiet: Progress) -> None:
    first = train_network(config, quiet)
    again = dataclasses.replace(
        config, checkpoint=str(first), output_dir=config.output_dir.with_name("more"), epochs=1, learning_rate=1e-9
    )
    second = weights(train_network(again, quiet))
    assert all(torch.allclose(value, second[name], atol=1e-6) for name, value in weights(first).items())


def test_an_interrupted_training_goes_on_bit_for_bit(
    config: TrainingConfig, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(config, epochs=3)
    train_network(config, quiet)
    whole, whole_curves = torch.load(config.output_dir / "state/state.pt"), curves(config)
    shutil.rmtree(config.output_dir)

    config = dataclasses.replace(config, save_minutes=0.0)
    calls, loss_of = [], train.loss_of

    def interrupted(*arguments: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 9:  # six batches are an epoch
            raise KeyboardInterrupt
        return loss_of(*arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(train, "loss_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_network(config, quiet)
    np.random.default_rng().random()
    torch.rand(7)
    train_network(config, quiet)
    assert "Goes on in epoch 2, after 8 steps." in quiet.messages
    resumed = torch.load(config.output_dir / "state/state.pt")
    assert resumed["step"] == whole["step"] == 18
    assert all(torch.equal(value, resumed["heads"][name]) for name, value in whole["heads"].items())
    moments, others = whole["optimizer"]["state"], resumed["optimizer"]["state"]
    assert all(torch.equal(own["exp_avg"], others[key]["exp_avg"]) for key, own in moments.items())
    assert curves(config) == whole_curves


def test_the_command_writes_a_checkpoint_that_das3r_masks_takes(
    config: TrainingConfig, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    given = ["--checkpoint", config.checkpoint, "--data", str(clips), "--output-dir", str(config.output_dir)]
    main.entrypoint(["train-network", *given, "--epochs", "1", "--network-size", "64", "--device", "cpu"])
    video = tmp_path / "video"
    shutil.copytree(next(clips.glob("*/0")) / "frames", video)
    named = ["--front-end", "monst3r", "--checkpoint", str(config.output_dir / "checkpoint")]
    size = ["--network-size", "64", "--long-side", "64", "--device", "cpu"]
    main.entrypoint(["masks", "--data", str(video), "--output-dir", str(tmp_path / "out"), *named, *size])
    assert len(list((tmp_path / "out/masks").iterdir())) == 6


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": [], "drawn": 0}, "nothing to train on"),
        ({"network_size": 100}, "multiple of 16"),
        ({"network_size": 32}, "--network-size"),
        ({"group_size": 1}, r"1 cannot be \(--group-size\)"),
        ({"group_size": 6}, "no room within 4 frames"),
        ({"group_size": 9}, "take 8 at most"),
        ({"max_frames": 2}, r"Clips of 2 frames \(--max-frames\) hold no group of 3"),
        ({"held_out": 1.0}, "--held-out"),
        ({"seed": -1}, r"-1 cannot be \(--seed\)"),
        ({"learning_rate": 0.0}, "--learning-rate"),
        ({"checkpoint": "no/such/place"}, "no/such/place does not exist"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    change: dict[str, object], said: str, config: TrainingConfig, quiet: Progress
) -> None:
    with pytest.raises(Das3rError, match=said):
        train_network(dataclasses.replace(config, **change), quiet)  # pyright: ignore[reportArgumentType]
    assert not config.output_dir.exists()


def test_a_folder_of_another_network_or_of_other_settings_is_left_alone(
    config: TrainingConfig, quiet: Progress, tmp_path: Path, make_network
) -> None:
    from das3r_ns.training.state import write_checkpoint

    config = dataclasses.replace(config, epochs=1)
    train_network(config, quiet)
    write_checkpoint(make_network(False, seed=2), tmp_path / "other")
    with pytest.raises(Das3rError, match="begun with another network"):
        train_network(dataclasses.replace(config, checkpoint=str(tmp_path / "other")), quiet)
    with pytest.raises(Das3rError, match=r"--batch-size was 4, is 3"):
        train_network(dataclasses.replace(config, batch_size=3), quiet)
    with pytest.raises(Das3rError, match="was not written by this command"):
        train_network(dataclasses.replace(config, output_dir=tmp_path / "clips"), quiet)


def test_held_out_clips_without_movers_are_said(config: TrainingConfig, clips: Path, quiet: Progress) -> None:
    for file in clips.glob("*/*/masks/*.png"):
        cv2.imwrite(str(file), np.zeros((48, 64), np.uint8))
    with pytest.raises(Das3rError, match="Nothing moves in the clips that are held out"):
        train_network(config, quiet)


def test_a_full_disk_is_said_before_the_training(
    config: TrainingConfig, quiet: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil._ntuple_diskusage(10**9, 10**9 - 5, 5)  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(Das3rError, match=r"is too full: .* Make room, or name a folder on another disk"):
        train_network(config, quiet)
