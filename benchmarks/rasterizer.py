"""How fast the rasteriser is on this machine, and on CUDA how far it is from gsplat.

    python benchmarks/rasterizer.py --gaussians 50000 --width 480 --height 270 --threads 1

The scene is synthetic: a cloud that fills the picture, its Gaussians about as large on the image as they lie apart. The
figures are CPU time (user + system of all threads), which other programs disturb less than wall time, and wall time.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from das3r_ns.rasterization import rasterization

NAMES = ("means", "quats", "scales", "opacities", "colors")


def make_scene(n: int, width: int, height: int, size: float, seed: int = 0) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Gaussians in the view of one camera.

    Args:
        n: number of Gaussians.
        width: of the picture, pixels.
        height: of the picture, pixels.
        size: their standard deviation on the image, in units of the distance at which they would tile it.
        seed: of the random numbers.

    Returns:
        The leaves (spherical harmonics of degree 3), viewmats [1, 4, 4] and Ks [1, 3, 3].
    """
    g = torch.Generator().manual_seed(seed)
    focal = 0.9 * width
    depth = 2.0 + 4.0 * torch.rand(n, 1, generator=g) ** 2
    pixels = torch.rand(n, 2, generator=g) * torch.tensor([width, height]) * 1.1 - 0.05 * torch.tensor([width, height])
    means = torch.cat([(pixels - torch.tensor([width, height]) / 2) / focal * depth, depth], dim=-1)
    sigma = size * (width * height / n) ** 0.5 / focal * depth
    scene = {
        "means": means,
        "quats": torch.randn(n, 4, generator=g),
        "scales": sigma * torch.exp(0.6 * torch.randn(n, 3, generator=g)),
        "opacities": 0.05 + 0.9 * torch.rand(n, generator=g),
        "colors": 0.3 * torch.randn(n, 16, 3, generator=g),
    }
    Ks = torch.tensor([[[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]]])
    return scene, torch.eye(4)[None], Ks


def measure(step: Callable[[], tuple[Tensor, Tensor]], repeats: int) -> tuple[list[float], list[float]]:
    """Least CPU and wall milliseconds of (forward, backward); step returns (what to pull, its gradient)."""
    cpu, wall = [float("inf")] * 2, [float("inf")] * 2
    for _ in range(repeats):
        marks = [(time.process_time(), time.perf_counter())]
        output, gradient = step()
        _wait(output)
        marks.append((time.process_time(), time.perf_counter()))
        output.backward(gradient)
        _wait(output)
        marks.append((time.process_time(), time.perf_counter()))
        for i in range(2):
            cpu[i] = min(cpu[i], 1e3 * (marks[i + 1][0] - marks[i][0]))
            wall[i] = min(wall[i], 1e3 * (marks[i + 1][1] - marks[i][1]))
    return cpu, wall


def _wait(tensor: Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize()


def machine() -> str:
    """Processor, number of cores, and GPU."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        name = f"{models[0]} x {len(models)}" if models else name
    return name + (f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no CUDA")


def main() -> None:
    """Measure, print, and compare with CUDA where there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gaussians", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=480)
    parser.add_argument("--height", type=int, default=270)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--size", type=float, default=1.0, help="of a Gaussian, in distances between neighbours")
    parser.add_argument("--sh-degree", type=int, default=3)
    parser.add_argument("--render-mode", default="RGB")
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # its own operations are small here
    os.environ["DAS3R_RASTER_THREADS"] = str(arguments.threads)
    scene, viewmats, Ks = make_scene(arguments.gaussians, arguments.width, arguments.height, arguments.size)
    print(f"machine: {machine()}; torch {torch.__version__}, {arguments.threads} threads")
    devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    results: dict[str, list[Tensor]] = {}
    for device in devices:
        leaves = {name: scene[name].to(device).requires_grad_() for name in NAMES}
        cameras = (viewmats.to(device), Ks.to(device))

        def step(leaves: dict[str, Tensor] = leaves, cameras: tuple[Tensor, Tensor] = cameras) -> tuple[Tensor, Tensor]:
            for leaf in leaves.values():
                leaf.grad = None
            render, _, _ = rasterization(
                means=leaves["means"], quats=leaves["quats"], scales=leaves["scales"], opacities=leaves["opacities"],
                colors=leaves["colors"], viewmats=cameras[0], Ks=cameras[1],
                width=arguments.width, height=arguments.height,
                sh_degree=arguments.sh_degree, render_mode=arguments.render_mode, absgrad=True,
            )  # fmt: skip
            return render, torch.ones_like(render) / render.numel()

        begin = time.process_time()
        render, gradient = step()
        render.backward(gradient)
        compile_seconds = time.process_time() - begin
        cpu, wall = measure(step, arguments.repeats)
        results[device] = [render.detach().cpu()] + [
            leaf.grad.cpu() for leaf in leaves.values() if leaf.grad is not None
        ]
        times = f"{wall[0]:.1f} + {wall[1]:.1f} ms wall" + (
            f", {cpu[0]:.1f} + {cpu[1]:.1f} ms CPU" if device == "cpu" else ""
        )
        print(
            f"{device}: {arguments.gaussians} Gaussians at {arguments.width} x {arguments.height}: forward + backward"
            f" {times}; {1e3 / sum(wall):.1f} it/s; first call {compile_seconds:.1f} CPU s"
        )
    if "cuda" in results:
        for name, ours, theirs in zip(("image", *NAMES), results["cpu"], results["cuda"], strict=True):
            difference = ours - theirs
            print(f"  {name}: largest difference {float(difference.abs().max()):.2e}, "
                  f"norm relative {float(difference.norm() / theirs.norm()):.2e}")  # fmt: skip


if __name__ == "__main__":
    main()
