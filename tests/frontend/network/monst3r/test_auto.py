"""Which front end runs, why, and under which key its results are kept."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from huggingface_hub import constants
from rich.console import Console

from das3r_ns.errors import Das3rError
from das3r_ns.frontend import run
from das3r_ns.frontend.choice import FRONT_ENDS, choose_front_end
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.network.monst3r import hub, identity
from das3r_ns.frontend.network.monst3r.identity import checkpoint_identity
from das3r_ns.progress import Progress
from das3r_ns.scene import cache


def quiet() -> Progress:
    return Progress(Console(file=io.StringIO()))


@pytest.fixture()
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache; whoever asks the hub fails the test."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub, "_ask_hub", lambda published: pytest.fail("the hub was asked"))
    return tmp_path / "hub"


def keep(hub_cache: Path, name: str, weights: bytes) -> Path:
    """Put a checkpoint into the hub cache, as the library lays it out."""
    folder = hub_cache / f"models--{hub.PUBLISHED[name].repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / "abc"
    for part in (snapshot, folder / "blobs", folder / "refs"):
        part.mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    for file, content in {"config.json": b"{}", "model.safetensors": weights}.items():
        blob = folder / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        (snapshot / file).symlink_to(Path("../../blobs") / blob.name)
    return snapshot


@pytest.fixture()
def oracle_network(demo_video, monkeypatch: pytest.MonkeyPatch) -> list[FrontEndConfig]:
    """Replaces the network front end by one that knows the demo's truth; the list holds the settings of its runs."""
    runs: list[FrontEndConfig] = []

    def estimate(images: np.ndarray, names: list[str], config: FrontEndConfig, *_: object):
        runs.append(config)
        return dataclasses.replace(demo_video.estimate, frame_names=names, provenance={})

    monkeypatch.setitem(sys.modules, "das3r_ns.frontend.network.monst3r.front_end", SimpleNamespace(estimate=estimate))
    return runs


