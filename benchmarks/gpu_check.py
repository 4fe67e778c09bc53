"""What das3r does on a GPU, in eight minutes and without a network: see gpu_check.md.

``python benchmarks/gpu_check.py FOLDER [--video VIDEO] [--extension csrc.so] [--dry]``. Every part runs in a
process of its own with a limit of its own, and what it found is in ``FOLDER/results.json`` as soon as it ends.
"""

from __future__ import annotations

import cProfile
import importlib
import json
import pstats
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import tyro

from das3r_ns.files import write_json

ROOT = Path(__file__).parents[1]
COUNTED = range(20, 40)
"""Steps whose waits for the device are counted."""

PROFILED = range(60, 70)
"""Steps whose kernels are timed one by one; of those after it, up to STEADY, the host's functions are."""

STEADY = 100
"""Step from which on iterations a second are counted: nothing is watched any more."""


@dataclass
class Arguments:
    """Check das3r on a GPU."""

    folder: tyro.conf.Positional[Path]
    """Folder to write."""
    video: Path | None = None
    """Folder of frames of a real video; without it only the demo is trained."""
    large_video: Path | None = None
    """A video of 1080 lines or so, to train at full size; without it the one of --video."""
    extension: Path | None = None
    """gsplat's extension csrc.so, compiled beforehand for this torch and GPU; without it nvcc compiles it here."""
    steps: int = 4000
    """Steps of training on the video; the demo gets a quarter."""
    dry: bool = False
    """Small, and on the CPU: whether the parts work at all."""
    minutes: float = 8.0
    """Time for all of it: parts that come too late are left out."""
    parts: list[str] = field(default_factory=list)
    """Only these parts."""
    part: str = ""
    """Only this part, in this process, without a limit."""

    @property
    def device(self) -> str:
        """Where things run."""
        return "cpu" if self.dry else "cuda"


def machine(arguments: Arguments) -> dict[str, Any]:
    """What there is, and which nvcc."""
    import torch

    from das3r_ns.evaluation.machine import describe_machine

    nvcc = shutil.which("nvcc")
    told = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout if nvcc else "none"
    return describe_machine() | {"torch_cuda": torch.version.cuda, "nvcc": told.strip().splitlines()[-1]}


def build(arguments: Arguments) -> dict[str, Any]:
    """gsplat's kernels, compiled or carried along."""
    if arguments.dry:
        return {"skipped": "there are none for a CPU"}
    if arguments.extension is not None:
        shutil.copy(arguments.extension, Path(importlib.import_module("gsplat").__path__[0]) / "csrc.so")
    backend = importlib.import_module("gsplat.cuda._backend")
    return {"loaded": backend._C is not None, "carried_along": arguments.extension is not None}


def contract(arguments: Arguments) -> dict[str, Any]:
    """The tests that compare the CPU's rasteriser with gsplat's own."""
    command = [sys.executable, "-m", "pytest", "-q", "tests/rasterization/test_contract.py", "-p", "no:cacheprovider"]
    command += ["-k", "matches_gsplat"] if arguments.dry else []
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return {"passed": done.returncode == 0, "said": done.stdout.strip().splitlines()[-8:]}


def ssim(arguments: Arguments) -> dict[str, Any]:
    """The SSIM term and its gradient against float64, with TF32 allowed and not, and what a step of it takes."""
    import torch

    from das3r_ns.splats.ssim import l1_ssim_loss, l1_ssim_loss_reference

    size = (48, 64) if arguments.dry else (540, 960)
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(*size, 3, generator=generator)
    rendered = (target + 0.05 * torch.randn(*size, 3, generator=generator)).clamp(0, 1)
    weight = torch.rand(*size, 1, generator=generator)

    def once(dtype: torch.dtype, device: str) -> tuple[float, torch.Tensor, float]:
        x, y, w = (value.to(device, dtype) for value in (rendered, target, weight))
        for _ in range(3):
            x = x.detach().requires_grad_()
            start = now(device)
            loss = (l1_ssim_loss_reference if dtype == torch.float64 else l1_ssim_loss)(x, y, w, 1.0)
            (gradient,) = torch.autograd.grad(loss, x)
            seconds = now(device) - start
        return loss.item(), gradient.double().cpu(), 1000 * seconds

    exact, gradient, _ = once(torch.float64, "cpu")
    found = {}
    for allowed in (False, True):
        torch.backends.cudnn.allow_tf32 = allowed
        value, there, milliseconds = once(torch.float32, arguments.device)
        off = ((there - gradient).norm() / gradient.norm()).item()
        found[f"tf32_{allowed}".lower()] = {"value_off": value - exact, "gradient_off": off, "ms": milliseconds}
    return found


