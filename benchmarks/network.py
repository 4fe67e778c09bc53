"""What the full-size network costs: encoding each frame once, against encoding both frames of every pair anew.

``python benchmarks/network.py --output OUTPUT.json``: weights are a formula (tests/reference/fill.py), for the
cost does not depend on them. On a GPU all pairs of all frames are computed; on a CPU a few, from which the time of all
is extrapolated.
"""

from __future__ import annotations

import importlib.util
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from jaxtyping import UInt8
from rich.console import Console
from rich.table import Table

from das3r_ns.evaluation.machine import describe_machine
from das3r_ns.files import write_json
from das3r_ns.frontend.config import Precision
from das3r_ns.frontend.network.monst3r.compute import Compute, choose_batch, choose_compute
from das3r_ns.frontend.network.monst3r.inference import predict_pairs
from das3r_ns.frontend.network.monst3r.network import PairNetwork, build_network
from das3r_ns.frontend.network.monst3r.preprocessing import network_input
from das3r_ns.frontend.pairs import graph_for, make_pairs

FILL = Path(__file__).parents[1] / "tests" / "reference" / "fill.py"


def formula() -> Any:
    """The module of formula weights and pictures."""
    specification = importlib.util.spec_from_file_location("reference_fill", FILL)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def full_network(fill: Any) -> PairNetwork:
    """The full-size DAS3R network with formula weights; each is put in its place before the next is made."""
    with torch.device("meta"):
        network = build_network(fill.FULL)
    made: dict[str, torch.Tensor] = {}
    for name, value in network.state_dict().items():
        canonical = fill.canonical(name)
        if canonical not in made:
            made[canonical] = torch.from_numpy(fill.fill_tensor(canonical, value.shape))
    network.load_state_dict({name: made[fill.canonical(name)] for name in network.state_dict()}, assign=True)
    return network


class Bench:
    """Timings of one network on one device."""

    def __init__(self, network: PairNetwork, images: UInt8[np.ndarray, "N H W 3"], compute: Compute) -> None:
        self.network = network.to(compute.device)
        self.images = images
        self.compute = compute
        self.size = (images.shape[1], images.shape[2])
        self.views = network_input(images[:8]).to(compute.device)

    def seconds(self, do: Callable[[], Any], repeats: int, warm: bool) -> float:
        """Mean time of a call; on a CPU, CPU time over the number of threads, which other programs disturb less."""
        if warm:
            do()
        self.synchronize()
        on_cpu = self.compute.device.type == "cpu"
        start, clock = (time.process_time(), time.process_time) if on_cpu else (time.perf_counter(), time.perf_counter)
        for _ in range(repeats):
            do()
        self.synchronize()
        return (clock() - start) / repeats / (torch.get_num_threads() if on_cpu else 1)

    def synchronize(self) -> None:
        """Wait until the device has done what it was given."""
        if self.compute.device.type == "cuda":
            torch.cuda.synchronize(self.compute.device)

    def steps(self, compute: Compute, batch: int, repeats: int) -> dict[str, float]:
        """Seconds per frame and per directed pair, at one precision."""
        warm = compute.device.type == "cuda"
        views = self.views[torch.arange(batch) % len(self.views)]
        kind = compute.autocast
        with torch.autocast(compute.device.type, dtype=kind or torch.bfloat16, enabled=kind is not None):
            tokens = self.network.encode(views)
            other = tokens.roll(1, 0)
            return {
                "batch": batch,
                "s_per_frame": self.seconds(lambda: self.network.encode(views), repeats, warm) / batch,
                "s_per_pair": self.seconds(
                    lambda: self.network.decode(tokens, other, self.size, second_mask=False), repeats, warm
                )
                / batch,
                "s_per_pair_encoding_both": self.seconds(
                    lambda: self.network.infer_pair(views, views.roll(1, 0)), repeats, warm
                )
                / batch,
            }


