"""A run opens where the video and its cache are gone, and says what it then cannot do."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

from das3r_ns.cleanplate.write import write_clean_plates
from das3r_ns.errors import Das3rError
from das3r_ns.export.write import write_export
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.kept import kept_scene
from das3r_ns.progress import Progress
from das3r_ns.scene import cache
from das3r_ns.trained.run import open_run
from das3r_ns.trained.scene import TrainedScene


def test_a_run_opens_without_the_video(
    make_trainer, demo_video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(demo_video.folder / "frames", tmp_path / "video")
    trainer = make_trainer(steps=1, data=tmp_path / "video")
    trainer.save_checkpoint(0)
    run = trainer.config.get_base_dir()
    before = TrainedScene(trainer.pipeline)
    picture, places = before.render(3, before.working_size)["rgb"], before.c2w_cv()
    shutil.rmtree(tmp_path / "video")
    for folder in tmp_path.glob("cache-*"):
        shutil.rmtree(folder)
    monkeypatch.setattr(cache, "cache_roots", lambda _: [tmp_path / "empty", tmp_path / "empty"])

    scene = TrainedScene(open_run(run / "config.yml"))
    np.testing.assert_allclose(scene.render(3, scene.working_size)["rgb"], picture, atol=1e-6)
    np.testing.assert_allclose(scene.c2w_cv(), places, atol=1e-7)
    np.testing.assert_array_equal(scene.video.seconds, before.video.seconds)
    assert scene.video.fps == pytest.approx(before.video.fps)
    write_export(scene, tmp_path / "out", ["gaussians", "splat", "points", "trajectory"])
    with pytest.raises(Das3rError, match=r"needs the frames of the video .* is not there any more"):
        write_export(scene, tmp_path / "other", ["colmap"])
    assert not (tmp_path / "other").exists()
    with monkeypatch.context() as patch:
        patch.setattr(scene, "render", None)  # it is said before anything is rendered
        with pytest.raises(Das3rError, match="needs the frames of the video"):
            write_clean_plates(scene, tmp_path / "plates")

    moved = tmp_path / "moved"
    shutil.move(trainer.config.output_dir, moved)
    scene = TrainedScene(open_run(moved / run.relative_to(trainer.config.output_dir) / "config.yml"))
    np.testing.assert_allclose(scene.render(3, scene.working_size)["rgb"], picture, atol=1e-6)


def test_a_run_opens_from_any_folder_and_a_copy_is_the_copy(make_trainer, tmp_path: Path) -> None:
    trainer = make_trainer(steps=1)
    trainer.save_checkpoint(0)
    run, copy = trainer.config.get_base_dir(), tmp_path / "my run"
    shutil.copytree(run, copy)
    with torch.no_grad():  # the training goes on where it was
        trainer.pipeline.model.gauss_params["means"] += 1.0
    trainer.save_checkpoint(0)
    opened = [TrainedScene(open_run(folder / "config.yml")) for folder in (run, copy)]
    moved = [scene.model.means.mean().item() for scene in opened]
    assert moved[0] == pytest.approx(moved[1] + 1.0, abs=1e-4)
    assert [scene.parser.config.kept for scene in opened] == [run / "scene", copy / "scene"]
    shutil.rmtree(run)
    assert TrainedScene(open_run(copy / "config.yml")).model.means.mean().item() == moved[1]
    resumed = yaml.load((copy / "config.yml").read_text(), Loader=yaml.Loader)
    resumed.load_step = 700  # of the run that it went on from
    (copy / "config.yml").write_text(yaml.dump(resumed))
    (copy / "nerfstudio_models/.DS_Store").touch()
    assert TrainedScene(open_run(copy / "config.yml")).model.means.mean().item() == moved[1]
    (checkpoint,) = (copy / "nerfstudio_models").glob("*.ckpt")
    checkpoint.write_bytes(checkpoint.read_bytes()[:10_000])
    with pytest.raises(Das3rError, match=r"step-000000000\.ckpt is damaged or cut off"):
        open_run(copy / "config.yml")
    checkpoint.unlink()
    with pytest.raises(Das3rError, match=r"has no checkpoint in .*my run/nerfstudio_models"):
        open_run(copy / "config.yml")


def test_the_video_is_read_where_only_its_masks_have_changed(make_trainer, demo_video, tmp_path: Path) -> None:
    shutil.copytree(demo_video.folder / "frames", tmp_path / "video")
    shutil.copytree(demo_video.folder / "masks", tmp_path / "masks")
    given = FrontEndConfig("geometric", long_side=160, masks="given", masks_dir=tmp_path / "masks")
    trainer = make_trainer(steps=1, data=tmp_path / "video", parser={"front_end": given})
    trainer.save_checkpoint(0)
    config = trainer.config.get_base_dir() / "config.yml"
    shutil.rmtree(tmp_path / "masks")
    video = TrainedScene(open_run(config)).video
    assert len(list(video.clip.original_images())) == video.estimate.num_frames
    (tmp_path / "video/00003.png").write_bytes((tmp_path / "video/00004.png").read_bytes())
    with pytest.raises(Das3rError, match=r"needs the frames of the video .* is not there any more"):
        next(TrainedScene(open_run(config)).video.clip.original_images())


def test_what_is_damaged_is_not_opened(tmp_path: Path) -> None:
    settings = FrontEndConfig(), Progress(Console(quiet=True))
    assert kept_scene(tmp_path, tmp_path / "nothing", *settings) is None
    (tmp_path / cache.SCENE).write_text("{}")
    assert kept_scene(tmp_path, tmp_path, *settings) is None


def test_config_yml_names_what_is_kept(make_trainer) -> None:
    trainer = make_trainer(steps=1)
    run = trainer.config.get_base_dir()
    config = yaml.load((run / "config.yml").read_text(), Loader=yaml.Loader)
    kept = config.pipeline.datamanager.dataparser.kept
    assert kept.is_absolute() and (kept / "estimate.npz").is_file() and not (kept / "frames_full").exists()