def rasterisers(arguments: Arguments) -> dict[str, Any]:
    """The same Gaussians through the CPU's rasteriser and this device's: pictures, gradients, milliseconds."""
    import torch

    from das3r_ns.rasterization import rasterization

    count, width, height = (500, 96, 54) if arguments.dry else (100_000, 960, 540)
    generator = torch.Generator().manual_seed(0)
    place = torch.rand(count, 3, generator=generator) * torch.tensor([4.0, 2.25, 4.0]) + torch.tensor([-2, -1.125, 2.0])
    scene = {
        "means": place,
        "quats": torch.randn(count, 4, generator=generator),
        "scales": 0.02 * torch.rand(count, 3, generator=generator) + 0.005,
        "opacities": torch.rand(count, generator=generator),
        "colors": torch.rand(count, 3, generator=generator),
    }
    k = torch.tensor([[[0.8 * width, 0, width / 2], [0, 0.8 * width, height / 2], [0, 0, 1]]])

    def once(device: str) -> tuple[torch.Tensor, dict[str, torch.Tensor], float]:
        for _ in range(2):
            inputs: dict[str, Any] = {name: value.to(device).requires_grad_() for name, value in scene.items()}
            start = now(device)
            picture, alpha, _ = rasterization(
                **inputs, viewmats=torch.eye(4, device=device)[None], Ks=k.to(device), width=width, height=height
            )
            gradients = torch.autograd.grad((picture**2).sum() + alpha.sum(), list(inputs.values()))
            seconds = now(device) - start
        return picture.detach().cpu(), dict(zip(scene, (g.cpu() for g in gradients), strict=True)), 1000 * seconds

    (picture, gradients, cpu_ms), (other, others, ms) = once("cpu"), once(arguments.device)
    off = {name: ((others[name] - value).norm() / value.norm()).item() for name, value in gradients.items()}
    difference = (picture - other).abs()
    share = (difference > 1e-3).float().mean().item()
    return {
        "picture_off_most": difference.max().item(), "pixels_off_by_1e-3": share, "gradients_off": off,
        "cpu_ms": cpu_ms, "ms": ms,
    }  # fmt: skip


def kernels(arguments: Arguments) -> dict[str, Any]:
    """The front end's dense kernels by numba on the CPU and by torch on this device: milliseconds and differences."""
    import torch
    from front_end_kernels import SIZES, measure

    from das3r_ns.frontend.geometric.torch_kernels.choice import dense_device

    device = dense_device(arguments.device, "torch")
    assert device is not None
    if arguments.dry:
        torch.set_num_threads(1)
    frames, sizes = (4, ((96, 54),)) if arguments.dry else (12, SIZES)
    return measure(device, frames, sizes, 45.0, lambda found: so_far(arguments, kernels, found))


