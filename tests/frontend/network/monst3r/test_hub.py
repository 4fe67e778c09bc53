"""Finding and downloading checkpoints, against a hub on this machine."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.network.monst3r import PairNetwork, hub
from das3r_ns.frontend.network.monst3r.checkpoints import official_name
from das3r_ns.frontend.network.monst3r.verification import verify_checkpoint
from das3r_ns.progress import Progress

DOWNLOAD = ["--download", "das3r"]
SMALL_HEADS = """
from das3r_ns.frontend.network.monst3r import dpt
from das3r_ns.frontend.network.monst3r import heads
dpt.FEATURES = heads.FEATURES = 8
dpt.LAYER_DIMS = (4, 6, 8, 10)
"""


def _hub_server() -> ModuleType:
    specification = importlib.util.spec_from_file_location("hub_server", Path(__file__).parent / "hub_server.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture()
def files(make_network: Callable[[dict], PairNetwork], fill: ModuleType, small_heads: None) -> dict[str, bytes]:
    """A repository: the tiny network with small heads."""
    state = make_network(fill.TINY).state_dict()
    weights = save({name: value for name, value in state.items() if official_name(name) == name})
    return {"config.json": json.dumps(fill.TINY).encode(), "model.safetensors": weights}


@pytest.fixture()
def server(files: dict[str, bytes]) -> Iterator:
    with _hub_server().HubServer(hub.PUBLISHED["das3r"].repository, files).running() as server:
        yield server


@pytest.fixture()
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache for this process."""
    folder = tmp_path / "home" / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return folder


def keep(cache: Path, name: str, files: dict[str, bytes]) -> Path:
    """Put a repository into a hub cache, as the library lays it out."""
    folder = cache / f"models--{hub.PUBLISHED[name].repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / "abc"
    for part in (snapshot, folder / "blobs", folder / "refs"):
        part.mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    for file, content in files.items():
        blob = folder / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        (snapshot / file).symlink_to(Path("../../blobs") / blob.name)
    return snapshot


def weights(endpoint: str, home: Path, *commands: list[str], **more: str) -> subprocess.CompletedProcess[str]:
    """`das3r weights` in a process of its own, for the library reads its settings when it is imported.

    Commands follow each other until one fails.
    """
    calls = "\n".join(f"entrypoint({['weights', *command]!r})" for command in commands)
    code = f"{SMALL_HEADS}\nfrom das3r_ns.cli.main import entrypoint\n{calls}"
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1", **more}
    environment = {name: value for name, value in environment.items() if name not in ("HF_HUB_CACHE", "HF_HUB_OFFLINE")}
    environment |= more
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)


