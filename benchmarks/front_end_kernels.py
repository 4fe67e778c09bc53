"""The front end's dense kernels on the CPU (numba, all cores) and on a device (torch): milliseconds and differences.

``python benchmarks/front_end_kernels.py OUTPUT.json [--device cuda] [--frames 12]``. The frames are made: a textured
wall with boxes before it, seen by a camera that moves past, at 512 x 288 and at 960 x 540 pixels.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import tyro

from das3r_ns.files import write_json
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.geometric import dense_depth, dense_depth_kernels, stereo
from das3r_ns.frontend.geometric.motion import RigidPrediction, look_behind
from das3r_ns.frontend.geometric.motion.memory import gone_elsewhere
from das3r_ns.frontend.geometric.torch_kernels.arrays import on_device
from das3r_ns.frontend.geometric.torch_kernels.choice import dense_device, described_device
from das3r_ns.frontend.geometric.torch_kernels.depth import inverse_depth_from_flows
from das3r_ns.frontend.run import load_or_estimate
from das3r_ns.scene import geometry as geo
from das3r_ns.scene.estimate import SceneEstimate
from das3r_ns.scene.points import fused_points
from das3r_ns.workers import workers

SIZES = ((512, 288), (960, 540))
FLOWS = 8
"""Flows that the depth of a frame is found from."""

MAX_POINTS = 1_000_000
"""Most seed points."""


@dataclass
class Arguments:
    """Measure the front end's dense kernels."""

    output: tyro.conf.Positional[Path]
    """JSON file to write."""
    device: str = "cuda"
    """Where torch's kernels run."""
    frames: int = 12
    """Frames of the clip."""


@dataclass(frozen=True)
class Scene:
    """Frames of a world that is known."""

    images: np.ndarray
    intrinsics: np.ndarray
    c2w_cv: np.ndarray
    depth: np.ndarray

    @classmethod
    def made(cls, count: int, width: int, height: int) -> Scene:
        """A wall with a row of boxes before it; every frame is drawn back to front by homographies of its planes.

        Its depth is off by what the slight turn does to it, as a measured one would be.
        """
        rng = np.random.default_rng(0)
        k = geo.pinhole(0.8 * width, width, height)
        way = np.linspace(-1, 1, count)[:, None]
        c2w = geo.se3_exp(way * [0.6, 0.07, 0.11, 0.013, 0.021, 0.007])
        texture = [cv2.GaussianBlur(rng.integers(0, 255, (512, 512, 3), np.uint8), (0, 0), 1.5) for _ in range(5)]
        planes = [(4.0, -6.0, -4.0, 12.0)] + [(2.2 + 0.2 * n, -1.6 + 0.9 * n, -0.3, 0.5) for n in range(4)]
        images, depths = np.zeros((count, height, width, 3), np.uint8), np.zeros((count, height, width), np.float32)
        for i, pose in enumerate(geo.invert_rigid(c2w)):
            for box, (picture, (z, left, top, side)) in enumerate(zip(texture, planes, strict=True)):
                if box == 4 and i >= count // 2:
                    continue  # it is gone from then on
                grown = cv2.convertScaleAbs(picture, alpha=3.0, beta=-250)
                place = np.array([[side / 512, 0, left], [0, side / 512, top], [0, 0, z]])
                onto = k @ (pose[:3, :3] @ place + np.array([[0, 0, 1]]) * pose[:3, 3:])
                drawn = cv2.warpPerspective(grown, onto, (width, height), flags=cv2.INTER_AREA)
                there = cv2.warpPerspective(np.ones((512, 512), np.uint8), onto, (width, height)) > 0
                images[i][there], depths[i][there] = drawn[there], z + pose[2, 3]
        return cls(images, np.tile(k, (count, 1, 1)), c2w, depths)


def main(arguments: Arguments) -> None:
    """Measure and write."""
    device = dense_device(arguments.device, "torch")
    assert device is not None
    write_json(arguments.output, measure(device, arguments.frames))


