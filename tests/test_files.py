"""Folders that are there completely or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from das3r_ns.files import link_files, replace_directory, temporary_directory

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


def test_links_follow_the_files_and_what_is_kept_beside_them_stays(tmp_path: Path) -> None:
    old, new = ([tmp_path / place / name for name in "abc"] for place in ("old", "new"))
    for file in (*old, *new):
        file.parent.mkdir(exist_ok=True)
        file.write_text(str(file))
    folder = tmp_path / "clip"
    link_files(old, folder)
    (folder / ".kept").touch()
    link_files([old[1], new[2]], folder)
    assert {path.name: path.resolve() for path in folder.iterdir()} == {
        "b": old[1],
        "c": new[2],
        ".kept": folder / ".kept",
    }
    for file in old:
        file.unlink()
    link_files(new, folder)
    assert [(folder / name).read_text() for name in "abc"] == [str(file) for file in new]


def test_links_are_not_mixed_with_the_users_own_files(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip/mine").touch()
    (tmp_path / "other").touch()
    link_files([tmp_path / "other"], tmp_path / "clip")
    assert [path.name for path in (tmp_path / "clip").iterdir()] == ["mine"]
