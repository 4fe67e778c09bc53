"""Output folders that are there completely or not at all; links to files, and whole paths."""

from __future__ import annotations

import dataclasses
import glob
import json
import os
import shutil
import socket
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from das3r_ns.errors import Das3rError

ABANDONED = 24 * 3600.0
"""Age in seconds at which a temporary folder of another machine is taken for that of a killed process."""
DAMAGED_ARRAYS = (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)
"""What reading a file of numpy's arrays raises where it is missing, cut off, damaged, or holds something else."""


def check_output_directory(target: Path, marker: str) -> None:
    """Make sure that replacing ``target`` destroys nothing but an earlier output of ours.

    Args:
        target: Folder about to be written.
        marker: File that every such output holds.

    Raises:
        Das3rError: It is a file, or a folder that holds something else.
    """
    if not target.exists():
        return
    if not target.is_dir() or (any(target.iterdir()) and not (target / marker).is_file()):
        raise Das3rError(
            f"{target} exists and was not written by this command, so it is left alone. Name a new or an empty folder."
        )


@contextmanager
def temporary_directory(target: Path) -> Iterator[Path]:
    """A new folder beside ``target``, to be renamed to it; removed at the end if it is still there.

    What killed processes left of theirs goes first.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(target.parent, glob.escape(target.name))
    prefix = f".{target.name}.tmp-{socket.gethostname()}-{os.getpid()}-"
    temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    temporary.chmod(0o755)  # mkdtemp's 0700 would keep other users out of the finished folder
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_abandoned(folder: Path, name: str = "*") -> None:
    """Remove the temporary folders of processes that are no more.

    Args:
        folder: Where they lie.
        name: Of the folders that they were to become; a pattern.
    """
    for path in folder.glob(f".{name}.tmp-*"):
        *host, process, _ = ["", *path.name.rpartition(".tmp-")[2].rsplit("-", 2)]
        try:
            if host[-1:] == [socket.gethostname()] and process.isdecimal():
                gone = not psutil.pid_exists(int(process))
            else:
                gone = time.time() - path.stat().st_mtime > ABANDONED
            if gone:
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            continue  # its owner was quicker


def replace_directory(finished: Path, target: Path) -> None:
    """Give a finished folder its final name, removing what bore it before."""
    if target.exists():
        with temporary_directory(target) as aside:
            target.replace(aside / "old")
            finished.replace(target)
    else:
        finished.replace(target)


def write_text(path: Path, text: str) -> None:
    """Write a text file completely or not at all, making its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file completely or not at all, making its folder if need be."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def make_paths_whole(config: Any) -> None:
    """Make the relative paths of a configuration absolute, in place, for whoever works with it in another folder.

    Args:
        config: A dataclass, with others in it.
    """
    for name, value in list(vars(config).items()):
        if isinstance(value, Path) and value != Path() and not name.startswith("relative_"):  # Path() is none
            setattr(config, name, value.expanduser().absolute())
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            make_paths_whole(value)


def link_files(files: Sequence[Path], folder: Path) -> None:
    """Fill a folder with links to files, under their own names; those of an earlier call to other files go.

    What is kept beside them under hidden names stays, and so does a folder that holds anything but links.

    Args:
        files: What to link to; no two of one name.
        folder: Folder to make, there completely or not at all.
    """
    wanted = {file.name: file.resolve() for file in files}
    if not folder.is_dir():
        with temporary_directory(folder) as temporary:
            for name, file in wanted.items():
                (temporary / name).symlink_to(file)
            replace_directory(temporary, folder)
        return
    there = {path.name: path for path in folder.iterdir() if not path.name.startswith(".")}
    if not all(path.is_symlink() for path in there.values()):
        return
    for name, path in there.items():
        if path.resolve() != wanted.get(name):
            path.unlink()
    for name, file in wanted.items():
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(file)