def demo(arguments: Arguments) -> dict[str, Any]:
    """das3r on the demo, from its frames to clean plates."""
    from das3r_ns.demo.write import write_demo

    frames, width, height = (6, 96, 54) if arguments.dry else (36, 320, 180)
    folder = write_demo(arguments.folder / "demo", frames, width, height)
    return _trained(arguments, demo, folder / "frames", 45 if arguments.dry else arguments.steps // 4)


def video(arguments: Arguments) -> dict[str, Any]:
    """das3r on the video, from its frames to clean plates."""
    if arguments.video is None:
        return {"skipped": "no --video"}
    return _trained(arguments, video, arguments.video, 45 if arguments.dry else arguments.steps)


def full_size(arguments: Arguments) -> dict[str, Any]:
    """das3r on the large video, at its own size up to a long side of 1600."""
    from das3r_ns.data.dataparser import AUTO_LONG_SIDE

    frames = arguments.large_video or arguments.video
    if frames is None:
        return {"skipped": "no --large-video and no --video"}
    return _trained(arguments, full_size, frames, 45 if arguments.dry else arguments.steps, AUTO_LONG_SIDE)


def network(arguments: Arguments) -> dict[str, Any]:
    """Pairs a second of the full-size network, each frame encoded once and each pair anew."""
    if arguments.dry:
        return {"skipped": "three gigabytes on a CPU"}
    output = arguments.folder / "network_benchmark.json"
    subprocess.run([sys.executable, str(ROOT / "benchmarks/network.py"), "--output", str(output)], check=True)
    return json.loads(output.read_text())


def front_end_on_cpu(arguments: Arguments) -> dict[str, Any]:
    """The front end of the video (else the demo) once more with its dense kernels on the CPU: how far it is apart."""
    from front_end_kernels import with_numba

    from das3r_ns.frontend.config import FrontEndConfig
    from das3r_ns.frontend.run import load_or_estimate

    frames = arguments.video or arguments.folder / "demo" / "frames"
    estimate = load_or_estimate(frames, FrontEndConfig(front_end="geometric")).estimate  # that of before
    return with_numba(frames, arguments.folder / "again", estimate)


def now(device: str) -> float:
    """The time at which the device has done what it was told."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def many(arguments: Arguments) -> dict[str, Any]:
    """Milliseconds of this device's rasteriser, forwards and backwards, for many Gaussians and large pictures."""
    import torch

    from das3r_ns.rasterization import rasterization

    found = {}
    sizes = [(1000, 96, 54)] if arguments.dry else [(10**6, 960, 540), (10**6, 1920, 1080), (3 * 10**6, 1600, 900)]
    for count, width, height in sizes:
        generator = torch.Generator().manual_seed(0)
        place = torch.rand(count, 3, generator=generator) * torch.tensor([4.0, 2.25, 4.0])
        inputs: dict[str, Any] = {
            "means": place + torch.tensor([-2, -1.125, 2.0]),
            "quats": torch.randn(count, 4, generator=generator),
            "scales": 0.01 * torch.rand(count, 3, generator=generator) + 0.002,
            "opacities": torch.rand(count, generator=generator),
            "colors": torch.rand(count, 16, 3, generator=generator),
        }
        inputs = {name: value.to(arguments.device).requires_grad_() for name, value in inputs.items()}
        k = torch.tensor([[[0.8 * width, 0, width / 2], [0, 0.8 * width, height / 2], [0, 0, 1]]])
        view, k = torch.eye(4)[None].to(arguments.device), k.to(arguments.device)
        times = []
        for _ in range(8):
            start = now(arguments.device)
            picture, alpha, _ = rasterization(
                **inputs, viewmats=view, Ks=k, width=width, height=height, sh_degree=3, absgrad=True
            )
            middle = now(arguments.device)
            torch.autograd.grad((picture**2).sum() + alpha.sum(), list(inputs.values()))
            times.append((1000 * (middle - start), 1000 * (now(arguments.device) - middle)))
        forward, backward = (sorted(one)[len(one) // 2] for one in zip(*times, strict=True))
        found[f"{count}, {width} x {height}"] = {"forward_ms": forward, "backward_ms": backward}
    return found


def so_far(arguments: Arguments, part: Part, found: dict[str, Any]) -> None:
    """Write what a part has found already, should it not get further."""
    write_json(arguments.folder / f"{part.__name__}.json", found)


def _trained(
    arguments: Arguments, part: Part, frames: Path, steps: int, train_size: int | str = "working"
) -> dict[str, Any]:
    """Front end by stage, training with iterations a second, waits a step and memory, and clean plates."""
    import torch

    from das3r_ns.cleanplate.write import write_clean_plates
    from das3r_ns.evaluation.cost import Cost
    from das3r_ns.presets import trainer_config
    from das3r_ns.trained.scene import TrainedScene

    config: Any = trainer_config("das3r-light" if arguments.dry else "das3r")
    config.machine.device_type = arguments.device
    config.data = config.pipeline.datamanager.dataparser.data = frames
    config.pipeline.datamanager.dataparser.front_end.front_end = "geometric"
    config.pipeline.datamanager.dataparser.train_size = train_size
    name = frames.parent.name if train_size == "working" else f"{frames.parent.name}-{train_size}"
    config.output_dir, config.experiment_name, config.timestamp = arguments.folder / "runs", name, "run"
    config.vis, config.logging.local_writer.enable, config.max_num_iterations = "tensorboard", False, steps
    config.steps_per_eval_batch = config.steps_per_eval_image = config.steps_per_eval_all_images = 0
    config.save_config()
    trainer = config.setup(local_rank=0, world_size=1)
    start = now(arguments.device)
    trainer.setup()
    found: dict[str, Any] = {"setup_s": now(arguments.device) - start}
    camera = trainer.pipeline.datamanager.train_dataset.cameras[0]
    found["size"] = f"{int(camera.width)}x{int(camera.height)}"
    estimate = trainer.pipeline.datamanager.dataparser.prepared.estimate
    found["front_end_kernels"] = estimate.provenance.get("kernels")
    found["front_end_s"] = estimate.provenance["seconds"]
    so_far(arguments, part, found)
    train_iteration, cost, steady = trainer.train_iteration, Cost(), [now(arguments.device)]
    profiler, host = torch.profiler.profile(), cProfile.Profile()

    def watched(step: int) -> Any:
        if not arguments.dry and step in (COUNTED.start, COUNTED.stop):
            torch.cuda.set_sync_debug_mode("warn" if step == COUNTED.start else "default")
        if step == PROFILED.start:
            profiler.start()
        if step == PROFILED.stop:
            profiler.stop()
            seen, orders = profiler.key_averages(), ("self_device_time_total", "self_cpu_time_total")
            tables = [seen.table(sort_by=order, row_limit=25, max_name_column_width=60) for order in orders]
            (arguments.folder / f"profile-{name}.txt").write_text("\n".join(tables))
            host.enable()
        if step == STEADY:
            host.disable()
            with (arguments.folder / f"host-{name}.txt").open("w") as file:
                pstats.Stats(host, stream=file).sort_stats("cumulative").print_stats(80)
            steady.append(now(arguments.device))
        return train_iteration(step)

    trainer.train_iteration = watched
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start = now(arguments.device)
        trainer.train()
        seconds = now(arguments.device) - start
    waits = sum("synchronizing" in str(warning.message) for warning in caught)
    found |= {"steps": steps, "train_s": seconds, "steps_per_s": steps / seconds, "cost": cost.so_far()}
    if len(steady) > 1:
        found["steady_steps_per_s"] = (steps - STEADY) / (start + seconds - steady[1])
    found |= {"waits_per_step": waits / len(COUNTED), "gaussians": trainer.pipeline.model.num_points}
    so_far(arguments, part, found)
    start = now(arguments.device)
    write_clean_plates(TrainedScene(trainer.pipeline), arguments.folder / f"plates-{name}")
    found["clean_plates_s"] = now(arguments.device) - start
    return found


Part: TypeAlias = Callable[[Arguments], dict[str, Any]]

PARTS: dict[Part, int] = {
    machine: 30, build: 200, rasterisers: 50, many: 40, ssim: 30, contract: 60, kernels: 70, demo: 150, video: 240,
    network: 90, full_size: 420, front_end_on_cpu: 120,
}  # fmt: skip
"""What is checked, in this order, and the seconds each may take."""


def main(arguments: Arguments) -> None:
    """Run one part here, or all of them one after the other."""
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.part:
        part = next(part for part in PARTS if part.__name__ == arguments.part)
        write_json(arguments.folder / f"{arguments.part}.json", part(arguments))
        return
    results: dict[str, Any] = {}
    end = time.perf_counter() + 60 * arguments.minutes
    for part, limit in PARTS.items():
        if arguments.parts and part.__name__ not in arguments.parts:
            continue
        name, start = part.__name__, time.perf_counter()
        output, log = (arguments.folder / f"{name}.{suffix}" for suffix in ("json", "log"))
        output.unlink(missing_ok=True)
        command = [sys.executable, __file__, *sys.argv[1:], "--part", name]
        seconds = max(0.0, min(limit, end - start))
        try:
            with log.open("w") as file:
                subprocess.run(command, check=True, timeout=seconds, stdout=file, stderr=subprocess.STDOUT)
            results[name] = json.loads(output.read_text())
        except subprocess.TimeoutExpired:
            before = json.loads(output.read_text()) if output.exists() else {}
            results[name] = before | {"failed": [f"not done after {seconds:.0f} s"], "log": log.name}
        except subprocess.CalledProcessError:
            results[name] = {"failed": log.read_text(errors="replace").strip().splitlines()[-5:], "log": log.name}
        results[name]["seconds"] = round(time.perf_counter() - start, 1)
        write_json(arguments.folder / "results.json", results)
        print(f"{name}: {json.dumps(results[name])[:400]}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
