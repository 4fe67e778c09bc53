"""The whole front end without weights, from pixels, against the demo's exact truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from das3r_ns.demo.write import write_demo
from das3r_ns.evaluation.metrics import ate_percent, focal_error, mask_iou
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.geometric.estimate import estimate, shrink
from das3r_ns.progress import Progress
from das3r_ns.scene.estimate import SceneEstimate


def run(images: np.ndarray, **settings: Any) -> SceneEstimate:
    """The estimate of some frames, at their own size."""
    return estimate(images, [f"{i:05d}" for i in range(len(images))], FrontEndConfig(**settings), Progress())


@pytest.mark.parametrize(
    "demo_settings",
    [{"num_frames": 36, "width": 320, "height": 180}, {"num_frames": 16, "width": 256, "height": 144, "moving": False}],
    ids=["moving", "static"],
)
def test_cameras_depth_and_movers_of_the_demo(
    tmp_path: Path, read_demo_folder: Callable, demo_settings: dict[str, Any]
) -> None:
    demo = read_demo_folder(write_demo(tmp_path / "room", **demo_settings))
    found, truth = run(demo.images), demo.estimate

    assert found.camera_kind == "general"
    assert ate_percent(found.c2w_cv, truth.c2w_cv) < 2.0
    assert focal_error(found.intrinsics, found.width, truth.intrinsics, truth.width) < 0.1
    moves = truth.dynamic_probability > 0.5
    if moves.any():
        assert mask_iou(found.dynamic_probability > 0.5, moves).mean() > 0.6
    else:
        assert (found.dynamic_probability > 0.5).mean() < 0.02

    # Depth is known up to one factor for the whole video.
    sure = (found.confidence > 0.5) & ~moves
    assert sure.mean() > 0.2
    ratio = found.depth[sure] / truth.depth[sure]
    assert np.median(np.abs(ratio / np.median(ratio) - 1)) < 0.05


def test_stereo_measures_what_flow_smears(tmp_path: Path, read_demo_folder: Callable) -> None:
    demo = read_demo_folder(write_demo(tmp_path / "room", num_frames=16, width=256, height=144))
    stays = demo.estimate.dynamic_probability < 0.5
    shares, overlaps = [], []
    for stereo in (False, True):
        found = run(demo.images, stereo=stereo)
        ratio = found.depth[stays] / demo.estimate.depth[stays]
        shares.append((np.abs(ratio / np.median(ratio) - 1) < 0.03).mean())
        overlaps.append(mask_iou(found.dynamic_probability > 0.5, ~stays).mean())
    assert shares[1] > 1.1 * shares[0]
    assert overlaps[1] > overlaps[0] + 0.02  # the second look


def test_a_picture_that_stands_still_is_a_tripod_where_nothing_moves(demo_video) -> None:
    found = run(np.repeat(demo_video.images[:1], 3, axis=0))
    assert found.camera_kind == "tripod"
    assert np.array_equal(found.c2w_cv, np.tile(np.eye(4), (3, 1, 1)))
    assert found.dynamic_probability.max() < 0.5


def test_frames_are_shrunk_never_enlarged() -> None:
    images = np.zeros((2, 480, 854, 3), np.uint8)
    assert shrink(images, 427).shape == (2, 240, 427, 3)
    assert shrink(images, 1000).shape == images.shape


def test_torch_kernels_give_the_same_scene(tmp_path: Path, read_demo_folder: Callable) -> None:
    """All the way, as on a GPU: what differs by rounding stays as small as it was."""
    demo = read_demo_folder(write_demo(tmp_path / "room", num_frames=8, width=128, height=72))
    there, here = (run(demo.images, kernels=kernels, device="cpu") for kernels in ("numba", "torch"))
    assert (there.provenance["kernels"], here.provenance["kernels"]) == ("numba", "torch on cpu")
    assert ate_percent(here.c2w_cv, there.c2w_cv) < 0.5
    assert mask_iou(here.dynamic_probability > 0.5, there.dynamic_probability > 0.5).mean() > 0.95
    sure = np.minimum(here.confidence, there.confidence) > 0.3
    assert sure.mean() > 0.1
    assert np.median(np.abs(here.depth[sure] / there.depth[sure] - 1)) < 0.005
