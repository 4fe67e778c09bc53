"""Cameras of held-out frames."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from das3r_ns.evaluation.held_out_cameras import carried_poses, refined_pose, trained_poses


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


def test_a_pose_is_found_again(make_trainer) -> None:
    """A render is the target; the camera starts a little beside where it was taken."""
    trainer = make_trainer(steps=1)
    model = trainer.pipeline.model.eval()
    camera = trainer.pipeline.datamanager.train_dataset.cameras[6:7]
    with torch.no_grad():
        target = model.get_outputs(camera)["rgb"]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    true_pose = camera.camera_to_worlds.clone()
    shift = torch.tensor([0.012, -0.008, 0.0])
    camera.camera_to_worlds = true_pose + torch.cat([torch.zeros(3, 3), shift[:, None]], dim=1)
    static = torch.ones(*target.shape[:2], 1)
    static[:20] = 0  # what moves does not count, whatever it shows
    target = torch.where(static > 0, target, torch.rand_like(target))
    start = camera.camera_to_worlds.clone()
    found = refined_pose(model, camera, target, static, steps=25)

    def error(pose: torch.Tensor) -> float:
        camera.camera_to_worlds = pose
        with torch.no_grad():
            return float((static * (model.get_outputs(camera)["rgb"] - target)).abs().mean())

    assert error(found) < 0.5 * error(start)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.gauss_params.values())
