"""Masks refined with SAM 2: what is asked of it, what is believed, and what happens where it cannot be had.

The network itself is not here: a stand-in with the interface of transformers' model and processor knows the truth.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from das3r_ns.frontend import run, sam2
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.progress import Progress

N, H, W = 6, 60, 90
IMAGES = np.zeros((N, H, W, 3), np.uint8)
SAM2 = FrontEndConfig(refine_masks="sam2", long_side=160)


def disc(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:H, :W]
    return (columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 < radius**2


THINGS = [
    np.stack([disc(20 + 4 * t, 30, 10) for t in range(N)]),
    np.stack([disc(70, 15 + 5 * t, 6) if t >= 2 else np.zeros((H, W), bool) for t in range(N)]),
    np.stack([disc(10, 50, 4) for _ in range(N)]),
]
"""One that is there throughout, one that comes in at frame 2, and one that stands still."""


class StandIn:
    """Model and processor in one: follows the thing under the prompted point, or everything where there is none."""

    def __init__(self, things: list[np.ndarray] = THINGS) -> None:
        self.things = things
        self.prompts: list[SimpleNamespace] = []

    def init_video_session(self, *, video: list[np.ndarray], inference_device: str) -> SimpleNamespace:
        assert len(video) == N and video[0].shape == (H, W, 3) and inference_device == "cpu"
        return SimpleNamespace()

    def add_inputs_to_inference_session(self, *, inference_session: SimpleNamespace, **prompt: Any) -> None:
        boxes, points, labels = (prompt[f"input_{kind}"] for kind in ("boxes", "points", "labels"))
        count = len(prompt["obj_ids"])
        assert np.shape(boxes) == (1, count, 4)
        assert np.shape(points) == (1, count, 1, 2) and np.shape(labels) == (1, count, 1)
        inference_session.__dict__.update(prompt)
        self.prompts.append(inference_session)

    def __call__(self, *, inference_session: SimpleNamespace, frame_idx: int) -> None:
        assert frame_idx == inference_session.frame_idx

    def propagate_in_video_iterator(
        self, *, inference_session: SimpleNamespace, start_frame_idx: int, reverse: bool
    ) -> Iterator[SimpleNamespace]:
        found = []
        for [(x, y)] in inference_session.input_points[0]:
            under = [thing for thing in self.things if thing[start_frame_idx, int(y), int(x)]]
            found.append(under[0] if under else np.ones((N, H, W), bool))
        for t in range(start_frame_idx, -1 if reverse else N, -1 if reverse else 1):
            logits = torch.from_numpy(np.stack([thing[t] for thing in found])[:, None] * 20.0 - 10)
            yield SimpleNamespace(frame_idx=t, pred_masks=logits)

    @staticmethod
    def post_process_masks(masks: list[torch.Tensor], *, original_sizes: Any, binarize: bool) -> list[torch.Tensor]:
        assert original_sizes == [[H, W]] and not binarize
        return masks


def rough(*things: np.ndarray) -> np.ndarray:
    """Dynamic probability that is right about where things are and wrong about their outlines."""
    out = np.full((N, H, W), 0.1, np.float32)
    for thing in things:
        out[thing] = 0.8
        out[np.roll(thing, 3, axis=2)] = 0.7
    return out


def test_prompts_are_a_box_and_the_point_deepest_inside(tmp_path: Path) -> None:
    prompts = sam2.find_prompts(np.where(THINGS[0] | THINGS[1], 0.9, 0.0), np.zeros(N, bool))
    assert prompts is not None and prompts.frame >= 2
    x = 20 + 4 * prompts.frame
    np.testing.assert_allclose(prompts.boxes[0], [x - 10, 20, x + 10, 40], atol=1)
    np.testing.assert_allclose(prompts.points, [[x, 30], [70, 15 + 5 * prompts.frame]], atol=1.5)
    assert [mask.sum() for mask in prompts.masks] == [THINGS[k][prompts.frame].sum() for k in (0, 1)]
    assert sam2.find_prompts(np.full((N, H, W), 0.4), np.zeros(N, bool)) is None


def test_outlines_become_those_of_the_tracks() -> None:
    stand_in = StandIn()
    dynamic = rough(THINGS[0], THINGS[1])
    refined = sam2.refine_with(sam2.Tracker(stand_in, stand_in), IMAGES, dynamic)
    moves = THINGS[0] | THINGS[1]
    assert ((dynamic > 0.5) != moves).mean() > 0.01
    np.testing.assert_array_equal(refined > 0.5, moves)
    assert refined[moves].min() > 0.99 and refined.dtype == np.float32


def test_what_is_not_in_one_key_frame_is_prompted_in_another() -> None:
    stand_in = StandIn()
    dynamic = rough(THINGS[0])
    dynamic[1:5][THINGS[0][1:5]] = 0.1  # lost in the middle, so that no frame has both
    dynamic[1:5][np.roll(THINGS[0], 3, axis=2)[1:5]] = 0.1
    only_there = THINGS[1] & (np.arange(N) == 3)[:, None, None]
    dynamic[only_there] = 0.9
    sam2.refine_with(sam2.Tracker(stand_in, stand_in), IMAGES, dynamic)
    assert {prompt.frame_idx for prompt in stand_in.prompts} >= {3} and len(stand_in.prompts) >= 2


def test_a_track_of_something_else_is_not_believed() -> None:
    wrong = StandIn(things=[])  # takes the whole picture for the thing
    dynamic = rough(THINGS[0])
    np.testing.assert_array_equal(sam2.refine_with(sam2.Tracker(wrong, wrong), IMAGES, dynamic), dynamic)


def test_a_thing_that_mostly_stands_still_is_not_taken_for_a_mover() -> None:
    stand_in = StandIn()
    dynamic = np.zeros((N, H, W), np.float32)
    dynamic[2][THINGS[2][2]] = 0.9  # one frame's blunder
    np.testing.assert_array_equal(sam2.refine_with(sam2.Tracker(stand_in, stand_in), IMAGES, dynamic), dynamic)


def test_regions_without_a_track_stay_as_they_were_found() -> None:
    dynamic = rough(THINGS[0], THINGS[2])[0]
    merged = sam2.merge(dynamic, THINGS[0][0].astype(np.float32))
    there = (THINGS[2] | np.roll(THINGS[2], 3, axis=2))[0]
    np.testing.assert_array_equal(merged[there], dynamic[there])


def test_nothing_is_done_unless_asked_for() -> None:
    dynamic = rough(THINGS[0])
    progress = Progress()
    refined, did = sam2.refine_masks(IMAGES, dynamic, FrontEndConfig(), progress)
    assert refined is dynamic and not did and not progress.messages


@pytest.fixture()
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """transformers that can be found, and an empty hub cache."""
    find_spec = sam2.importlib.util.find_spec
    monkeypatch.setattr(sam2.importlib.util, "find_spec", lambda name: name == "transformers" or find_spec(name))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def test_without_transformers_it_is_left_out_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    # A None here makes Python treat the package as not installed, also where it is.
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setattr(sam2.importlib.util, "find_spec", lambda name: None)
    dynamic, progress = rough(THINGS[0]), Progress()
    refined, did = sam2.refine_masks(IMAGES, dynamic, SAM2, progress)
    assert refined is dynamic and not did
    assert len(progress.messages) == 1 and "das3r-ns[sam2]" in progress.messages[0]


def test_weights_are_never_downloaded_unasked(installed: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "--sam2-model" in str(sam2.unavailable(None))
    assert sam2.unavailable("owner/name") is None, "a name that was given may be downloaded"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in str(sam2.unavailable("owner/name"))
    assert "there is no folder" in str(sam2.unavailable("/no/such/folder"))
    (tmp_path / sam2.CONFIG).touch()
    assert sam2.unavailable(str(tmp_path)) is None


def test_weights_that_do_not_load_are_left_out_with_a_line(
    installed: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(source: str, **_: Any) -> None:
        raise OSError(f"{source} has no weights\nand much more")

    module: Any = ModuleType("transformers")
    module.Sam2VideoModel = module.Sam2VideoProcessor = SimpleNamespace(from_pretrained=broken)
    monkeypatch.setitem(sys.modules, "transformers", module)
    (tmp_path / sam2.CONFIG).touch()
    config = FrontEndConfig(refine_masks="sam2", sam2_model=str(tmp_path))
    dynamic, progress = rough(THINGS[0]), Progress()
    refined, did = sam2.refine_masks(IMAGES, dynamic, config, progress)
    assert refined is dynamic and not did
    assert progress.messages[0].endswith("has no weights.") and "much more" not in progress.messages[0]


def test_it_runs_where_the_settings_say_and_is_left_out_where_memory_ends(
    installed: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With a GPU in sight and ``--device cpu``; then on a GPU that is full."""
    asked = []

    class Full(StandIn):
        def to(self, device: str, dtype: torch.dtype) -> Full:
            asked.append((device, dtype))
            return self

        def eval(self) -> Full:
            return self

        def init_video_session(self, **_: Any) -> SimpleNamespace:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    module: Any = ModuleType("transformers")
    module.Sam2VideoModel = module.Sam2VideoProcessor = SimpleNamespace(from_pretrained=lambda *_, **__: Full())
    monkeypatch.setitem(sys.modules, "transformers", module)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    (tmp_path / sam2.CONFIG).touch()
    config = FrontEndConfig(refine_masks="sam2", sam2_model=str(tmp_path), device="cpu")
    dynamic, progress = rough(THINGS[0]), Progress()
    refined, did = sam2.refine_masks(IMAGES, dynamic, config, progress)
    assert asked == [("cpu", torch.float32)]
    assert refined is dynamic and not did
    assert progress.messages == ["Masks are not refined with SAM 2: cpu has no memory left for it."]


