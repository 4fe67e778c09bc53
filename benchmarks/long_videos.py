"""What long videos cost a front end: seconds of every stage, and the peak of memory.

``python benchmarks/long_videos.py --output OUTPUT.json``: the first so many frames of one demo video through the whole
network front end (windows, alignment, joining, refinement, masks, cache), each length in a process of its own. What the
network itself costs is measured by network.py; here it is the tiny reference network with formula weights
(tests/reference/fill.py) and small heads. Cameras and depth are nonsense then, and the alignment has more to do
than with a real one.

``--front-end geometric``: the same for the front end without weights, on the walk round the block of street.py, twice
round it in so many frames (once, in as many as one window has), with the error of its cameras. Give ``--work FOLDER``
to keep the clips and what was found.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from das3r_ns.evaluation.machine import describe_machine
from das3r_ns.files import link_files, write_json
from das3r_ns.frontend.windows import AT_ONCE


@dataclass
class Arguments:
    """Measure a front end on videos of several lengths."""

    output: Path
    """JSON file to write."""
    front_end: Literal["monst3r", "geometric"] = "monst3r"
    """Which."""
    frames: tuple[int, ...] = (75, 150, 300)
    """Lengths to measure."""
    width: int = 96
    """Of the frames in pixels."""
    height: int = 64
    """Of the frames in pixels."""
    device: str = "auto"
    """Where the network runs: auto, cpu, cuda, ..."""
    stereo: bool = True
    """As of das3r masks (geometric only)."""
    work: Path | None = None
    """Folder of the videos and the checkpoint; a temporary one if not given."""
    alone: bool = False
    """Measure one length: given by this script itself to the process that does."""


def main(arguments: Arguments) -> None:
    """Measure every length in a process of its own."""
    if arguments.alone:
        write_json(arguments.output, measure(arguments))
        return
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        prepare(work, arguments)
        rows = [in_own_process(work, count, arguments) for count in arguments.frames]
    write_json(arguments.output, {"machine": describe_machine(), "runs": rows})
    print_table(rows)


def small_heads() -> None:
    """Make networks with small heads from now on: those of the published networks are the same at every size."""
    from das3r_ns.frontend.network.monst3r import dpt, heads

    dpt.FEATURES = heads.FEATURES = 8
    dpt.LAYER_DIMS = (4, 6, 8, 10)


def prepare(work: Path, arguments: Arguments) -> None:
    """Draw the videos, and write the checkpoint."""
    if arguments.front_end == "geometric":
        from street import write_street

        for count in arguments.frames:
            write_street(work / f"street-{count}", count, laps_of(count), arguments.width, arguments.height)
        return
    import torch
    from network import formula
    from safetensors.torch import save_file

    from das3r_ns.demo import write_demo
    from das3r_ns.frontend.network.monst3r import build_network
    from das3r_ns.frontend.network.monst3r.checkpoints import official_name

    small_heads()
    write_demo(work / "demo", max(arguments.frames), arguments.width, arguments.height)
    fill, folder = formula(), work / "checkpoint"
    folder.mkdir()
    shapes = {name: value.shape for name, value in build_network(fill.TINY).state_dict().items()}
    weights = fill.fill_state_dict((name, shape) for name, shape in shapes.items() if official_name(name) == name)
    save_file({name: torch.from_numpy(value) for name, value in weights.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(fill.TINY))


def laps_of(count: int) -> float:
    """Times round the block in so many frames: more than once where they are more than one window."""
    return 1.0 if count <= AT_ONCE else 2.0


def in_own_process(work: Path, count: int, arguments: Arguments) -> dict[str, Any]:
    """Run this script for one length, so that its peak of memory is its own."""
    output = work / f"{count}.json"
    command = [sys.executable, __file__, "--output", str(output), "--work", str(work), "--frames", str(count)]
    command += ["--width", str(arguments.width), "--height", str(arguments.height), "--device", arguments.device]
    command += ["--alone", "--front-end", arguments.front_end, "--stereo" if arguments.stereo else "--no-stereo"]
    subprocess.run(command, check=True)
    return json.loads(output.read_text())


def measure(arguments: Arguments) -> dict[str, Any]:
    """One length through the front end."""
    from das3r_ns.evaluation.cost import Cost
    from das3r_ns.frontend.config import FrontEndConfig
    from das3r_ns.frontend.run import load_or_estimate

    assert arguments.work is not None
    (count,) = arguments.frames
    if arguments.front_end == "geometric":
        return measure_geometric(arguments.work / f"street-{count}", arguments)
    small_heads()
    video = arguments.work / f"first-{count}"
    link_files(sorted((arguments.work / "demo" / "frames").iterdir())[:count], video)
    config = FrontEndConfig(
        front_end="monst3r",
        checkpoint=str(arguments.work / "checkpoint"),
        max_frames=count,
        network_size=max(arguments.width, arguments.height),
        device=arguments.device,
    )
    cost = Cost()
    estimate = load_or_estimate(video, config).estimate
    assert estimate.num_frames == count
    return {"frames": count, **cost.so_far(), "seconds": estimate.provenance["seconds"]}


def measure_geometric(street: Path, arguments: Arguments) -> dict[str, Any]:
    """One walk through the front end without weights, and how far its cameras are from the true ones."""
    import numpy as np

    from das3r_ns.evaluation.cost import Cost
    from das3r_ns.evaluation.metrics import ate_percent
    from das3r_ns.frontend.config import FrontEndConfig
    from das3r_ns.frontend.run import load_or_estimate

    side = max(arguments.width, arguments.height)
    config = FrontEndConfig("geometric", max_frames=0, shot=-1, long_side=side, stereo=arguments.stereo)
    cost = Cost()
    estimate = load_or_estimate(street, config).estimate
    poses = np.tile(np.eye(4), (estimate.num_frames, 1, 1))
    poses[:, :3] = np.loadtxt(street / "poses.txt").reshape(-1, 3, 4)
    return {
        "frames": estimate.num_frames,
        **cost.so_far(),
        "ate_percent": ate_percent(estimate.c2w_cv, poses),
        "together": estimate.provenance.get("together"),
        "verdict": estimate.provenance["verdict"]["word"],
        "seconds": estimate.provenance["seconds"],
    }


def print_table(rows: list[dict[str, Any]]) -> None:
    """The figures, for people."""
    stages = list(dict.fromkeys(stage for row in rows for stage in row["seconds"]))
    table = Table("", *(f"{row['frames']} frames" for row in rows))
    for stage in stages:
        table.add_row(f"{stage}, s", *(f"{row['seconds'].get(stage, 0.0):.1f}" for row in rows))
    table.add_row("all, wall s", *(f"{row['wall_s']:.0f}" for row in rows))
    table.add_row("all, CPU s", *(f"{row['cpu_s']:.0f}" for row in rows))
    table.add_row("peak memory, MB", *(f"{row['peak_mb']}" for row in rows))
    if "ate_percent" in rows[0]:
        table.add_row("ATE, % of the path", *(f"{row['ate_percent']:.2f}" for row in rows))
        loops = (len((row["together"] or {}).get("loops", ())) for row in rows)
        table.add_row("loops closed", *map(str, loops))
        table.add_row("verdict", *(row["verdict"] for row in rows))
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
