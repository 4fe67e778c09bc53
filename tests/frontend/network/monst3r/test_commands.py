"""The network front end through the commands users type, with a tiny checkpoint; and checkpoints it must refuse."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
import torch
import tyro
from nerfstudio.scripts import train
from safetensors.torch import load_file, save_file

from das3r_ns.cli import main
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.network.monst3r import PairNetwork
from das3r_ns.presets import trainer_config

SIZE = 96
"""Longer side of the frames, and of what the network sees."""


@pytest.fixture()
def data(demo_video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six frames of the demo."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    (tmp_path / "video").mkdir()
    for number, image in enumerate(demo_video.images[::2]):
        small = cv2.resize(image, (SIZE, 64), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(tmp_path / f"video/{number:05d}.png"), small[..., ::-1])
    return tmp_path / "video"


def masks(data: Path, output: Path, checkpoint: Path, *more: str) -> list[str]:
    """Arguments of `das3r masks`."""
    named = ["--front-end", "monst3r", "--checkpoint", str(checkpoint), "--network-size", str(SIZE), "--device", "cpu"]
    return ["masks", "--data", str(data), "--output-dir", str(output), "--long-side", str(SIZE), *named, *more]


def test_ns_train_runs_through(
    data: Path, tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `ns-train das3r-light --pipeline.datamanager.dataparser.front-end monst3r ...front-end.checkpoint TINY`."""
    config = trainer_config("das3r-light")
    config.data, config.output_dir, config.timestamp = data, tmp_path / "outputs", "now"
    config.max_num_iterations, config.vis = 3, "tensorboard"
    parser = config.pipeline.datamanager.dataparser  # pyright: ignore[reportAttributeAccessIssue]
    parser.front_end = FrontEndConfig(
        front_end="monst3r", checkpoint=str(checkpoint), network_size=SIZE, long_side=SIZE, device="cpu"
    )
    parser.max_points = 2000
    train.main(config)
    printed = capsys.readouterr()
    said = " ".join((printed.out + printed.err).split())
    assert "Front end: monst3r (a network for pairs of frames, then global alignment; as asked for). Weights: " in said
    assert f"directed pairs of {SIZE} x 64 pixels, 2 at once, on cpu in float32; about" in said
    assert list((tmp_path / "outputs").rglob("*.ckpt"))
    assert len(list((data / ".das3r").glob("*/scene.json"))) == 1


def test_the_front_end_has_a_short_name_on_nerfstudios_command_lines() -> None:
    flag, default = "--pipeline.datamanager.dataparser.front-end", trainer_config("das3r-light")
    for name in (flag, f"{flag}.front-end"):
        config = tyro.cli(type(default), default=default, args=[name, "monst3r", f"{flag}.checkpoint", "TINY"])
        parser = config.pipeline.datamanager.dataparser  # pyright: ignore[reportAttributeAccessIssue]
        assert (parser.front_end.front_end, parser.front_end.checkpoint) == ("monst3r", "TINY")


def test_masks_runs_through_and_reads_its_cache(
    data: Path, tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    main.entrypoint(masks(data, out, checkpoint))
    assert len(list((out / "masks").iterdir())) == 6
    depth = cv2.imread(str(out / "depth/00003.png"), cv2.IMREAD_UNCHANGED)
    assert depth.shape == (64, SIZE, 3)
    assert "Network: pairs" in capsys.readouterr().err

    shutil.rmtree(out)
    main.entrypoint(masks(data, out, checkpoint, "--batch-size", "1"))
    again = capsys.readouterr().err
    assert "Front end: read from" in again and "Network" not in again


def truncated(folder: Path, network: PairNetwork) -> Path:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    return folder


class Planted:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.target),)


def pickled_object(folder: Path, network: PairNetwork) -> Path:
    path = folder / "checkpoint.pth"
    torch.save({"args": argparse.Namespace(model=""), "model": {}, "x": Planted(folder / "planted")}, path)
    return path


def wrong_shapes(folder: Path, network: PairNetwork) -> Path:
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "dec_norm.weight": torch.ones(5)}, folder / "model.safetensors")
    return folder


def other_architecture(folder: Path, network: PairNetwork) -> Path:
    save_file({"conv1.weight": torch.zeros(3, 3)}, folder / "model.safetensors")
    return folder


def infinite_weights(folder: Path, network: PairNetwork) -> Path:
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "dec_norm.weight": weights["dec_norm.weight"] * torch.inf}, folder / "model.safetensors")
    return folder


def infinite_outputs(folder: Path, network: PairNetwork) -> Path:
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "dec_norm.weight": weights["dec_norm.weight"] * 1e38}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncated, ["model.safetensors is cut short"]),
        (pickled_object, ["checkpoint.pth is refused", f"{os.name}.mkdir"]),
        (wrong_shapes, ["of another shape (1): dec_norm.weight (5 where 48 belongs)"]),
        (other_architecture, ["another architecture", "conv1.weight"]),
        (infinite_weights, ["not finite (1): dec_norm.weight"]),
        (infinite_outputs, ["not finite for frames 0 and 1", "das3r weights --verify"]),
    ],
)
def test_a_bad_checkpoint_is_refused_before_the_work(
    damage: Callable[[Path, PairNetwork], Path],
    words: list[str],
    data: Path,
    tmp_path: Path,
    checkpoint: Path,
    quick: PairNetwork,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = damage(checkpoint, quick)
    with pytest.raises(SystemExit) as left:
        main.entrypoint(masks(data, tmp_path / "out", path))
    said = capsys.readouterr().err
    assert left.value.code == 1 and "Network: pairs" not in said and "Optical flow" not in said
    error = next(line for line in said.splitlines() if line.startswith("das3r: "))
    assert all(word in error for word in words), error
    assert not list((data / ".das3r").glob("*/")) and not (tmp_path / "out" / "masks").exists()
    assert not (checkpoint / "planted").exists()


def test_ns_train_shows_the_paragraph_alone(data: Path, tmp_path: Path, checkpoint: Path, quick: PairNetwork) -> None:
    config = trainer_config("das3r-light")
    config.data, config.output_dir, config.max_num_iterations = data, tmp_path / "outputs", 1
    parser = config.pipeline.datamanager.dataparser  # pyright: ignore[reportAttributeAccessIssue]
    parser.front_end = FrontEndConfig(checkpoint=str(truncated(checkpoint, quick)), long_side=SIZE)
    with pytest.raises(SystemExit) as left:
        train.main(config)
    assert isinstance(left.value.code, str) and left.value.code.strip().startswith("error: ")
    assert "cut short" in left.value.code and "\n" not in left.value.code.strip()


def test_the_command_line_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.entrypoint(["masks", "--help"])
    text = capsys.readouterr().out
    flags = (
        "checkpoint",
        "network-size",
        "pair-graph",
        "focal",
        "window",
        "window-overlap",
        "precision",
        "batch-size",
        "device",
    )
    assert all(f"--{flag} " in text for flag in flags)
    assert all(word in text for word in ("monst3r", "non-commercial", "swinstride-5-noncyclic"))
