"""What long videos cost a front end: seconds of every stage, and the peak of memory.

``python benchmarks/long_videos.py --output OUTPUT.json``: the first so many frames of one demo video through the whole
network front end (windows, alignment, joining, refinement, masks, cache), each length in a process of its own. What the
network itself costs is measured by network.py; here it is the tiny reference network with formula weights
(tests/reference/fill.py) and small heads. Cameras and depth are nonsense then, and the alignment has more to do
than with a real one.

``--front-end geometric``: the same for the front end without weights, on the walk round the block of street.py, twice
round it in so many frames (once, in as many as one window has), with the error of its cameras. Give ``--work FOLDER``
to keep the clips and what was found, window by window: what was broken off goes on there, and its seconds are added up.
Only the last window is always solved anew, so that the peak of memory is that of a run at one go. ``--keep NAME`` puts
the figures into benchmarks/results/long, from where ``--update-docs`` writes the table of docs/results.md.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from provenance import provenance_line, stamp
from report import table, update_between_marks
from rich.console import Console
from rich.table import Table

from das3r_ns.evaluation.machine import describe_machine
from das3r_ns.files import link_files, write_json
from das3r_ns.frontend.windows import AT_ONCE

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "long"
DOCS = HERE.parent / "docs" / "results.md"


@dataclass
class Arguments:
    """Measure a front end on videos of several lengths."""

    output: Path = Path("long_videos.json")
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
    laps: float | None = None
    """Times round the block (geometric only); as the length says if not given."""
    keep: str | None = None
    """Name under which figures of the geometric front end are put into benchmarks/results/long."""
    update_docs: bool = False
    """Write the table of docs/results.md from those, and measure nothing."""
    alone: bool = False
    """Measure one length: given by this script itself to the process that does."""


def main(arguments: Arguments) -> None:
    """Measure every length in a process of its own."""
    if arguments.update_docs:
        update_between_marks(DOCS, "long", markdown(load_results()))
        return
    if arguments.alone:
        write_json(arguments.output, measure(arguments))
        return
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        prepare(work, arguments)
        rows = [in_own_process(work, count, arguments) for count in arguments.frames]
    write_json(arguments.output, {"machine": describe_machine(), "runs": rows})
    if arguments.keep is not None:
        write_json(RESULTS / f"{arguments.keep}.json", rows)
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
            laps = arguments.laps or laps_of(count)
            write_street(clip_of(work, count, arguments), count, laps, arguments.width, arguments.height)
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


def clip_of(work: Path, count: int, arguments: Arguments) -> Path:
    """Where the walk in so many frames lies."""
    return work / (f"street-{count}" if arguments.laps is None else f"street-{count}-{arguments.laps:g}")


def in_own_process(work: Path, count: int, arguments: Arguments) -> dict[str, Any]:
    """Run this script for one length, so that its peak of memory is its own."""
    output = work / f"{count}.json"
    command = [sys.executable, __file__, "--output", str(output), "--work", str(work), "--frames", str(count)]
    command += ["--width", str(arguments.width), "--height", str(arguments.height), "--device", arguments.device]
    command += ["--alone", "--front-end", arguments.front_end, "--stereo" if arguments.stereo else "--no-stereo"]
    command += [] if arguments.laps is None else ["--laps", str(arguments.laps)]
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
        return measure_geometric(clip_of(arguments.work, count, arguments), arguments)
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

    before = keep_windows(street, len(list((street / "frames").glob("*.png"))))
    side = max(arguments.width, arguments.height)
    config = FrontEndConfig("geometric", max_frames=0, shot=-1, long_side=side, stereo=arguments.stereo)
    cost = Cost()
    estimate = load_or_estimate(street, config).estimate
    poses = np.tile(np.eye(4), (estimate.num_frames, 1, 1))
    poses[:, :3] = np.loadtxt(street / "poses.txt").reshape(-1, 3, 4)
    used = cost.so_far()
    seconds = dict(estimate.provenance["seconds"])
    for spent, of_stages in before:
        for name in ("wall_s", "cpu_s"):
            used[name] = round(used[name] + spent[name], 3)
        for stage, value in of_stages.items():
            seconds[stage] = round(seconds.get(stage, 0.0) + value, 2)
    return {
        **stamp(),
        "frames": estimate.num_frames,
        "laps": arguments.laps or laps_of(estimate.num_frames),
        "size": f"{arguments.width} x {arguments.height}",
        "windows": len(estimate.provenance.get("windows", [0])),
        **used,
        "ate_percent": ate_percent(estimate.c2w_cv, poses),
        "ends": estimate.provenance.get("together", estimate.provenance.get("points", {})).get("ends"),
        "verdict": estimate.provenance["verdict"]["word"],
        "seconds": seconds,
    }


Spent = tuple[dict[str, float], dict[str, float]]
"""Cost of a window, and seconds of its stages by the clock."""


def keep_windows(street: Path, count: int) -> list[Spent]:
    """Make the geometric front end keep the windows of a clip that it has solved, all but the last.

    Args:
        street: The clip.
        count: Its frames.

    Returns:
        A list that is filled with what windows had cost that were solved by an earlier process.
    """
    from das3r_ns.evaluation.cost import Cost
    from das3r_ns.frontend.geometric import estimate as front_end

    solve, folder, before = front_end._estimate_at_once, street / "windows", []

    def kept(film, config, progress):
        path = folder / f"{film.names[0]}-{len(film.names)}.pkl"
        if path.is_file():
            with path.open("rb") as file:
                scene, cost, seconds = pickle.load(file)
            before.append((cost, seconds))
            return scene
        cost, earlier = Cost(), dict(progress.seconds)
        scene = solve(film, config, progress)
        if not film.names[-1].startswith(f"{count - 1:05d}"):
            seconds = {stage: value - earlier.get(stage, 0.0) for stage, value in progress.seconds.items()}
            folder.mkdir(exist_ok=True)
            temporary = folder / f".{path.name}.{os.getpid()}"
            temporary.write_bytes(pickle.dumps((scene, cost.so_far(), seconds), protocol=5))
            temporary.replace(path)
        return scene

    front_end._estimate_at_once = kept
    return before


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table of docs/results.md, and where its figures come from."""
    cells = []
    for row in rows:
        ends = row["ends"] or {}
        said = f"{row['laps']:g}", row["size"], str(row["windows"])
        cost = f"{row['cpu_s']:.0f}", f"{row['cpu_s'] / row['frames']:.2f}", str(row["peak_mb"])
        found = len(ends.get("loops", ()))
        loops = f"{found}, {'closed' if ends['closed'] else 'not closed'}" if found else "-"
        note = row.get("note", "")
        cells.append([str(row["frames"]), *said, *cost, f"{row['ate_percent']:.3f}", loops, row["verdict"], note])
    names = ["frames", "laps", "size", "windows", "CPU s", "CPU s a frame", "peak MB"]
    return "\n".join(
        [provenance_line(rows), "", *table([*names, "ATE, % of the path", "loops", "verdict", "note"], cells)]
    )


def load_results() -> list[dict[str, Any]]:
    """Every row in benchmarks/results/long, by length."""
    rows = [row for path in sorted(RESULTS.glob("*.json")) for row in json.loads(path.read_text())]
    return sorted(rows, key=lambda row: row["frames"])


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
        loops = (len((row["ends"] or {}).get("loops", ())) for row in rows)
        table.add_row("loops closed", *map(str, loops))
        table.add_row("verdict", *(row["verdict"] for row in rows))
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
