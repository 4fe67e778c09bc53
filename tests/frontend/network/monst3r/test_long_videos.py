"""Videos longer than a window: one window's predictions at a time, and still each frame encoded once."""

from __future__ import annotations

import gc
import io
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.geometric.pair_flows import PairFlows
from das3r_ns.frontend.network.alignment import AlignmentResult
from das3r_ns.frontend.network.monst3r import PairNetwork, front_end
from das3r_ns.frontend.network.predictions import PairPredictions
from das3r_ns.progress import Progress


def nothing_moves(count: int, height: int, width: int) -> AlignmentResult:
    """A camera that stands still before a wall."""
    ones = np.ones((count, height, width), np.float32)
    return AlignmentResult(np.tile(np.eye(4), (count, 1, 1)), np.full(count, 50.0), ones, ones, ones)


class Watch:
    """Stands in for the alignment, and watches what is alive when it runs."""

    def __init__(self) -> None:
        self.predictions: list[weakref.ref[PairPredictions]] = []
        self.alive: list[int] = []
        self.tokens: list[int] = []
        self.known_tokens: dict = {}
        self.windows: list[range] = []
        self.storage: set[int] = set()
        self.first_frames: list[int] = []

    def align(
        self, predictions: PairPredictions, flows: PairFlows, *_: object, first_frame: int, **__: object
    ) -> AlignmentResult:
        gc.collect()
        self.storage.add(predictions.points1.data_ptr())
        self.first_frames.append(first_frame)
        self.predictions.append(weakref.ref(predictions))
        self.alive.append(sum(one() is not None for one in self.predictions))
        self.tokens.append(len(self.known_tokens))
        assert flows.num_frames == predictions.num_frames
        return nothing_moves(predictions.num_frames, predictions.height, predictions.width)

    def join(self, results: list[AlignmentResult], windows: list[range], **_: object) -> AlignmentResult:
        self.windows = list(windows)
        assert [result.num_frames for result in results] == [len(window) for window in windows]
        return nothing_moves(windows[-1].stop, *results[0].depth.shape[1:])


@pytest.fixture()
def watch(quick: PairNetwork, monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch()
    predict = front_end.predict_pairs

    def predicting(*args, **more) -> PairPredictions:
        watch.known_tokens = more["tokens"]
        return predict(*args, **more)

    def no_flow(images: np.ndarray, *_: object) -> PairFlows:
        return PairFlows(images.shape[1], images.shape[2], len(images), {}, np.zeros(images.shape[:3], np.float16))

    monkeypatch.setattr(front_end, "predict_pairs", predicting)
    monkeypatch.setattr(front_end, "global_align", watch.align)
    monkeypatch.setattr(front_end, "join_windows", watch.join)
    monkeypatch.setattr(front_end, "pick_flow", lambda device: (no_flow, "none"))
    monkeypatch.setattr(front_end, "motion_evidence", lambda *args: None)
    monkeypatch.setattr(front_end, "dynamic_probability", lambda images, *_: np.zeros(images.shape[:3], np.float32))
    monkeypatch.setattr(front_end, "load_network", lambda path: quick)
    monkeypatch.setattr(front_end, "hub", SimpleNamespace(find_checkpoint=lambda *_: Path("tiny")))
    return watch


def test_memory_does_not_grow_with_the_number_of_windows(
    watch: Watch, quick: PairNetwork, frames: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    decoded: list[int] = []
    encode, decode = quick.encode, quick.decode
    monkeypatch.setattr(quick, "encode", lambda images: encoded.append(len(images)) or encode(images))
    monkeypatch.setattr(quick, "decode", lambda *views, **more: decoded.append(len(views[0])) or decode(*views, **more))
    images = np.resize(frames(6, 48, 64), (300, 48, 64, 3))
    progress = Progress(Console(file=io.StringIO()))
    config = FrontEndConfig(network_size=64, pair_graph="swin-1-noncyclic", batch_size=32, device="cpu")
    scene = front_end.estimate(images, [str(number) for number in range(300)], config, progress)
    assert scene.num_frames == 300
    assert watch.windows == [range(start, start + 100) for start in (0, 50, 100, 150, 200)]
    assert watch.alive == [1] * 5, "predictions of one window at a time"
    assert len(watch.storage) == 1, "each takes the place of the one before"
    assert sum(decoded) == 2 * 299, "and each pair is predicted once"
    assert watch.first_frames == [0, 50, 100, 150, 200], "messages count from the start of the video"
    assert watch.tokens == [50, 50, 50, 50, 0], "tokens only of frames that the next window has too"
    assert sum(encoded) == 300, "and each frame is encoded once"
    assert "Window 2 of 5: frames 50 to 149." in progress.messages


def test_a_video_that_fits_one_window_is_not_cut(watch: Watch, frames: Callable[..., np.ndarray]) -> None:
    images = np.resize(frames(6, 48, 64), (20, 48, 64, 3))
    config = FrontEndConfig(network_size=64, pair_graph="swin-1-noncyclic", batch_size=32, device="cpu", window=20)
    progress = Progress(Console(file=io.StringIO()))
    front_end.estimate(images, [str(number) for number in range(20)], config, progress)
    assert not watch.windows and len(watch.alive) == 1
    assert not any(message.startswith("Window") for message in progress.messages)
