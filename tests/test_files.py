"""Folders that are there completely or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from das3r_ns.files import replace_directory, temporary_directory

KILLED = """
import os, signal
from pathlib import Path
from das3r_ns.files import temporary_directory
with temporary_directory(Path("out")) as temporary:
    (temporary / "half").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_goes_at_the_next_run_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[1])
    subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, env=os.environ | {"PYTHONPATH": root}, check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".out.tmp-")
    with temporary_directory(tmp_path / "other"):
        assert left.exists(), "another output's is left alone"
    with temporary_directory(tmp_path / "out") as mine:
        assert not left.exists()
        with temporary_directory(tmp_path / "out"):
            assert mine.exists()
        replace_directory(mine, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), temporary_directory(tmp_path / "out"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())