@pytest.fixture()
def data(demo_video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    shutil.copytree(demo_video.folder / "frames", tmp_path / "video")
    return tmp_path / "video"


@pytest.mark.parametrize("offline", [False, True])
def test_auto_without_weights_is_geometric_and_says_why(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    choice = choose_front_end(FrontEndConfig(), quiet())
    assert choice.name == "geometric" and choice.identity is None
    assert choice.message.startswith("Front end: geometric (") and "\n" not in choice.message
    assert "`das3r weights --download das3r`" in choice.message and str(hub_cache) in choice.message
    assert "non-commercial" in choice.message and "--checkpoint" in choice.message


def test_auto_takes_the_network_whose_weights_are_there(hub_cache: Path, tmp_path: Path) -> None:
    monst3r = keep(hub_cache, "monst3r", b"weights of monst3r")
    choice = choose_front_end(FrontEndConfig(), quiet())
    assert (choice.name, choice.checkpoint) == ("monst3r", monst3r)
    assert "its weights are there" in choice.message and str(monst3r) in choice.message
    das3r = keep(hub_cache, "das3r", b"weights of das3r")
    assert choose_front_end(FrontEndConfig(), quiet()).checkpoint == das3r
    assert choose_front_end(FrontEndConfig(checkpoint="monst3r"), quiet()).checkpoint == monst3r
    assert choose_front_end(FrontEndConfig(front_end="geometric", checkpoint="monst3r"), quiet()).name == "geometric"


def test_auto_takes_the_checkpoint_that_is_named(hub_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.pth").write_bytes(b"1")
    choice = choose_front_end(FrontEndConfig(checkpoint=str(tmp_path / "mine.pth")), quiet())
    assert (choice.name, choice.checkpoint) == ("monst3r", tmp_path / "mine.pth")
    assert "its checkpoint was named" in choice.message
    with pytest.raises(Das3rError, match=r"other\.pth does not exist"):
        choose_front_end(FrontEndConfig(checkpoint=str(tmp_path / "other.pth")), quiet())


def test_what_is_asked_for_by_name_is_downloaded(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def download(published: hub.Published, progress: Progress) -> Path:
        asked.append(published.name)
        return keep(hub_cache, published.name, published.name.encode())

    monkeypatch.setattr(hub, "download", download)
    assert choose_front_end(FrontEndConfig(front_end="monst3r"), quiet(), may_download=False).checkpoint is None
    assert choose_front_end(FrontEndConfig(checkpoint="dust3r"), quiet()).name == "monst3r"
    assert choose_front_end(FrontEndConfig(front_end="monst3r", checkpoint="das3r"), quiet()).name == "monst3r"
    assert asked == ["dust3r", "das3r"]


def test_a_network_asked_for_offline_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(hub.CheckpointUnavailable, match="HF_HUB_OFFLINE"):
        choose_front_end(FrontEndConfig(front_end="monst3r"), quiet())


def test_keys_of_geometric_results_know_nothing_of_the_network(
    data: Path, hub_cache: Path, oracle_front_end: list[int]
) -> None:
    scene = run.load_or_estimate(data, FrontEndConfig(long_side=160), quiet())
    settings = {"front_end": "geometric", "long_side": 160, "points": True, "stereo": True, "stopped": "leave"}
    settings["version"] = FRONT_ENDS["geometric"].version
    assert scene.cache_dir.name == cache.cache_key(scene.clip.content_hash, settings)
    assert cache.FORMAT == 1
    network = {"network_size": 256, "pair_graph": "complete", "window": 30, "precision": "float32", "batch_size": 3}
    other = FrontEndConfig(long_side=160, front_end="geometric", checkpoint="das3r", device="cpu", **network)
    assert run.load_or_estimate(data, other, quiet()).cache_dir == scene.cache_dir
    assert oracle_front_end == [12]
    flow_alone = FrontEndConfig(long_side=160, stereo=False)
    assert run.load_or_estimate(data, flow_alone, quiet()).cache_dir != scene.cache_dir


def test_keys_of_network_results_know_weights_and_settings(
    data: Path, tmp_path: Path, oracle_network: list[FrontEndConfig]
) -> None:
    mine, copy, other = (tmp_path / name for name in ("mine.pth", "copy.pth", "other.pth"))
    mine.write_bytes(b"some weights")
    shutil.copy(mine, copy)
    other.write_bytes(b"more weights")
    base = FrontEndConfig(long_side=160, checkpoint=str(mine))
    first = run.load_or_estimate(data, base, quiet())
    assert oracle_network[0].checkpoint == str(mine)
    assert first.estimate.provenance["front_end"] == "monst3r"
    assert first.estimate.provenance["checkpoint"] == checkpoint_identity(mine)
    same = ({"checkpoint": str(copy)}, {"batch_size": 3}, {"device": "cpu"}, {"front_end": "monst3r"})
    for change in same:
        run.load_or_estimate(data, dataclasses.replace(base, **change), quiet())
        assert len(oracle_network) == 1, change
    differs = ({"checkpoint": str(other)}, {"pair_graph": "complete"}, {"window": 50}, {"window_overlap": 0.3})
    for number, change in enumerate(
        (*differs, {"precision": "float32"}, {"focal": "per_frame"}, {"network_size": 256}), start=2
    ):
        run.load_or_estimate(data, dataclasses.replace(base, **change), quiet())
        assert len(oracle_network) == number, change


def test_a_trained_model_finds_its_cameras_although_the_weights_are_gone(
    data: Path, tmp_path: Path, hub_cache: Path, oracle_network: list[FrontEndConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = keep(hub_cache, "das3r", b"weights")
    auto = FrontEndConfig(long_side=160)
    first = run.load_or_estimate(data, auto, quiet())
    shutil.rmtree(weights.parents[1])
    for config in (auto, dataclasses.replace(auto, front_end="monst3r")):
        assert run.load_or_estimate(data, config, quiet(), require_cache=True).cache_dir == first.cache_dir
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    elsewhere = dataclasses.replace(auto, front_end="monst3r", long_side=170)
    with pytest.raises(Das3rError, match="train again"):
        run.load_or_estimate(data, elsewhere, quiet(), require_cache=True)
    assert len(oracle_network) == 1


def test_a_model_trained_without_weights_finds_its_cameras_when_weights_have_come(
    data: Path, hub_cache: Path, oracle_front_end: list[int], oracle_network: list[FrontEndConfig]
) -> None:
    auto = FrontEndConfig(long_side=160)
    first = run.load_or_estimate(data, auto, quiet())
    keep(hub_cache, "das3r", b"weights")
    assert run.load_or_estimate(data, auto, quiet(), require_cache=True).cache_dir == first.cache_dir
    assert oracle_front_end == [12] and not oracle_network
    # A new training takes the network, and then the old one's settings have to say what it was.
    second = run.load_or_estimate(data, auto, quiet())
    assert second.cache_dir != first.cache_dir and len(oracle_network) == 1
    pinned = dataclasses.replace(auto, front_end="geometric")
    assert run.load_or_estimate(data, pinned, quiet(), require_cache=True).cache_dir == first.cache_dir


def test_training_keeps_which_front_end_auto_was(hub_cache: Path, make_trainer: Callable) -> None:
    trainer = make_trainer(steps=1)
    saved = (trainer.base_dir / "config.yml").read_text()
    assert trainer.config.pipeline.datamanager.dataparser.front_end.front_end == "geometric"
    assert "front_end: geometric" in saved


def test_an_identity_is_of_the_contents(tmp_path: Path, hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = keep(hub_cache, "das3r", b"weights")
    assert checkpoint_identity(snapshot) == hashlib.sha256(b"weights").hexdigest()[:20]

    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text("{}")
    plain = checkpoint_identity(folder)
    assert plain == checkpoint_identity(folder / "model.safetensors")
    (folder / "config.json").write_text('{"enc_depth": 2}')
    assert checkpoint_identity(folder) != plain

    monkeypatch.setattr(identity, "SAMPLE", 16)
    large = np.random.default_rng(0).integers(0, 256, 50_000, dtype=np.uint8)
    (tmp_path / "large.pth").write_bytes(large.tobytes())
    first = checkpoint_identity(tmp_path / "large.pth")
    (tmp_path / "tuned.pth").write_bytes((large ^ 1).tobytes())
    (tmp_path / "longer.pth").write_bytes(large.tobytes() + b"1")
    others = {checkpoint_identity(tmp_path / name) for name in ("tuned.pth", "longer.pth")}
    assert len(others) == 2 and first not in others

    with pytest.raises(Das3rError, match="cannot be read"):
        checkpoint_identity(tmp_path / "nothing")