def measure(
    device: torch.device,
    frames: int,
    sizes: tuple[tuple[int, int], ...] = SIZES,
    seconds: float = float("inf"),
    on_kernel: Callable[[dict[str, Any]], None] = lambda found: None,
) -> dict[str, Any]:
    """Milliseconds a frame of each kernel by both, and how far their results are apart.

    Args:
        device: Where torch's kernels run.
        frames: Frames of the clip.
        sizes: Width and height of the frames.
        seconds: Kernels that come later than this are left out.
        on_kernel: Called with what was found so far after each kernel.
    """
    found: dict[str, Any] = {"device": described_device(device), "frames": frames}
    end = time.perf_counter() + seconds
    for width, height in sizes:
        scene = Scene.made(frames, width, height)
        for name, kernel in KERNELS.items():
            if time.perf_counter() < end:
                found[f"{name} {width}x{height}"] = _both(kernel(scene), device, frames)
                on_kernel(found)
    return found


Run = Callable[[torch.device | None], dict[str, np.ndarray]]
"""A kernel on a clip, on a device of torch or (None) by numba; gives its results by name."""


def _both(run: Run, device: torch.device, frames: int) -> dict[str, Any]:
    (there, cpu_ms), (here, ms) = (_timed(run, where, frames) for where in (None, device))
    apart = {}
    for name, known in there.items():
        # Where hardly anything differs from zero the quantile says nothing.
        size = max(float(np.quantile(np.abs(known), 0.99)), 0.01 * float(np.abs(known).max())) or 1.0
        difference = np.abs(here[name] - known) / size
        apart[name] = {"most": float(difference.max()), "share_above_1e-3": float((difference > 1e-3).mean())}
    return {"cpu_ms": cpu_ms, "ms": ms, "apart": apart}


def _timed(run: Run, device: torch.device | None, frames: int) -> tuple[dict[str, np.ndarray], float]:
    """Results, which have come back to the CPU, and milliseconds a frame of the second time."""
    run(device)
    start = time.perf_counter()
    results = run(device)
    return results, 1000 * (time.perf_counter() - start) / frames


def _stereo(scene: Scene) -> Run:
    """Plane sweep and semi-global matching, at the size of the frames."""
    trust = np.full(scene.depth.shape, 0.3, np.float32)

    def run(device: torch.device | None) -> dict[str, np.ndarray]:
        stereo.LONG_SIDE = scene.images.shape[2]
        matches = stereo.match_frames(
            scene.images, scene.intrinsics, scene.c2w_cv, 1.1 * scene.depth, trust, device=device
        )
        assert matches is not None
        return {name: np.stack([vars(frame)[name] for frame in matches.frames]) for name in vars(matches.frames[0])}

    return run


def _filling(scene: Scene) -> Run:
    """Depths of frames checked against each other, and gaps filled as after stereo."""
    rng = np.random.default_rng(1)
    confidence = np.where(rng.random(scene.depth.shape) > 0.4, rng.random(scene.depth.shape), 0.0).astype(np.float32)
    measured = [dense_depth.DenseDepth(1.0 / d, c) for d, c in zip(scene.depth, confidence, strict=True)]
    sight = dense_depth.Sight(
        lambda i, others: geo.invert_rigid(scene.c2w_cv[others]) @ scene.c2w_cv[i], scene.intrinsics[0, 0, 0], 0.06
    )

    def run(device: torch.device | None) -> dict[str, np.ndarray]:
        depth, sure = dense_depth.agree_and_fill(measured, sight, scene.images, dense_depth.CLOSE, device=device)
        return {"inverse_depth": 1.0 / depth, "confidence": sure}

    return run


