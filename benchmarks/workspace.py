"""Sets of the data folder as the measurements use them."""

from __future__ import annotations

from pathlib import Path

from das3r_ns.files import link_files


def find_sets(data: Path) -> list[str]:
    """Names of the sets below a data folder: every folder that has ``frames`` in it.

    Raises:
        SystemExit: There is none.
    """
    sets = sorted(path.parent.name for path in data.glob("*/frames") if path.is_dir())
    if not sets:
        raise SystemExit(f"{data} holds no set (a folder with frames/ in it).")
    return sets


def link_video(source: Path, target: Path, part: str = "frames") -> Path:
    """A folder of links to the pictures of a set, so that the front end's cache lies beside the links and not the data.

    Args:
        source: Folder of the set.
        target: Folder to make; kept as it is, cache and all, where it exists.
        part: Folder of the set that holds them: its frames, or its clean plates as a film in which nothing moves.

    Returns:
        ``target``.
    """
    link_files(sorted(path for path in (source / part).iterdir() if path.is_file()), target / "frames")
    return target
