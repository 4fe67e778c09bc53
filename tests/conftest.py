"""A small demo video and the exact SceneEstimate of it, shared by the tests."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

# Weights that a developer has downloaded must not change which front end "auto" takes in the tests.
os.environ["HF_HUB_CACHE"] = str(Path(tempfile.gettempdir()) / "das3r-tests-have-no-weights")
if IN_WORKER := "PYTEST_XDIST_WORKER" in os.environ:
    # One thread each, of torch, of the rasteriser, which asks torch, and of OpenCV; their subprocesses inherit it.
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}

import cv2
import numpy as np
import torch
from filelock import FileLock
from jaxtyping import UInt8
from numba.core.dispatcher import Dispatcher

from das3r_ns.demo.write import write_demo
from das3r_ns.scene import cache
from das3r_ns.scene.estimate import SceneEstimate
from das3r_ns.scene.fisheye import Fisheye
from das3r_ns.scene.lens import Lens
from das3r_ns.scene.shutter import Shutter


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: nobody waits at the end for the worker that got the longest one last."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session", autouse=IN_WORKER)
def compile_in_turn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Workers compile one after the other: what one has compiled the others find in numba's cache.

    And the cache stays whole: processes that add to the index of one function at once lose each other's entries.
    """
    lock = FileLock(tmp_path_factory.getbasetemp().parent / "compiling.lock")
    compile_alone = Dispatcher.compile

    def compile_locked(self: Dispatcher, sig: Any) -> object:
        with lock:
            return compile_alone(self, sig)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dispatcher, "compile", compile_locked)
        yield


@dataclass(frozen=True)
class DemoVideo:
    """The demo video with its ground truth."""

    folder: Path
    """As written by `das3r demo`."""
    images: UInt8[np.ndarray, "N H W 3"]
    """The frames, RGB."""
    estimate: SceneEstimate
    """Exact cameras, depth (of what moves where it moves) and dynamic probability."""
    clean_depth: np.ndarray
    """[N, H, W] camera z without what moves."""


def read_demo(folder: Path) -> DemoVideo:
    """Read a demo folder back as an exact estimate."""
    names = sorted(path.stem for path in (folder / "frames").glob("*.png"))
    camera = json.loads((folder / "intrinsics.json").read_text())
    k = np.array([[camera["fx"], 0, camera["cx"]], [0, camera["fy"], camera["cy"]], [0, 0, 1.0]])
    c2w_cv = np.tile(np.eye(4), (len(names), 1, 1))
    c2w_cv[:, :3] = np.loadtxt(folder / "poses.txt").reshape(-1, 3, 4)
    # The world frame of an estimate is the camera frame of frame 0.
    c2w_cv = np.linalg.inv(c2w_cv[0]) @ c2w_cv

    def depth(kind: str) -> np.ndarray:
        return np.stack([np.load(folder / kind / f"{name}.npz")["depth"] for name in names]).astype(np.float32)

    masks = np.stack([cv2.imread(str(folder / "masks" / f"{name}.png"), cv2.IMREAD_GRAYSCALE) for name in names])
    images = np.stack([cv2.imread(str(folder / "frames" / f"{name}.png"))[..., ::-1] for name in names])
    estimate = SceneEstimate(
        frame_names=names,
        c2w_cv=c2w_cv,
        intrinsics=np.tile(k, (len(names), 1, 1)),
        depth=depth("depth"),
        confidence=np.ones(masks.shape, np.float32),
        dynamic_probability=(masks > 0).astype(np.float32),
    )
    return DemoVideo(folder, images, estimate, depth("clean_depth"))


@pytest.fixture(scope="session")
def read_demo_folder() -> Callable[[Path], DemoVideo]:
    """Reads a demo folder back as an exact estimate."""
    return read_demo


@pytest.fixture(scope="session")
def demo_video(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoVideo]:
    """Twelve frames of 160 x 90; all tests share the folder, so none writes into it."""
    video = read_demo(write_demo(tmp_path_factory.mktemp("demo") / "room", num_frames=12, width=160, height=90))
    yield video
    written = list(video.folder.rglob("*.das3r"))
    assert not written, f"A test has stored results in the folder that all tests share: {written}"


@dataclass(frozen=True)
class BentVideo(DemoVideo):
    """The demo video as a lens shows it that distorts; ``images`` are bent, everything else is of pinhole pictures."""

    frames: Path
    """Folder of the bent frames."""


@pytest.fixture(scope="session")
def bent_video(demo_video: DemoVideo, tmp_path_factory: pytest.TempPathFactory) -> BentVideo:
    """The demo's pinhole pictures are those that belong to the bent ones."""
    focal = float(demo_video.estimate.intrinsics[0, 0, 0])
    lens = Lens((160, 90), focal, focal, 80.0, 45.0, -0.15, 0.03, 0.001, -0.002, view=(80 / focal, 45 / focal))
    return _bent(demo_video, lens, tmp_path_factory.mktemp("bent") / "frames")


@pytest.fixture(scope="session")
def fisheye_video(demo_video: DemoVideo, tmp_path_factory: pytest.TempPathFactory) -> BentVideo:
    """The same with a fisheye lens."""
    focal = float(demo_video.estimate.intrinsics[0, 0, 0])
    view = (80 / focal, 45 / focal)
    lens = Fisheye((160, 90), focal, focal, 80.0, 45.0, 0.05, -0.01, view=view, k3=0.004, k4=-0.001)
    return _bent(demo_video, lens, tmp_path_factory.mktemp("fisheye") / "frames")