def _from_flows(scene: Scene) -> Run:
    """Inverse depth from flows, as cameras are held."""
    rng = np.random.default_rng(2)
    others = np.argsort(np.abs(np.arange(len(scene.images)) - 1), kind="stable")[1 : FLOWS + 1]
    focal, motion = scene.intrinsics[0, 0, 0], geo.invert_rigid(scene.c2w_cv[others]) @ scene.c2w_cv[1]
    shift = focal * motion[:, 0, 3, None, None] / scene.depth[1]
    fields = np.stack([shift, np.zeros_like(shift)], axis=-1) + rng.normal(0, 0.2, (*shift.shape, 2))
    weights = rng.random(shift.shape)
    scales = 0.5 + 0.02 * np.abs(shift)
    start = np.stack([0.8 / scene.depth[1], 1.25 / scene.depth[1]])
    as_they_come = [part.astype(np.float32) for part in (start, fields, weights, scales)]
    poses = [np.ascontiguousarray(part) for part in (motion[:, :3, :3], motion[:, :3, 3])]
    arguments: list[Any] = [*as_they_come, *poses, float(focal), (1e-3, 50.0)]
    frames = len(scene.images)

    def run(device: torch.device | None) -> dict[str, np.ndarray]:
        kernel = dense_depth_kernels.inverse_depth_from_flows
        if device is not None:
            kernel = on_device(inverse_depth_from_flows, device)
        with ThreadPoolExecutor(max_workers=workers() if device is None else 1) as pool:
            over = pool.map if device is None else map
            solved = list(over(lambda _: kernel(*arguments), range(frames)))
        inverse_depth, information, loss = solved[0]
        return {"inverse_depth": inverse_depth, "information": information, "loss": loss}

    return run


def _rigid(scene: Scene) -> tuple[RigidPrediction, np.ndarray]:
    rng = np.random.default_rng(3)
    patches = np.stack([cv2.blur(noise, (15, 15)) for noise in rng.random((2, *scene.depth.shape[1:]))])
    measured, static = (
        np.repeat(patch[None], len(scene.images), axis=0).astype(np.float32) for patch in patches > 0.49
    )
    return RigidPrediction(scene.depth, 0.8 * measured, scene.intrinsics, scene.c2w_cv), static


def _behind(scene: Scene) -> Run:
    """What other frames see behind each one."""
    matched, static = _rigid(scene)

    def run(device: torch.device | None) -> dict[str, np.ndarray]:
        look = look_behind(scene.images, matched, static, device=device)
        return {name: getattr(look, name) for name in ("change", "witnessed", "missing", "at_rest")}

    return run


def _gone(scene: Scene) -> Run:
    """What stands in some frames and is gone in others."""
    matched, static = _rigid(scene)
    return lambda device: {"gone": gone_elsewhere(scene.images, matched, static, device)}


def with_numba(frames: Path, copy: Path, estimate: SceneEstimate) -> dict[str, Any]:
    """Seconds of the front end's stages with its dense kernels on the CPU, and how far its results are apart.

    Args:
        frames: Folder of the frames.
        copy: Folder to copy them to, that results are kept apart.
        estimate: What the front end made of them otherwise.
    """
    shutil.copytree(frames, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".das3r"))
    other = load_or_estimate(copy, FrontEndConfig(front_end="geometric", kernels="numba")).estimate
    either = (estimate.dynamic_probability > 0.5, other.dynamic_probability > 0.5)
    sure = np.minimum(estimate.confidence, other.confidence) > 0.5
    apart = {"masks_iou": float((either[0] & either[1]).sum() / max((either[0] | either[1]).sum(), 1))}
    if sure.any():
        apart["depth_median"] = float(np.median(np.abs(estimate.depth[sure] / other.depth[sure] - 1)))
    return {"front_end_numba_s": other.provenance["seconds"], "front_ends_apart": apart}


def _fusion(scene: Scene) -> Run:
    """Seed points fused from all frames; what is compared is how many there are, and where they are on the whole."""
    confidence = np.full(scene.depth.shape, 0.8, np.float32)
    estimate = SceneEstimate(
        frame_names=[str(i) for i in range(len(scene.images))],
        c2w_cv=scene.c2w_cv,
        intrinsics=scene.intrinsics,
        depth=scene.depth,
        confidence=confidence,
        dynamic_probability=np.zeros_like(confidence),
    )

    def run(device: torch.device | None) -> dict[str, np.ndarray]:
        points = fused_points(estimate, scene.images, range(len(scene.images)), MAX_POINTS, device=device)
        return {"number": np.array([len(points.xyz)]), "middle": np.quantile(points.xyz, (0.1, 0.5, 0.9), axis=0)}

    return run


KERNELS: dict[str, Callable[[Scene], Run]] = {
    "stereo": _stereo,
    "agree and fill": _filling,
    "depth from flows": _from_flows,
    "look behind": _behind,
    "gone elsewhere": _gone,
    "fusion of points": _fusion,
}

if __name__ == "__main__":
    main(tyro.cli(Arguments))
