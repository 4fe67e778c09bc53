"""Training at the size of a video that is larger than the front end works at."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from das3r_ns.cleanplate.write import write_clean_plates
from das3r_ns.demo.write import write_demo
from das3r_ns.errors import Das3rExit
from das3r_ns.export.write import write_export
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.scene import cache
from das3r_ns.scene.lens import Lens
from das3r_ns.trained.run import open_run
from das3r_ns.trained.scene import TrainedScene
from das3r_ns.trained.third_look import views_of

SIZE = (320, 180)
"""Of the video; the front end works at half of it."""
PARSER: dict[str, Any] = {"train_size": 1600, "front_end": FrontEndConfig(long_side=160)}
DENSIFYING: dict[str, Any] = {
    **{"warmup_length": 2, "refine_every": 3, "stop_split_at": 9, "densify_grad_thresh": 1e-7},
    "refine_static_weight_from": 4,
}


@pytest.fixture(scope="module")
def large(demo_video, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames of the demo, twice as large as its estimate."""
    folder = write_demo(tmp_path_factory.mktemp("large") / "room", 12, *SIZE) / "frames"
    for path in sorted(folder.iterdir())[6:]:
        path.unlink()
    return folder


@pytest.fixture()
def video(demo_video, large: Path, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """The demo with an estimate of six frames; ``frames`` are the large ones, as a lens shows them if asked for."""
    arrays = ("c2w_cv", "intrinsics", "depth", "confidence", "dynamic_probability")
    truth = demo_video.estimate
    changes: dict[str, Any] = {name: getattr(truth, name)[:6] for name in arrays}
    frames, kind = large, getattr(request, "param", "plain")
    if kind == "lens":
        focal = float(truth.intrinsics[0, 0, 0])
        lens = Lens((160, 90), focal, focal, 80.0, 45.0, -0.1, view=(80 / focal, 45 / focal))
        changes["lens"], frames = lens, tmp_path / "bent"
        pictures = [cv2.imread(str(path))[..., ::-1] for path in sorted(large.iterdir())]
        bent = lens.at(SIZE)
        cache.write_frames(frames, [cv2.remap(p, *bent.distorted_map(bent.pinhole), cv2.INTER_CUBIC) for p in pictures])
    elif kind == "fixed and light":
        changes["light"] = np.linspace(-0.1, 0.1, 18).reshape(6, 3)
    estimate = dataclasses.replace(truth, frame_names=truth.frame_names[:6], **changes)
    return dataclasses.replace(demo_video, estimate=estimate), frames


@pytest.mark.parametrize("video", ["plain", "lens", "fixed and light"], indirect=True)
def test_a_video_larger_than_the_working_size(make_trainer, video, tmp_path: Path) -> None:
    known, frames = video
    parser = PARSER
    if known.estimate.light is not None:
        fixed = np.uint8(255) * (np.arange(SIZE[1])[:, None].repeat(SIZE[0], 1) >= 160)
        cv2.imwrite(str(tmp_path / "bonnet.png"), fixed)
        parser = PARSER | {"front_end": FrontEndConfig(long_side=160, fixed_mask=tmp_path / "bonnet.png")}
    trainer = make_trainer(
        steps=12, video=known, data=frames, parser=parser, resolution_schedule=6, max_gaussians=3100, **DENSIFYING
    )
    model, manager = trainer.pipeline.model, trainer.pipeline.datamanager
    assert (manager.train_dataset.cameras.width == SIZE[0]).all()
    _, batch = manager.next_train(0)
    assert batch["image"].shape == (SIZE[1], SIZE[0], 3) and batch["image"].dtype == torch.uint8
    assert batch["static_weight"].shape == (SIZE[1], SIZE[0], 1) and batch["static_weight"].dtype == torch.uint8
    assert batch["measured_depth"].shape == (90, 160, 2)
    assert model.strategy.max_gaussians == 4 * 3100
    factors = {}
    for step in (0, 5, 6, 11):
        model.step = step
        factors[step] = model._get_downscale_factor()
    assert factors == {0: 2, 5: 2, 6: 1, 11: 1}
    seeds = model.num_points
    trainer.train()
    assert model.num_points > max(seeds, 3100)
    figures = trainer.pipeline.get_average_eval_image_metrics()
    assert np.isfinite(figures["psnr_static"]) and figures["psnr_static"] > 15
    scene = TrainedScene(trainer.pipeline)
    small, whole = scene.render_at_working_size(2), scene.render(2, SIZE)
    np.testing.assert_allclose(small["rgb"], whole["rgb"].reshape(90, 2, 160, 2, 3).mean((1, 3)), atol=1e-5)
    assert small["depth"].shape == (90, 160, 1) and np.isin(small["depth"], whole["depth"]).all()
    looked_at = views_of(scene, known.images)
    np.testing.assert_allclose(looked_at.renders[2], 255 * small["rgb"], atol=0.51)
    write_clean_plates(scene, tmp_path / "plates")
    plate = cv2.imread(str(tmp_path / "plates/frames/00002.png"))
    assert plate.shape == (SIZE[1], SIZE[0], 3)
    write_export(scene, tmp_path / "out", ["gaussians", "colmap"])
    if known.estimate.light is not None:
        assert model.light is not None
        assert not batch["static_weight"][162:].any()


def test_a_run_opens_at_the_working_size_where_its_video_is_gone(
    make_trainer, video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, frames = video
    shutil.copytree(frames, tmp_path / "video")
    trainer = make_trainer(steps=1, video=known, data=tmp_path / "video", parser=PARSER)
    trainer.save_checkpoint(0)
    before = TrainedScene(trainer.pipeline)
    focal, picture = trainer.pipeline.model.trained_focal, before.render(3, SIZE)["rgb"]
    small = before.render_at_working_size(3)["rgb"]
    shutil.rmtree(tmp_path / "video")
    for folder in tmp_path.glob("cache-*"):
        shutil.rmtree(folder)
    monkeypatch.setattr(cache, "cache_roots", lambda _: [tmp_path / "empty", tmp_path / "empty"])
    pipeline: Any = open_run(trainer.config.get_base_dir() / "config.yml")
    assert (pipeline.datamanager.train_dataset.cameras.width == 160).all()
    assert pipeline.model.trained_focal == pytest.approx(focal)
    np.testing.assert_allclose(TrainedScene(pipeline).render(3, SIZE)["rgb"], picture, atol=1e-6)
    np.testing.assert_allclose(TrainedScene(pipeline).render_at_working_size(3)["rgb"], small, atol=1e-6)
    assert np.isfinite(pipeline.get_average_eval_image_metrics()["psnr"])


def test_auto_is_the_working_size_on_a_cpu_and_stays_what_it_was_when_a_run_is_opened(make_trainer, video) -> None:
    known, frames = video
    trainer = make_trainer(steps=1, video=known, data=frames, parser={**PARSER, "train_size": "auto"})
    assert trainer.config.pipeline.datamanager.dataparser.train_size == "working"
    assert (trainer.pipeline.datamanager.train_dataset.cameras.width == 160).all()
    parser = dataclasses.replace(trainer.config.pipeline.datamanager.dataparser, train_size="auto")
    outputs = parser.setup().get_dataparser_outputs("train")
    assert (outputs.cameras.width == SIZE[0]).all()


def test_the_papers_recipe_refuses_other_sizes(make_trainer, video) -> None:
    known, frames = video
    with pytest.raises(Das3rExit, match="leave the data parser's train-size at 'working'"):
        make_trainer(video=known, data=frames, parser=PARSER, paper=True)