def _bent(demo_video: DemoVideo, lens: Lens, frames: Path) -> BentVideo:
    images = np.stack([lens.distorted_picture(image, cv2.INTER_CUBIC) for image in demo_video.images])
    cache.write_frames(frames, images)
    estimate = dataclasses.replace(demo_video.estimate, lens=lens)
    return BentVideo(demo_video.folder, images, estimate, demo_video.clean_depth, frames)


@pytest.fixture(scope="session")
def rolled_video(demo_video: DemoVideo, tmp_path_factory: pytest.TempPathFactory) -> BentVideo:
    """The demo's pictures are the level ones of a shutter that rolls while the camera is shaken."""
    focal, phase = float(demo_video.estimate.intrinsics[0, 0, 0]), np.arange(demo_video.estimate.num_frames)
    motion = np.zeros((len(phase), 2, 6))
    motion[:, 0, 4], motion[:, 0, 3], motion[:, 1, 4] = 0.08 * np.sin(phase), 0.03 * np.cos(phase), 0.02
    shutter = Shutter(0.7, (80 / focal, 45 / focal), motion)
    images = np.stack([shutter.filmed_picture(one, i, cv2.INTER_CUBIC) for i, one in enumerate(demo_video.images)])
    frames = tmp_path_factory.mktemp("rolled") / "frames"
    cache.write_frames(frames, images)
    estimate = dataclasses.replace(demo_video.estimate, shutter=shutter)
    return BentVideo(demo_video.folder, images, estimate, demo_video.clean_depth, frames)


@pytest.fixture()
def oracle_front_end(demo_video: DemoVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replaces the geometric front end by one that knows the demo's truth; the list counts its runs.

    Results for the shared frames of the demo are stored apart from them, for this test alone.
    """
    runs: list[int] = []
    cache_roots = cache.cache_roots

    def roots(clip_path: Path) -> list[Path]:
        shared = clip_path.is_relative_to(demo_video.folder)
        return [tmp_path / "cache-of-the-demo"] * 2 if shared else cache_roots(clip_path)

    monkeypatch.setattr(cache, "cache_roots", roots)

    def estimate(
        images: np.ndarray, names: list[str], config: object, progress: object, known: object, full_size: object
    ) -> SceneEstimate:
        runs.append(len(names))
        truth = demo_video.estimate
        if len(names) < truth.num_frames:  # a strict measurement holds some out
            chosen = [truth.frame_names.index(Path(name).stem) for name in names]
            arrays = ("c2w_cv", "intrinsics", "depth", "confidence", "dynamic_probability")
            truth = dataclasses.replace(
                truth, frame_names=names, **{name: getattr(truth, name)[chosen] for name in arrays}
            )
        assert images.shape[1:3] == (truth.height, truth.width)
        return dataclasses.replace(truth, frame_names=names, provenance={"oracle": True})

    monkeypatch.setitem(sys.modules, "das3r_ns.frontend.geometric.estimate", SimpleNamespace(estimate=estimate))
    return runs


@pytest.fixture()
def make_trainer(demo_video: DemoVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Builds trainers of tiny trainings: ``make(steps=, ..., **model settings)``, set up."""
    from nerfstudio.configs.base_config import LocalWriterConfig, LoggingConfig
    from nerfstudio.pipelines.base_pipeline import VanillaPipelineConfig
    from nerfstudio.utils import writer

    from das3r_ns.data.dataparser import Das3rVideoDataParserConfig
    from das3r_ns.data.dataset import Das3rDataManagerConfig
    from das3r_ns.splats.config import Das3rModelConfig, PaperModelConfig
    from das3r_ns.splats.optimizers import das3r_optimizers, paper_optimizers
    from das3r_ns.splats.pipeline import Das3rPipeline
    from das3r_ns.splats.trainer import Das3rTrainer, Das3rTrainerConfig

    def make(
        steps: int = 20,
        video: DemoVideo = demo_video,
        paper: bool = False,
        config: dict | None = None,
        parser: dict | None = None,
        data: Path | None = None,
        **model: object,
    ) -> Das3rTrainer:
        oracle = SimpleNamespace(
            estimate=lambda images, names, *_: dataclasses.replace(video.estimate, frame_names=names)
        )
        monkeypatch.setitem(sys.modules, "das3r_ns.frontend.geometric.estimate", oracle)
        monkeypatch.setattr(cache, "cache_roots", lambda _: [tmp_path / f"cache-{id(video)}"])
        data = data or video.folder / "frames"
        seeds = {"data": data, "seeds": "paper" if paper else "fused", "max_points": 3000} | (parser or {})
        settings = Das3rTrainerConfig(
            method_name="das3r-paper" if paper else "das3r",
            data=data,
            output_dir=tmp_path / "outputs",
            timestamp="now",
            max_num_iterations=steps,
            steps_per_eval_batch=0,
            steps_per_eval_image=0,
            steps_per_eval_all_images=0,
            vis="tensorboard",
            logging=LoggingConfig(local_writer=LocalWriterConfig(enable=False), profiler="none"),
            pipeline=VanillaPipelineConfig(
                _target=Das3rPipeline,
                datamanager=Das3rDataManagerConfig(
                    data=data,
                    dataparser=Das3rVideoDataParserConfig(**seeds),
                    cache_images_type="uint8",
                ),
                model=(PaperModelConfig if paper else Das3rModelConfig)(**model),  # pyright: ignore[reportArgumentType]
            ),
            optimizers=(paper_optimizers if paper else das3r_optimizers)(steps),
            **(config or {}),
        )
        writer.EVENT_WRITERS.clear()  # nerfstudio's writers are global and would pile up
        torch.manual_seed(0)
        trainer = settings.setup(local_rank=0, world_size=1)
        trainer.setup()
        return trainer

    return make
