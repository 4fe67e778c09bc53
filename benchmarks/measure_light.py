"""The whole of ``ns-train das3r-light`` on one set, as a user types it, front end and start-up included.

``python benchmarks/measure_light.py VIDEO RUN_DIR --output OUTPUT.json``: VIDEO's cached results are deleted first.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from das3r_ns.evaluation.cost import Cost
from das3r_ns.files import write_json


@dataclass
class Arguments:
    """Time ns-train das3r-light."""

    video: tyro.conf.Positional[Path]
    """Folder of links to the frames of a set."""
    run_dir: tyro.conf.Positional[Path]
    """Folder for what training writes."""
    output: Path
    """JSON file to write."""


def main(arguments: Arguments) -> None:
    """Measure and write the result."""
    for cache in arguments.video.rglob(".das3r"):
        shutil.rmtree(cache)
    command = [str(Path(sys.executable).with_name("ns-train")), "das3r-light", "--data", str(arguments.video)]
    command += ["--output-dir", str(arguments.run_dir), "--experiment-name", "light", "--timestamp", "run"]
    cost = Cost()
    subprocess.run([*command, "--vis", "tensorboard"], check=True, stdin=subprocess.DEVNULL)
    used = cost.so_far()
    checkpoints = sorted((arguments.run_dir / "light/das3r-light/run/nerfstudio_models").glob("*.ckpt"))
    if not checkpoints:
        raise SystemExit("ns-train left no checkpoint.")
    write_json(arguments.output, {**used, "checkpoint_mb": round(checkpoints[-1].stat().st_size / 1e6, 1)})


if __name__ == "__main__":
    main(tyro.cli(Arguments))
