"""Cameras of held-out frames, and what ns-eval makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from das3r_ns.splats.held_out_cameras import carried_poses, trained_poses


def test_corrections_of_the_neighbours_are_carried_over() -> None:
    frames = [0, 1, 3, 4]
    given = np.tile(np.eye(4)[:3], (4, 1, 1))
    given[:, :, :3] = Rotation.random(4, np.random.default_rng(0)).as_matrix()
    trained = given.copy()
    turns = [0.0, 0.02, 0.04, 0.0]  # about the world's y axis
    for k, turn in enumerate(turns):
        trained[k, :, :3] = Rotation.from_rotvec([0, turn, 0]).as_matrix() @ given[k, :, :3]
        trained[k, 0, 3] += turn
    held_out = np.tile(np.eye(4)[:3], (3, 1, 1))
    carried = carried_poses(held_out, [2, 5, -1], given, trained, frames)
    np.testing.assert_allclose(carried[0, :, :3], Rotation.from_rotvec([0, 0.03, 0]).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(carried[0, :, 3], [0.03, 0, 0], atol=1e-12)
    np.testing.assert_allclose(carried[1:], held_out[1:], atol=1e-12)  # outside: the last and the first one's, zero


def test_poses_after_training_are_those_of_the_model(make_trainer) -> None:
    trainer = make_trainer(steps=1)
    model, cameras = trainer.pipeline.model, trainer.pipeline.datamanager.train_dataset.cameras
    np.testing.assert_allclose(trained_poses(model, cameras), cameras.camera_to_worlds, atol=1e-6)
    with torch.no_grad():
        model.camera_optimizer.pose_adjustment[3, 0] = 0.25
    moved = trained_poses(model, cameras) - cameras.camera_to_worlds.numpy()
    np.testing.assert_allclose(moved[3, :, 3], [0.25, 0, 0], atol=1e-6)
    assert np.abs(np.delete(moved, 3, axis=0)).max() < 1e-6


def test_held_out_frames_are_measured_with_the_corrections_of_their_neighbours(make_trainer, tmp_path: Path) -> None:
    """Scene and training cameras are moved together: corrected, the held-out frame looks as it did before."""
    pipeline = make_trainer(steps=1, parser={"eval_split": "paper"}).pipeline
    before = pipeline.get_average_eval_image_metrics()
    assert before["psnr_corrected"] == before["psnr"]
    shift = torch.tensor([0.15, -0.1, 0.05])
    with torch.no_grad():
        pipeline.model.gauss_params["means"] += shift
        pipeline.model.camera_optimizer.pose_adjustment[:, :3] = shift
    after = pipeline.get_average_eval_image_metrics(output_path=tmp_path / "pictures", get_std=True)
    for name in ("psnr", "psnr_static", "ssim"):
        assert abs(after[f"{name}_corrected"] - before[name]) < 1e-3
        assert f"{name}_corrected_std" in after
    assert after["psnr"] < before["psnr"] - 1
    assert not [name for name in after if "fps" in name and "corrected" in name]
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {"eval_img_0000.png", "corrected_img_0000.png"}


def test_frames_of_the_training_are_measured_once(make_trainer) -> None:
    metrics = make_trainer(steps=1).pipeline.get_average_eval_image_metrics()
    assert "psnr" in metrics and not [name for name in metrics if "corrected" in name]