def test_a_result_that_could_not_be_refined_is_kept_as_the_one_without(
    demo_video, tmp_path: Path, oracle_front_end: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run.cache, "cache_roots", lambda _: [tmp_path / "cache", tmp_path / "other"])
    monkeypatch.setattr(sam2.importlib.util, "find_spec", lambda name: None)
    frames = demo_video.folder / "frames"
    plain = run.load_or_estimate(frames, FrontEndConfig(long_side=160))
    progress = Progress()
    scene = run.load_or_estimate(frames, SAM2, progress)
    assert scene.cache_dir == plain.cache_dir and len(oracle_front_end) == 1
    assert any("not refined with SAM 2" in message for message in progress.messages)
    assert run.load_or_estimate(frames, SAM2, require_cache=True).cache_dir == plain.cache_dir

    monkeypatch.setattr(sam2, "unavailable", lambda model: None)
    estimate = sys.modules["das3r_ns.frontend.geometric.estimate"].estimate

    def refining(*args: Any) -> Any:
        found = estimate(*args)
        found.provenance["refined"] = True
        return found

    monkeypatch.setitem(sys.modules, "das3r_ns.frontend.geometric.estimate", SimpleNamespace(estimate=refining))
    refined = run.load_or_estimate(frames, SAM2)
    assert refined.cache_dir != plain.cache_dir and len(oracle_front_end) == 2
    assert run.load_or_estimate(frames, SAM2, require_cache=True).cache_dir == refined.cache_dir
    assert run.load_or_estimate(frames, FrontEndConfig(long_side=160)).cache_dir == plain.cache_dir


@pytest.mark.slow
def test_the_interface_is_that_of_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers", minversion="5.0")
    torch.manual_seed(0)
    transformers.Sam2VideoModel(transformers.Sam2VideoConfig()).save_pretrained(tmp_path)
    parts = transformers.Sam2ImageProcessor(), transformers.Sam2VideoVideoProcessor()
    transformers.Sam2VideoProcessor(*parts).save_pretrained(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    config = FrontEndConfig(refine_masks="sam2", sam2_model=str(tmp_path))
    images = np.random.default_rng(0).integers(0, 255, (3, H, W, 3), dtype=np.uint8)
    refined, did = sam2.refine_masks(images, rough(THINGS[0], THINGS[1])[2:5], config, Progress())
    assert did and refined.shape == (3, H, W)
    assert refined.min() >= 0 and refined.max() <= 1, "random weights give random masks, but masks"
