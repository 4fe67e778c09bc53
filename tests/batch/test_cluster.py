"""Connecting to Ray, and what is said where that does not go."""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path

import pytest
from rich.console import Console

from das3r_ns.batch.cluster import Needs, connected
from das3r_ns.batch.config import BatchConfig
from das3r_ns.batch.run import run_batch
from das3r_ns.errors import Das3rError
from das3r_ns.progress import Progress


def run(clips: Path, tmp_path: Path, address: str | None) -> None:
    run_batch(BatchConfig((str(clips),), tmp_path / "out", address=address), Progress(Console(quiet=True)))


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_at_which_nobody_answers_is_refused_at_once(scheme: str, clips: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra cluster is not installed")
    address = f"{scheme}127.0.0.1:{closed_port()}"
    with pytest.raises(Das3rError, match=f"No Ray cluster answers at {address}.*ray start"):
        run(clips, tmp_path, address)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("address", ["nowhere", "http://host", "host:port"])
def test_what_is_no_address_is_refused(address: str, clips: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra cluster is not installed")
    with pytest.raises(Das3rError, match=f"{address} is no address of a Ray cluster"):
        run(clips, tmp_path, address)


def test_without_ray_it_is_said_what_to_install(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "ray" else find(name, *more))
    with pytest.raises(Das3rError, match=r"pip install 'das3r-ns\[cluster\]'"):
        run(clips, tmp_path, None)
    with pytest.raises(Das3rError, match="not installed"), connected(None):
        pass


def test_a_machine_has_room_for_what_it_has_as_much_of() -> None:
    machine = Needs(4, 1, 1000)
    assert Needs(4, 1, 1000).fits(machine) and Needs(1, 0, 0).fits(machine)
    assert not any(needs.fits(machine) for needs in (Needs(5), Needs(1, 2), Needs(1, 0, 1001)))
