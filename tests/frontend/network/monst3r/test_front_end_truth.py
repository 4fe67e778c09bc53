"""With a network that knows the demo's truth but for noise, the front end finds cameras, depth and what moves."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from das3r_ns.evaluation.metrics import ate_percent, focal_error, mask_iou
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.network.monst3r import PairNetwork, front_end
from das3r_ns.frontend.network.monst3r.preprocessing import frame_maps, whole_framing
from das3r_ns.frontend.network.predictions import PairPredictions
from das3r_ns.frontend.pairs import Pair
from das3r_ns.progress import Progress
from das3r_ns.scene import geometry as geo
from das3r_ns.scene.estimate import SceneEstimate

CONFIG = FrontEndConfig(front_end="monst3r", checkpoint="true", network_size=160, device="cpu")
NOISE = 0.01
"""Standard deviation of every predicted point, as a share of its depth."""


class TrueNetwork:
    """Says of every pair what is true, at a scale of its own; its masks are vague and miss the movers in odd frames."""

    def __init__(self, truth: SceneEstimate) -> None:
        how = whole_framing(truth.width, truth.height, CONFIG.network_size)
        assert how.crop and how.resized == (truth.width, truth.height), "pixels are cut, not resized"
        left, top, right, bottom = how.box
        seen = np.s_[top:bottom, left:right]
        pixels = geo.pixel_centres(truth.height, truth.width)[seen].astype(np.float64)
        self.c2w = truth.c2w_cv
        self.points = [geo.unproject(pixels, d[seen], k) for d, k in zip(truth.depth, truth.intrinsics, strict=True)]
        self.moves = frame_maps(truth.dynamic_probability, how) > 0.5
        self.rng = np.random.default_rng(0)

    def predict(self, network: object, images: np.ndarray, pairs: Sequence[Pair], *_: Any, **more: Any):
        first = more["first_frame"]
        made: dict[str, list[np.ndarray]] = {name: [] for name in ("p1", "p2", "c1", "c2", "m")}
        for i, j in ((first + i, first + j) for i, j in pairs):
            scale = np.exp(self.rng.uniform(-0.5, 0.5))
            to_first = geo.invert_rigid(self.c2w[i]) @ self.c2w[j]
            for view, frame, points in ((1, i, self.points[i]), (2, j, geo.transform_points(to_first, self.points[j]))):
                noise = NOISE * points[..., 2:] * self.rng.standard_normal(points.shape)
                made[f"p{view}"].append(scale * (points + noise))
                made[f"c{view}"].append(np.where(self.moves[frame], 1.5, 6.0))
            known = self.moves[i] & (i % 2 == 0)
            made["m"].append(np.clip(np.where(known, 0.8, 0.15) + 0.05 * self.rng.standard_normal(known.shape), 0, 1))
        assert made["p1"][0].shape[:2] == images.shape[1:3]
        tensors = [torch.from_numpy(np.stack(values).astype(np.float16)) for values in made.values()]
        return PairPredictions(list(pairs), *tensors)


@pytest.fixture()
def true_network(demo_video, quick: PairNetwork, monkeypatch: pytest.MonkeyPatch) -> TrueNetwork:
    network = TrueNetwork(demo_video.estimate)
    monkeypatch.setattr(front_end, "predict_pairs", network.predict)
    monkeypatch.setattr(front_end, "load_network", lambda path: quick)
    monkeypatch.setattr(front_end, "hub", SimpleNamespace(find_checkpoint=lambda *_: Path("true")))
    return network


@pytest.mark.parametrize("window", [100, 8], ids=["one-window", "windows"])
def test_finds_cameras_depth_and_movers(demo_video, true_network: TrueNetwork, window: int) -> None:
    truth = demo_video.estimate
    config = dataclasses.replace(CONFIG, window=window)
    progress = Progress(Console(file=io.StringIO()))
    scene = front_end.estimate(demo_video.images, truth.frame_names, config, progress)
    assert ate_percent(scene.c2w_cv, truth.c2w_cv) < 1.0
    assert focal_error(scene.intrinsics, truth.width, truth.intrinsics, truth.width) < 0.01
    # Half a pixel, or a crop not undone, would show: 7 rows are cut, some 5 degrees.
    assert np.abs(scene.intrinsics[:, :2, 2] - truth.intrinsics[:, :2, 2]).max() < 0.75
    known = (scene.confidence > 0) & (truth.dynamic_probability < 0.5)
    assert known.mean() > 0.6 and not (scene.confidence[:, [0, -1]] > 0).any()
    ratio = scene.depth[known] / truth.depth[known]
    assert np.median(np.abs(ratio / np.median(ratio) - 1)) < 0.01


@pytest.mark.parametrize("window", [100, 8], ids=["one-window", "windows"])
def test_a_focal_for_each_frame(demo_video, true_network: TrueNetwork, window: int) -> None:
    truth = demo_video.estimate
    config = dataclasses.replace(CONFIG, window=window, focal="per_frame")
    scene = front_end.estimate(demo_video.images, truth.frame_names, config, Progress(Console(file=io.StringIO())))
    focals = scene.intrinsics[:, 0, 0]
    assert len(np.unique(focals)) == truth.num_frames
    np.testing.assert_allclose(focals, truth.intrinsics[:, 0, 0], rtol=0.05)


def test_network_and_flow_together_see_more_than_the_network(demo_video, true_network: TrueNetwork) -> None:
    truth = demo_video.estimate
    scene = front_end.estimate(demo_video.images, truth.frame_names, CONFIG, Progress(Console(file=io.StringIO())))
    alone = np.stack([m & (k % 2 == 0) for k, m in enumerate(true_network.moves)])
    alone_iou = mask_iou(alone, true_network.moves)
    iou = mask_iou(scene.dynamic_probability > 0.5, truth.dynamic_probability > 0.5)
    assert iou.mean() > alone_iou.mean() + 0.05
    assert iou[0::2].mean() > 0.75, "flow takes nothing from what the network sees"
    assert iou[1::2].mean() > 0.25, "and finds some of what it misses, even in a picture of 160 pixels"