def main(
    output: Path,
    frames: int = 50,
    more_frames: int = 65,
    width: int = 512,
    height: int = 288,
    repeats: int = 0,
    precision: Precision = "auto",
    device: str = "auto",
    batch_size: int = 0,
    seconds_limit: float = 600.0,
) -> None:
    """Measure the network.

    Args:
        output: JSON file to write.
        frames: Length of the clip.
        more_frames: Length of a second clip, of which peak GPU memory is measured.
        width: Of the frames in pixels.
        height: Of the frames in pixels.
        repeats: Calls that each step is timed over; 0 = 20 on a GPU, 1 on a CPU.
        precision: Of the network, besides the float32 that everything is compared with.
        device: auto, cpu, cuda, ...
        batch_size: Directed pairs at once; 0 = as the front end chooses.
        seconds_limit: Whole clips are computed only where they take no longer by extrapolation.
    """
    fill = formula()
    compute = choose_compute(device, precision)
    on_gpu = compute.device.type == "cuda"
    repeats = repeats or (20 if on_gpu else 1)
    start = time.perf_counter()
    network = full_network(fill)
    print(f"Network with formula weights made in {time.perf_counter() - start:.0f} s.", flush=True)
    pictures = np.stack([fill.image(number % 8, height, width) for number in range(8)])
    pictures = np.round((pictures.transpose(0, 2, 3, 1) * 0.5 + 0.5) * 255).astype(np.uint8)
    bench = Bench(network, pictures, compute)
    batch = choose_batch(batch_size, height, width, compute)
    exact = Compute(compute.device, None)
    results: dict[str, Any] = {"pixels": f"{width} x {height}", "precision": compute.precision, "batch": batch}
    results["official"] = {"precision": "float32", **bench.steps(exact, 1, repeats)}
    results["ours"] = {"precision": compute.precision, **bench.steps(compute, batch, repeats)}

    pairs = len(make_pairs(frames, graph_for(frames)))
    ours, official = results["ours"], results["official"]
    results["clip"] = {
        "frames": frames,
        "directed_pairs": pairs,
        "extrapolated_s": frames * ours["s_per_frame"] + pairs * ours["s_per_pair"],
        "extrapolated_s_encoding_both": pairs * ours["s_per_pair_encoding_both"],
        "extrapolated_s_official": pairs * official["s_per_pair_encoding_both"],
    }
    if results["clip"]["extrapolated_s"] < seconds_limit:
        results["clip"] |= whole_clip(bench, frames, batch_size, "")
        results["clip"] |= whole_clip(bench, more_frames, batch_size, f"_{more_frames}") if on_gpu else {}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    results["peak_memory_gb"] = round(peak / 1e9, 2)
    write_json(output, {"machine": describe_machine(), **results})
    print_table(results)


def whole_clip(bench: Bench, frames: int, batch_size: int, suffix: str) -> dict[str, float]:
    """All pairs of a clip through :func:`predict_pairs`: seconds, and the most GPU memory there was in use."""
    on_gpu = bench.compute.device.type == "cuda"
    images = bench.images[np.arange(frames) % len(bench.images)]
    pairs = make_pairs(frames, graph_for(frames))
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(bench.compute.device)
    start = time.perf_counter()
    predict_pairs(bench.network, images, pairs, compute=bench.compute, batch_size=batch_size)
    measured = {f"measured_s{suffix}": time.perf_counter() - start}
    if on_gpu:
        measured[f"peak_gpu_gb{suffix}"] = torch.cuda.max_memory_allocated(bench.compute.device) / 1e9
        measured[f"reserved_gpu_gb{suffix}"] = torch.cuda.max_memory_reserved(bench.compute.device) / 1e9
    return measured


def print_table(results: dict[str, Any]) -> None:
    """The figures, for people."""
    table = Table("", "precision", "batch", "frames/s", "pairs/s, frames encoded once", "pairs/s, both encoded anew")
    for name in ("official", "ours"):
        row = results[name]
        figures = (row["s_per_frame"], row["s_per_pair"], row["s_per_pair_encoding_both"])
        table.add_row(name, row["precision"], str(row["batch"]), *(f"{1 / figure:.3f}" for figure in figures))
    clip, console = results["clip"], Console()
    console.print(table)
    official = clip["extrapolated_s_official"]
    quicker = official / clip["extrapolated_s"]
    console.print(
        f"{clip['frames']} frames, {clip['directed_pairs']} directed pairs of {results['pixels']} pixels: "
        f"{clip['extrapolated_s']:.0f} s by extrapolation; encoding both frames of each pair "
        f"{clip['extrapolated_s_encoding_both']:.0f} s; that in float32 one by one {official:.0f} s: "
        f"{quicker:.1f} times as long."
    )
    for name in [name for name in clip if name.startswith(("measured", "peak", "reserved"))]:
        console.print(f"{name}: {clip[name]:.2f}")
    console.print(f"Peak memory of the process: {results['peak_memory_gb']} GB")


if __name__ == "__main__":
    tyro.cli(main)
