"""Dense depth in torch against what numba and OpenCV make of the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from das3r_ns.frontend.geometric import dense_depth_kernels as numba_kernels
from das3r_ns.frontend.geometric.dense_depth import CLOSE, SMOOTH, DenseDepth, Filling, Sight, agree_and_fill
from das3r_ns.frontend.geometric.smoothing_kernels import smooth_along_image
from das3r_ns.frontend.geometric.torch_kernels import depth as torch_kernels
from das3r_ns.frontend.geometric.torch_kernels import filling as torch_filling
from das3r_ns.frontend.geometric.torch_kernels.arrays import on_device
from das3r_ns.scene import geometry as geo

CPU = torch.device("cpu")


def off(here: np.ndarray, there: np.ndarray, by: float) -> float:
    """Share of what differs by more than so much, relative to the largest of it that is common."""
    return float((np.abs(here - there) > by * np.quantile(np.abs(there), 0.99)).mean())


def test_depth_from_flows_is_that_of_numba(make_room: Callable[..., Any]) -> None:
    room = make_room(noise=0.1, mover=True)
    others = [1, 2, 4]
    fields = np.stack([room.flows.flow(0, j) for j in others])
    rng = np.random.default_rng(0)
    weights = np.where(rng.random(fields.shape[:3]) > 0.2, rng.random(fields.shape[:3]), 0).astype(np.float32)
    weights[:, :5, :5] = 0.0  # nothing is known there
    scales = (0.5 + 0.02 * np.linalg.norm(fields, axis=-1)).astype(np.float32)
    motion = geo.invert_rigid(room.c2w_cv[others]) @ room.c2w_cv[0]
    rough = np.median(1.0 / room.depth) * np.exp(rng.normal(0, 0.2, (2, *room.depth.shape[1:])))
    arguments = (
        rough.astype(np.float32), fields, weights, scales, np.ascontiguousarray(motion[:, :3, :3]),
        np.ascontiguousarray(motion[:, :3, 3]), room.focal, (1e-3, 50.0),
    )  # fmt: skip
    there = numba_kernels.inverse_depth_from_flows(*arguments)
    here = on_device(torch_kernels.inverse_depth_from_flows, CPU)(*arguments)
    np.testing.assert_array_equal(here[2][:5, :5], 1.0)
    # Where two starts fit alike, rounding takes the one or the other.
    for one, other in zip(here, there, strict=True):
        assert off(one, other, 1e-3) < 5e-3


def world(seed: int = 0) -> tuple[np.ndarray, np.ndarray, Sight]:
    """Inverse depths of five frames that see one slanted wall, some of them wrong, and how they see each other."""
    rng = np.random.default_rng(seed)
    count, height, width = 5, 33, 47
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    depths = (0.5 + 0.1 * x + 0.05 * y)[None] * np.ones((count, 1, 1))
    depths[rng.random(depths.shape) > 0.7] *= 1.3
    trust = rng.random(depths.shape)
    trust[:, 8:14] = 0.0
    poses = geo.se3_exp(np.concatenate([rng.normal(0, 0.05, (count, 3)), rng.normal(0, 0.02, (count, 3))], axis=1))
    sight = Sight(lambda i, others: poses[others] @ np.linalg.inv(poses[i]), 50.0, 0.1)
    return depths.astype(np.float32), trust.astype(np.float32), sight


def test_frames_agree_as_numba_says() -> None:
    depths, trust, sight = world()
    arguments = (depths[0], depths[1:], trust[1:], *sight.relative(0, [1, 2, 3, 4]), sight.focal, 0.05, sight.far)
    there = numba_kernels.compare_frames(*arguments)
    here = on_device(torch_kernels.compare_frames, CPU)(*arguments)
    assert all(part.max() > 0.5 for part in there)
    for one, other in zip(here, there, strict=True):
        assert off(one, other, 1e-3) < 5e-3  # a point on the edge of a pixel may fall on its other side


@pytest.mark.parametrize(("height", "width", "strength"), [(33, 47, 2000.0), (1, 64, 20.0), (20, 5, 20.0)])
def test_smoothing_solves_the_same_equations(height: int, width: int, strength: float) -> None:
    rng = np.random.default_rng(0)
    values = rng.random((2, height, width)).astype(np.float32)
    across, down = np.exp(-rng.exponential(1.0, (2, height, width))).astype(np.float32)
    across[:, -1], down[-1] = 0.0, 0.0
    there = smooth_along_image(values, across, down, strength, 4)
    inputs = (torch.from_numpy(part)[None] for part in (values, across, down))
    here = torch_filling.smooth_along_image(*inputs, strength=strength, rounds=4)[0].numpy()
    np.testing.assert_allclose(here, there, rtol=2e-3)


@pytest.mark.parametrize("filling", [CLOSE, SMOOTH])
@pytest.mark.parametrize("scale", [1, 2])
def test_frames_are_filled_alike(filling: Filling, scale: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the size of the depth and at one that is larger, in batches of two frames."""
    monkeypatch.setattr(torch_filling, "BATCH", 2)
    depths, trust, sight = world()
    rng = np.random.default_rng(1)
    size = (scale * depths.shape[2], scale * depths.shape[1])
    images = np.stack([cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), size) for _ in depths])
    measured = [DenseDepth(*frame) for frame in zip(depths, trust, strict=True)]
    ticks: list[int] = []
    there = agree_and_fill(measured, sight, images, filling)
    here = agree_and_fill(measured, sight, images, filling, lambda: ticks.append(1), CPU)
    assert len(ticks) == len(images)
    for one, other in zip(here, there, strict=True):
        assert one.dtype == np.float32 and one.shape == images.shape[:3]
        assert off(one, other, 2e-3) < 0.01
