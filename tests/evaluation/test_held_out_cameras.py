"""Cameras of held-out frames, refined."""

from __future__ import annotations

import torch

from das3r_ns.evaluation.held_out_cameras import refined_pose


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
