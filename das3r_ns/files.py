"""Output folders that are there completely or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from das3r_ns.errors import Das3rError


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
    """A new folder beside ``target``, to be renamed to it; removed at the end if it is still there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.tmp-", dir=target.parent))
    temporary.chmod(0o755)  # mkdtemp's 0700 would keep other users out of the finished folder
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_directory(finished: Path, target: Path) -> None:
    """Give a finished folder its final name, removing what bore it before."""
    if target.exists():
        with temporary_directory(target) as aside:
            target.replace(aside / "old")
            finished.replace(target)
    else:
        finished.replace(target)
