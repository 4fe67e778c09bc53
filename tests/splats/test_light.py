"""Light that is learned with the scene."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle

from das3r_ns.errors import Das3rExit
from das3r_ns.scene import cache
from das3r_ns.scene import geometry as geo
from das3r_ns.splats.light import FrameLight
from das3r_ns.trained.run import render_camera


def test_it_starts_from_what_was_measured() -> None:
    light = FrameLight(torch.tensor([[0.0, 0.0, 0.0], [0.2, 0.0, -0.2]]), range(2))
    rgb = torch.full((2, 2, 3), 0.5)
    torch.testing.assert_close(light(rgb, 0), rgb)
    torch.testing.assert_close(light(rgb, 1), rgb * torch.tensor([0.2, 0.0, -0.2]).exp())
    assert light.prior() == 0


def test_one_scene_explains_frames_of_different_light() -> None:
    """Colours and light are learned together from wrong measurements; the scene keeps the middle light."""
    torch.manual_seed(0)
    truth = 0.2 + 0.6 * torch.rand(8, 8, 3)
    true_gain = torch.tensor([[-0.3, -0.2, -0.3], [0.0, 0.0, 0.0], [0.3, 0.2, 0.3]])
    light = FrameLight(0.7 * true_gain, range(3))
    scene = torch.nn.Parameter(torch.full_like(truth, 0.5))
    adam = torch.optim.Adam([{"params": [scene], "lr": 0.02}, {"params": light.parameters(), "lr": 0.005}])
    for step in range(600):
        frame = step % 3
        adam.zero_grad()
        loss = (light(scene, frame) - truth * true_gain[frame].exp()).abs().mean() + light.prior()
        loss.backward()
        adam.step()
    assert (scene.detach() - truth).abs().mean() < 0.02
    for frame in range(3):
        off = (light(scene, frame) - truth * true_gain[frame].exp()).abs().mean()
        assert off.item() < 0.01


def test_a_frame_held_out_has_the_light_of_those_beside_it() -> None:
    light = FrameLight(torch.tensor([[0.0], [0.2], [0.6]]).expand(3, 3), frames=[0, 2, 6])
    rgb = torch.full((1, 1, 3), 0.5)

    def gain(frame: int) -> float:
        return float((light.at_frame(rgb, frame) / rgb).log().mean())

    expected = {0: 0.0, 1: 0.1, 2: 0.2, 3: 0.3, 6: 0.6, 8: 0.6}
    for frame, value in expected.items():
        assert gain(frame) == pytest.approx(value, abs=1e-6)


def test_a_brighter_light_of_all_frames_costs() -> None:
    light = FrameLight(torch.zeros(4, 3), range(4))
    with torch.no_grad():
        light.log_gain.add_(0.1)
    assert light.prior() > 0.02


def camera_of(width: int, height: int, focal: float, centre: tuple[float, float]) -> Cameras:
    return Cameras(torch.eye(4)[None, :3], focal, focal, *centre, width=width, height=height)


def test_the_corners_are_dark_at_every_size_and_centre() -> None:
    corner = math.hypot(80, 60) / 100
    light = FrameLight(None, range(3), falloff=(-0.3, -0.1, corner))
    whole = light.through_lens(torch.ones(120, 160, 3), camera_of(160, 120, 100.0, (80.0, 60.0)))
    assert whole[60, 80].log().mean().item() == pytest.approx(0.0, abs=1e-3)
    assert whole[0, 0].log().mean().item() == pytest.approx(-0.4, abs=0.01)
    half = light.through_lens(torch.ones(60, 80, 3), camera_of(160, 120, 100.0, (80.0, 60.0)))
    torch.testing.assert_close(
        half, torch.nn.functional.avg_pool2d(whole.permute(2, 0, 1), 2).permute(1, 2, 0), atol=1e-3, rtol=0
    )
    part = light.through_lens(torch.ones(60, 80, 3), camera_of(80, 60, 100.0, (80.0, 60.0)))
    torch.testing.assert_close(part, whole[:60, :80])


def test_of_steady_light_nothing_is_learned() -> None:
    assert FrameLight(None, range(3), falloff=(-0.3, -0.1, 0.8)).learned() == []
    assert len(FrameLight(torch.zeros(3, 3), range(3)).learned()) == 2


def test_the_scene_has_no_dark_corners(make_trainer, demo_video, tmp_path: Path) -> None:
    estimate = demo_video.estimate
    centre = np.array([estimate.width, estimate.height]) / 2
    square = np.square(geo.pixel_centres(estimate.height, estimate.width) - centre).sum(axis=-1) / (centre**2).sum()
    left = np.exp(-0.5 * square)[..., None]
    cache.write_frames(tmp_path / "frames", np.rint(demo_video.images * left).astype(np.uint8))
    dark = dataclasses.replace(estimate, falloff=np.array([-0.5, 0.0]))
    trainer = make_trainer(steps=200, video=dataclasses.replace(demo_video, estimate=dark), data=tmp_path / "frames")
    trainer.train()
    assert "light" not in trainer.optimizers.optimizers
    camera = trainer.pipeline.datamanager.train_dataset.cameras[:1]
    corners = (square > 0.7) & (estimate.dynamic_probability[0] < 0.1)
    for metadata, expected in (({"cam_idx": 0}, left), ({}, np.ones_like(left))):
        camera.metadata = metadata
        picture = render_camera(trainer.pipeline, camera)["rgb"]
        ratio = (
            picture.mean(axis=-1)[corners].mean()
            / (demo_video.images[0] * expected / 255).mean(axis=-1)[corners].mean()
        )
        assert ratio == pytest.approx(1.0, abs=0.12)  # a scene that knew of no falloff would have 0.67


def test_training_learns_the_light_of_the_frames(make_trainer, demo_video, tmp_path: Path) -> None:
    count = demo_video.estimate.num_frames
    light = np.linspace(-0.3, 0.3, count)[:, None] * np.ones(3)
    frames = np.clip(np.rint(demo_video.images * np.exp(light)[:, None, None]), 0, 255).astype(np.uint8)
    cache.write_frames(tmp_path / "frames", frames)
    video = dataclasses.replace(demo_video, estimate=dataclasses.replace(demo_video.estimate, light=0.8 * light))
    trainer = make_trainer(steps=200, video=video, data=tmp_path / "frames")
    trainer.train()
    pipeline = trainer.pipeline
    learned = pipeline.model.light
    assert learned is not None and learned.log_gain.abs().max() > 0.01

    def brightness(scene_light: bool) -> np.ndarray:
        pictures = []
        for index in range(count):
            camera = pipeline.datamanager.train_dataset.cameras[index : index + 1]
            camera.metadata = {} if scene_light else {"cam_idx": index}
            pictures.append(render_camera(pipeline, camera)["rgb"].mean())
        return np.array(pictures)

    as_filmed, of_the_scene = brightness(False), brightness(True)
    np.testing.assert_allclose(as_filmed / of_the_scene, np.exp(light[:, 0]), rtol=0.06)


def test_steady_light_costs_nothing(make_trainer) -> None:
    trainer = make_trainer(steps=1)
    assert trainer.pipeline.model.light is None
    assert "light" not in trainer.optimizers.optimizers


def test_single_rays_are_refused_in_a_sentence(make_trainer) -> None:
    """As `ns-export pointcloud` asks for them."""
    trainer = make_trainer(steps=1)
    with pytest.raises(Das3rExit, match="das3r export --format points"):
        trainer.pipeline.model(RayBundle(torch.zeros(1, 3), torch.ones(1, 3), torch.ones(1, 1)))
