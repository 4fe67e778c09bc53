"""The fusion of points in torch against that of numba, on the demo video with exact depth."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.spatial import KDTree

from das3r_ns.scene.points import fused_points

CPU = torch.device("cpu")


@pytest.mark.parametrize(("budget", "keep_dynamic"), [(1_000_000, False), (3000, False), (20_000, True)])
def test_both_make_the_same_cloud(demo_video, budget: int, keep_dynamic: bool) -> None:
    rng = np.random.default_rng(0)
    depth = demo_video.estimate.depth * np.exp(rng.normal(0, 0.01, demo_video.estimate.depth.shape))
    confidence = np.clip(rng.normal(0.5, 0.3, depth.shape), 0, 1).astype(np.float32)
    noisy = dataclasses.replace(demo_video.estimate, depth=depth.astype(np.float32), confidence=confidence)
    there, here = (
        fused_points(noisy, demo_video.images, range(12), budget, keep_dynamic, device) for device in (None, CPU)
    )
    assert len(there.xyz) > 1000
    # A point that falls on the edge of a pixel may be seen by its neighbour, and then another is made or is not.
    assert abs(len(here.xyz) / len(there.xyz) - 1) < 0.005
    distance, nearest = map(np.asarray, KDTree(there.xyz).query(here.xyz))
    assert (distance > 1e-4 * np.median(depth)).mean() < 0.01
    same = distance < 1e-4 * np.median(depth)
    off = np.abs(here.rgb[same].astype(int) - there.rgb[nearest[same]])
    assert (off > 1).mean() < 0.01
    assert (np.abs(here.staticness - there.staticness[nearest])[same] > 1e-3).mean() < 0.01
