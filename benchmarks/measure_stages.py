"""CPU seconds of each stage of the front end without weights on the first frames of one set, in a process of its own.

``python benchmarks/measure_stages.py SET OUTPUT.json [--frames 24]``; see stages.py. Nothing is read from a cache. CPU
seconds of the whole process, all threads, are counted, not the time on the clock, which says little on a busy machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from provenance import stamp
from rich.console import Console

from das3r_ns.files import write_json
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.geometric.estimate import estimate
from das3r_ns.progress import Progress
from das3r_ns.video.clip import shrink
from das3r_ns.video.image_folder import images_in, read_image

WARM_UP = 4
"""Frames that are gone through first, so that compiled kernels are in memory."""


@dataclass
class Arguments:
    """Measure the stages on one set."""

    set: tyro.conf.Positional[Path]
    """Folder of the set."""
    output: tyro.conf.Positional[Path]
    """JSON file to write."""
    frames: int = 24
    """How many of its first frames are taken."""


class CpuSeconds(Progress):
    """Its ``seconds`` are those of the CPU."""

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[], None]]:
        """As ``Progress.stage``."""
        start = time.process_time()
        yield lambda: None
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - start


def main(arguments: Arguments) -> None:
    """Measure and write."""
    paths = images_in(arguments.set / "frames")[: arguments.frames]
    full = [read_image(path) for path in paths]
    images = np.stack([shrink(image, FrontEndConfig().long_side) for image in full])
    names = [path.name for path in paths]

    def run(count: int) -> tuple[dict[str, float], float]:
        progress, start = CpuSeconds(Console(quiet=True)), time.process_time()
        estimate(images[:count], names[:count], FrontEndConfig(), progress, None, lambda: iter(full[:count]))
        return progress.seconds, time.process_time() - start

    run(WARM_UP)
    stages, total = run(len(paths))
    write_json(
        arguments.output,
        {
            **stamp(),
            "frames": len(paths),
            "size": f"{images.shape[2]}x{images.shape[1]}",
            "cpu_s": round(total, 2),
            "stages": {name: round(seconds, 2) for name, seconds in stages.items()},
        },
    )


if __name__ == "__main__":
    main(tyro.cli(Arguments))
