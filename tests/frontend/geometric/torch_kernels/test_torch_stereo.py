"""The plane sweep in torch against the one compiled by numba."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from das3r_ns.frontend.geometric import stereo
from das3r_ns.frontend.geometric import stereo_kernels as numba_kernels
from das3r_ns.frontend.geometric.torch_kernels import stereo as torch_kernels
from das3r_ns.scene import geometry as geo

HEIGHT, WIDTH, LEVELS = 24, 37, 34


def smooth(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Pictures with texture of a few pixels."""
    noise = rng.uniform(90, 160, shape).astype(np.float32)
    return np.stack([cv2.GaussianBlur(picture, (0, 0), 1.5) for picture in noise])


@pytest.mark.parametrize(("count", "some_move"), [(1, True), (3, False), (7, True)])
def test_matching_costs_are_those_of_numba(count: int, some_move: bool) -> None:
    rng = np.random.default_rng(count)
    pictures = smooth(rng, count + 1, HEIGHT, WIDTH, 3).astype(np.uint8)
    usable = rng.random((count, HEIGHT, WIDTH)) > (0.1 if some_move else -1)
    k = geo.pinhole(30.0, WIDTH, HEIGHT)
    turned = geo.se3_exp(rng.normal(0, 0.03, (count, 6)))
    rays = (k @ turned[:, :3, :3] @ np.linalg.inv(k)).astype(np.float32)
    offsets = (rng.normal(0, 0.2, (count, 3)) @ k.T).astype(np.float32)
    levels = np.linspace(0.05, 2.5, LEVELS, dtype=np.float32)
    words = numba_kernels.packed(pictures[1:], usable)
    there = numba_kernels.matching_costs(pictures[0], words, np.arange(count), rays, offsets, levels, 20.0)
    image, sources, allowed, *geometry = map(
        torch.from_numpy, (pictures[0], pictures[1:], usable, rays, offsets, levels)
    )
    here = torch_kernels.matching_costs(
        image.float(), sources, allowed if some_move else None, *geometry, limit=20.0
    ).numpy()
    assert there.std() > 1.0, "costs that differ"
    # A point on the very edge of a pixel or of a picture may fall on its other side.
    assert (np.abs(here - there) > 1e-2).mean() < 1e-3


def test_paths_are_those_of_numba_also_where_frames_try_different_numbers_of_depths() -> None:
    rng = np.random.default_rng(0)
    costs = rng.uniform(0, 20, (2, HEIGHT, WIDTH, LEVELS)).astype(np.float32)
    guide = smooth(rng, 2, HEIGHT, WIDTH, 3)
    tried = (LEVELS, LEVELS - 9)
    padded = torch.full(costs.shape, torch_kernels.NEVER)
    for out, own, count in zip(padded, costs, tried, strict=True):
        out[..., :count] = torch.from_numpy(own[..., :count])
    total = torch_kernels.semi_global_costs(padded, torch.from_numpy(guide), 6.0, 60.0, 30.0)
    found = torch_kernels.best_levels(total, padded, torch.tensor(tried))
    for frame, count in enumerate(tried):
        own = np.ascontiguousarray(costs[frame, ..., :count])
        summed = numba_kernels.semi_global_costs(own, guide[frame], 6.0, 60.0, 30.0)
        np.testing.assert_allclose(total[frame, ..., :count].numpy(), summed, rtol=1e-4, atol=1e-3)
        for here, there in zip(found, numba_kernels.best_levels(summed, own), strict=True):
            assert (np.abs(here[frame].numpy() - there) > 1e-2).mean() < 2e-3


def test_windows_are_averaged_as_opencv_does() -> None:
    costs = np.random.default_rng(0).uniform(0, 20, (2, 5, 6, 4)).astype(np.float32)
    there = np.stack([cv2.blur(frame, (3, 3)) for frame in costs])
    np.testing.assert_allclose(torch_kernels._blurred(torch.from_numpy(costs)).numpy(), there, atol=1e-4)


@pytest.mark.parametrize("memory", [None, 0])
def test_frames_are_matched_alike(demo_video, monkeypatch: pytest.MonkeyPatch, memory: int | None) -> None:
    """The whole way, in one batch and frame by frame."""
    if memory is not None:
        monkeypatch.setattr(torch_kernels, "room", lambda device: memory)
    monkeypatch.setattr(stereo, "LONG_SIDE", 112)
    truth = demo_video.estimate
    wrong = 1 + 0.2 * np.linspace(-1, 1, truth.height, dtype=np.float32)[:, None]
    prior, trust = truth.depth * wrong, np.full(truth.depth.shape, 0.3, np.float32)
    cameras, static = (truth.intrinsics, truth.c2w_cv), 1.0 - truth.dynamic_probability
    ticks: list[int] = []

    def match(device: torch.device | None) -> stereo.Matches:
        ticks.clear()
        found = stereo.match_frames(demo_video.images, *cameras, prior, trust, static, lambda: ticks.append(1), device)
        assert found is not None and len(ticks) == truth.num_frames
        return found

    there, here = match(None).frames, match(torch.device("cpu")).frames
    assert np.mean([frame.confidence > 0.2 for frame in there]) > 0.3
    for one, other in zip(there, here, strict=True):
        assert (np.abs(other.inverse_depth / one.inverse_depth - 1) > 1e-3).mean() < 2e-3
        assert (np.abs(other.confidence - one.confidence) > 1e-2).mean() < 5e-3