def test_downloads_goes_on_after_an_interruption_and_verifies(server, tmp_path: Path) -> None:
    home, size = tmp_path / "home", len(server.files["model.safetensors"])
    server.break_after = size // 2
    first = weights(server.endpoint, home, DOWNLOAD)
    assert first.returncode == 1
    assert "broke off" in first.stderr and "What has arrived is kept" in first.stderr
    assert "Traceback" not in first.stderr
    assert first.stderr.index("non-commercial") < first.stderr.index("Downloading")
    partial = list(home.rglob("*.incomplete"))
    assert [path.stat().st_size for path in partial] == [size // 2]

    server.break_after = None
    server.requests.clear()
    second = weights(server.endpoint, home, DOWNLOAD)
    assert second.returncode == 0, second.stderr
    bodies = [(name, part) for method, name, part in server.requests if method == "GET" and name in server.files]
    assert sorted(bodies) == [("config.json", ""), ("model.safetensors", f"bytes={size // 2}-")]
    assert "what was published" in second.stderr and "is good" in second.stderr
    assert not list(home.rglob("*.incomplete"))

    # From here on nothing needs the hub.
    server.requests.clear()
    third = weights(server.endpoint, home, DOWNLOAD, ["--verify", "das3r"], [], HF_HUB_OFFLINE="1")
    assert third.returncode == 0, third.stderr
    assert not server.requests
    assert "at hand in" in third.stdout and third.stdout.count("not at hand") == 2


def test_a_file_that_arrives_damaged_is_not_kept(server, tmp_path: Path) -> None:
    home = tmp_path / "home"
    size = len(server.files["model.safetensors"])
    server.break_after = size // 2
    assert weights(server.endpoint, home, DOWNLOAD).returncode == 1
    part = next(home.rglob("*.incomplete"))
    part.write_bytes(bytes(size // 2))
    server.break_after = None
    result = weights(server.endpoint, home, DOWNLOAD)
    assert result.returncode == 1 and "not the file it should be" in result.stderr
    assert not list(home.rglob("*.incomplete")) and not list(home.rglob("model.safetensors"))


def test_nothing_is_downloaded_offline_or_from_a_hub_out_of_reach(server, tmp_path: Path) -> None:
    offline = weights(server.endpoint, tmp_path, DOWNLOAD, HF_HUB_OFFLINE="1")
    assert offline.returncode == 1 and "HF_HUB_OFFLINE" in offline.stderr
    assert not server.requests
    unreachable = weights("http://127.0.0.1:9", tmp_path, DOWNLOAD)
    assert unreachable.returncode == 1 and "the hub does not give it" in unreachable.stderr
    unknown = weights(server.endpoint, tmp_path, ["--download", "monst3r"])
    assert unknown.returncode == 1 and "the hub does not give it" in unknown.stderr
    for result in (offline, unreachable, unknown):
        assert len(result.stderr.strip().splitlines()) == 1


def test_imports_ask_nobody(server, tmp_path: Path) -> None:
    modules = ("checkpoints", "containers", "hub", "verification", "network")
    code = "\n".join(f"import das3r_ns.frontend.network.monst3r.{name}" for name in modules)
    code += "\nimport sys\nassert 'huggingface_hub' not in sys.modules"
    environment = {**os.environ, "HF_ENDPOINT": server.endpoint, "HF_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)
    assert not server.requests and not list(tmp_path.rglob("hub"))


def test_auto_takes_the_best_one_in_the_cache(cache: Path) -> None:
    with pytest.raises(hub.CheckpointUnavailable, match="HF_HUB_OFFLINE"):
        hub.find_checkpoint("auto", Progress())
    dust3r = keep(cache, "dust3r", {"config.json": b"{}", "model.safetensors": b"1"})
    assert hub.find_checkpoint("auto", Progress()) == dust3r
    # Half a repository counts for nothing.
    keep(cache, "monst3r", {"config.json": b"{}"})
    assert hub.find_checkpoint("auto", Progress()) == dust3r
    das3r = keep(cache, "das3r", {"config.json": b"{}", "model.safetensors": b"2"})
    assert hub.find_checkpoint("auto", Progress()) == das3r
    assert hub.find_checkpoint("dust3r", Progress()) == dust3r


def test_a_path_comes_before_everything(cache: Path, tmp_path: Path) -> None:
    keep(cache, "das3r", {"config.json": b"{}", "model.safetensors": b"2"})
    (tmp_path / "mine.pth").touch()
    assert hub.find_checkpoint(str(tmp_path / "mine.pth"), Progress()) == tmp_path / "mine.pth"
    with pytest.raises(Das3rError, match="does not exist"):
        hub.find_checkpoint(str(tmp_path / "other.pth"), Progress())


def test_gives_up_within_seconds_when_the_hub_does_not_answer(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda *_, **__: time.sleep(20))
    start = time.perf_counter()
    with pytest.raises(hub.CheckpointUnavailable, match="no answer within 3 s"):
        hub.find_checkpoint("auto", Progress())
    assert time.perf_counter() - start < 15


def test_refuses_to_fill_the_disk(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_ask_hub", lambda _: hub._HubFile("http://nowhere", 10**18, "0" * 64))
    with pytest.raises(Das3rError, match="too full"):
        hub.find_checkpoint("auto", Progress())
    assert not cache.exists()


def test_verification_compares_the_checksum(cache: Path, files: dict[str, bytes]) -> None:
    folder = keep(cache, "das3r", files)
    lines: list[str] = []
    verify_checkpoint(folder, lines.append)
    assert "SHA-256" in lines[0] and "with heads that predict what moves" in lines[1]
    blob = (folder / "model.safetensors").resolve()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1  # the file is whole, and its weights are finite
    blob.write_bytes(content)
    with pytest.raises(Das3rError, match="is damaged"):
        verify_checkpoint(folder, lines.append)


def test_verification_refuses_outputs_that_are_not_finite(
    tmp_path: Path, files: dict[str, bytes], make_network: Callable[[dict], PairNetwork], fill: ModuleType
) -> None:
    state = dict(make_network(fill.TINY).state_dict())
    state["downstream_head1.dpt.head.4.bias"] = torch.full((4,), 1e4)
    torch.save({"args": None, "model": state}, tmp_path / "a.pth")
    with pytest.raises(Das3rError, match="pts3d, conf that are not finite"):
        verify_checkpoint(tmp_path / "a.pth", [].append)
