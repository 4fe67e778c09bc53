"""Sets of the data folder as the measurements use them, and the results they leave."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def find_sets(data: Path) -> list[str]:
    """Names of the sets below a data folder: every folder that has ``frames`` in it.

    Raises:
        SystemExit: There is none.
    """
    sets = sorted(path.parent.name for path in data.glob("*/frames") if path.is_dir())
    if not sets:
        raise SystemExit(f"{data} holds no set (a folder with frames/ in it).")
    return sets


def link_video(source: Path, target: Path) -> Path:
    """A folder of links to the frames of a set, so that the front end's cache lies beside the links and not the data.

    Args:
        source: Folder of the set.
        target: Folder to make; kept as it is, cache and all, where it exists.

    Returns:
        ``target``.
    """
    frames = target / "frames"
    if not frames.is_dir():
        frames.mkdir(parents=True)
        for path in sorted((source / "frames").iterdir()):
            if path.is_file():
                (frames / path.name).symlink_to(path.resolve())
    return target


@dataclass
class Cost:
    """What this process has used since the object was made."""

    wall: float = field(default_factory=time.perf_counter)
    cpu: float = field(default_factory=lambda: sum(os.times()[:4]))

    def so_far(self) -> dict[str, float]:
        """Wall and CPU seconds, and the peak of resident memory of the whole process, MB."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        unit = 1 if sys.platform == "darwin" else 1024
        return {
            "wall_s": round(time.perf_counter() - self.wall, 1),
            "cpu_s": round(sum(os.times()[:4]) - self.cpu, 1),
            "peak_mb": round(max(peak, children) * unit / 1e6),
        }


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(value, indent=1) + "\n")
    temporary.replace(path)
