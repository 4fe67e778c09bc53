"""How much faster ``das3r export`` writes the Gaussian PLY than nerfstudio, and that the bytes are the same.

``python benchmarks/gaussian_ply.py --gaussians 1000000 --compared 20000``

nerfstudio's writer takes a time proportional to the number of Gaussians; where fewer are given to it (``compared``),
its time for all is that one scaled up, and is said to be so.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from nerfstudio.scripts.exporter import ExportGaussianSplat

from das3r_ns.evaluation.machine import describe_machine
from das3r_ns.export.gaussians import write_gaussian_ply
from das3r_ns.files import write_json


@dataclass
class Arguments:
    """Compare the two writers on random Gaussians of degree 3."""

    gaussians: int = 1_000_000
    """Written by das3r."""
    compared: int = 50_000
    """Written by both, to compare bytes and time."""
    output: Path | None = None
    """JSON file to write as well."""


def random_columns(count: int) -> dict[str, np.ndarray]:
    """Columns as of a model of degree 3."""
    generator = np.random.default_rng(0)
    names = ["x", "y", "z", "nx", "ny", "nz", *(f"f_dc_{i}" for i in range(3)), *(f"f_rest_{i}" for i in range(45))]
    names += ["opacity", *(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]
    return {name: generator.normal(size=count).astype(np.float32) for name in names}


def seconds(write: Callable[[], None]) -> float:
    """Wall time."""
    start = time.perf_counter()
    write()
    return time.perf_counter() - start


def main(arguments: Arguments) -> None:
    """Measure, print, write."""
    columns, few = random_columns(arguments.gaussians), random_columns(arguments.compared)
    with tempfile.TemporaryDirectory() as folder:
        ours, ours_few, theirs = (Path(folder) / name for name in ("ours.ply", "ours_few.ply", "theirs.ply"))
        fast = min(seconds(lambda: write_gaussian_ply(ours, columns)) for _ in range(3))
        write_gaussian_ply(ours_few, few)
        slow = seconds(
            lambda: ExportGaussianSplat.write_ply(str(theirs), arguments.compared, few)  # pyright: ignore[reportArgumentType]
        )
        same = ours_few.read_bytes() == theirs.read_bytes()
    scaled = slow * arguments.gaussians / arguments.compared
    result = {
        "machine": describe_machine(),
        "gaussians": arguments.gaussians,
        "das3r_s": round(fast, 3),
        "nerfstudio_gaussians": arguments.compared,
        "nerfstudio_s": round(slow, 2),
        "nerfstudio_scaled_s": round(scaled, 1),
        "ratio": round(scaled / fast),
        "same_bytes": same,
    }
    print({key: value for key, value in result.items() if key != "machine"})
    if arguments.output is not None:
        write_json(arguments.output, result)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
