"""What other frames show, in torch, against what numba makes of the same."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch

from das3r_ns.frontend.geometric.motion import RigidPrediction, look_behind, look_behind_kernels, memory_kernels
from das3r_ns.frontend.geometric.motion.memory import gone_elsewhere
from das3r_ns.frontend.geometric.torch_kernels import behind
from das3r_ns.frontend.geometric.torch_kernels.arrays import on_device
from das3r_ns.scene import geometry as geo

CPU = torch.device("cpu")
COUNT, HEIGHT, WIDTH = 6, 35, 48


@pytest.fixture()
def frames() -> dict[str, np.ndarray]:
    """Six frames of a wall with boxes before it, seen from around another camera."""
    rng = np.random.default_rng(0)
    depth = np.full((COUNT, HEIGHT, WIDTH), 0.3, np.float32) + rng.normal(0, 0.002, (COUNT, 1, 1)).astype(np.float32)
    for frame in depth:
        x, y = rng.integers(5, 30, 2)
        frame[y : y + 9, x : x + 12] = 0.5
    trust = np.where(rng.random(depth.shape) > 0.2, rng.random(depth.shape), 0.0).astype(np.float32)
    k = geo.pinhole(45.0, WIDTH, HEIGHT)
    motion = geo.se3_exp(np.concatenate([rng.normal(0, 0.15, (COUNT, 3)), rng.normal(0, 0.03, (COUNT, 3))], axis=1))
    noise = rng.uniform(0, 255, (COUNT, HEIGHT, WIDTH, 3)).astype(np.float32)
    return {
        "depth": depth,
        "trust": trust,
        "rays": (k @ motion[:, :3, :3] @ np.linalg.inv(k)).astype(np.float32),
        "offsets": (motion[:, :3, 3] @ k.T).astype(np.float32),
        "pictures": np.stack([cv2.GaussianBlur(picture, (0, 0), 1.0) for picture in noise]),
        "static": rng.random(depth.shape) > 0.15,
        "nearest": np.stack([cv2.dilate(frame, np.ones((3, 3), np.uint8)) for frame in depth]),
    }


def differ(here: np.ndarray, there: np.ndarray) -> float:
    """Share of pixels that differ by more than a thousandth of the largest value."""
    return float((np.abs(here - there) > 1e-3 * np.abs(there).max()).mean())


def test_the_nearest_surface_that_frames_agree_on(frames: dict[str, np.ndarray]) -> None:
    arguments: list[Any] = [*(frames[name] for name in ("depth", "trust", "rays", "offsets")), 0.3, 0.06, 0.1]
    there = look_behind_kernels.inverse_depth_from_others(*arguments)
    here = on_device(behind.inverse_depth_from_others, CPU)(*arguments)
    assert there[0].std() > 0.03
    for one, other in zip(here, there, strict=True):
        assert differ(one, other) < 5e-3  # what falls on the edge of a pixel, or is just near enough


def test_colours_behind(frames: dict[str, np.ndarray]) -> None:
    arguments: list[Any] = [
        frames["pictures"][0], frames["depth"][0],
        *(frames[name] for name in ("pictures", "static", "depth", "rays", "offsets")), 0.01,
    ]  # fmt: skip
    there = look_behind_kernels.colours_behind(*arguments)
    here = on_device(behind.colours_behind, CPU)(*arguments)
    assert there[2].min() == 0 and there[2].max() == COUNT
    for one, other in zip(here, there, strict=True):
        assert differ(one, other) < 5e-3


@pytest.mark.parametrize("step", [1, 2])
def test_what_is_there_and_what_is_gone(frames: dict[str, np.ndarray], step: int) -> None:
    arguments: list[Any] = [
        frames["pictures"][0], frames["depth"][0],
        *(frames[name] for name in ("pictures", "static", "depth", "nearest", "trust", "rays", "offsets")),
        0.06, 0.1, 60.0, step,
    ]  # fmt: skip
    there = memory_kernels.seen_there_and_gone(*arguments)
    here = on_device(behind.seen_there_and_gone, CPU)(*arguments)
    assert min(part.max() for part in there) > 0.2
    for one, other in zip(here, there, strict=True):
        assert one.shape == other.shape
        assert differ(one, other) < 5e-3


def test_the_second_look_is_the_same_by_both(demo_video) -> None:
    truth, part = demo_video.estimate, slice(0, 5)
    moves = truth.dynamic_probability[part] > 0.5
    reliability = np.where(moves, 0.0, 0.9).astype(np.float32)
    matched = RigidPrediction(truth.depth[part], reliability, truth.intrinsics[part], truth.c2w_cv[part])
    arguments = (demo_video.images[part], matched, np.ones_like(reliability))
    there, here = (look_behind(*arguments, device=device) for device in (None, CPU))
    for name in ("change", "witnessed", "still", "missing", "at_rest"):
        assert (np.abs(getattr(here, name) - getattr(there, name)) > 0.01).mean() < 0.01, name
    gone, known = (gone_elsewhere(*arguments, device=device) for device in (CPU, None))
    assert (np.abs(gone - known) > 0.01).mean() < 0.01
