"""Cameras of held-out frames: where the front end saw them, what training corrected round them, and refined themselves.

Training refines the poses of its own frames and thereby moves the scene; a held-out camera left where the front end
saw it is then off by what its neighbours were corrected by. ``carried`` poses take over the mean correction of the two
training frames round them, which needs no look at the held-out picture. ``refined`` poses are optimised on it, over its
static pixels with the scene fixed: that measures the scene apart from the cameras, and is told apart in every table.
"""

from __future__ import annotations

from bisect import bisect

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.lie_groups import exp_map_SO3xR3
from scipy.spatial.transform import Rotation
from torch import Tensor

from das3r_ns.splats.losses import dynamics_aware_loss
from das3r_ns.splats.model import Das3rModel

STEPS = 100
STEP_SIZE = 1e-3
"""First and largest step of a refinement, in radians and in units of the (scaled) scene; it falls to a tenth."""


def trained_poses(model: torch.nn.Module, cameras: Cameras) -> Float[np.ndarray, "N 3 4"]:
    """Camera-to-world (OpenGL axes) of the training cameras as training left them.

    Args:
        model: Das3rModel, or any other, whose cameras are taken as they are.
        cameras: Of the training images, in their order.
    """
    given = cameras.camera_to_worlds.double().cpu().numpy()
    if not isinstance(model, Das3rModel):
        return given
    poses = []
    for index in range(len(cameras)):
        camera = cameras[index : index + 1].to(model.device)
        camera.metadata = {"cam_idx": index}
        with torch.no_grad():
            w2c = model.view_matrix(camera)[0].double().cpu().numpy()
        poses.append(np.linalg.inv(w2c)[:3] * [1.0, -1.0, -1.0, 1.0])
    return np.stack(poses)


def carried_poses(
    held_out: Float[np.ndarray, "M 3 4"],
    frames: list[int],
    given: Float[np.ndarray, "N 3 4"],
    trained: Float[np.ndarray, "N 3 4"],
    training_frames: list[int],
) -> Float[np.ndarray, "M 3 4"]:
    """Held-out poses with the mean correction of the nearest training frame on either side.

    Args:
        held_out: Camera-to-world of the held-out frames before training.
        frames: Their numbers in the video.
        given: Camera-to-world of the training frames before training.
        trained: And after it.
        training_frames: Their numbers, ascending.
    """
    turns = Rotation.from_matrix(trained[:, :, :3] @ given[:, :, :3].swapaxes(1, 2)).as_rotvec()
    shifts = trained[:, :, 3] - given[:, :, 3]
    carried = held_out.copy()
    for k, frame in enumerate(frames):
        after = bisect(training_frames, frame)
        round_it = [i for i in (after - 1, after) if 0 <= i < len(training_frames)]
        carried[k, :, :3] = Rotation.from_rotvec(turns[round_it].mean(axis=0)).as_matrix() @ held_out[k, :, :3]
        carried[k, :, 3] += shifts[round_it].mean(axis=0)
    return carried


def refined_pose(
    model: torch.nn.Module,
    camera: Cameras,
    target: Float[Tensor, "H W 3"],
    static: Float[Tensor, "H W 1"],
    steps: int = STEPS,
) -> Float[Tensor, "1 3 4"]:
    """The pose that shows the frame best over its static pixels, near the one given; the scene stays as it is.

    Args:
        model: Trained.
        camera: One camera.
        target: The frame.
        static: Its static weight.
        steps: Of Adam.
    """
    model.eval()
    start = camera.camera_to_worlds.to(target)
    tangent = torch.zeros(1, 6, device=target.device, requires_grad=True)
    optimizer = torch.optim.Adam([tangent], lr=STEP_SIZE)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.1 ** (1 / max(steps, 1)))
    frozen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    best, best_loss = start, float("inf")
    try:
        for _ in range(steps):
            moved = _moved(start, tangent)
            view = camera.to(target.device)
            view.camera_to_worlds = moved
            loss = dynamics_aware_loss(model.get_outputs(view)["rgb"], target, static)  # pyright: ignore[reportCallIssue]
            if float(loss) < best_loss:
                best, best_loss = moved.detach(), float(loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
    return best


def _moved(pose: Float[Tensor, "1 3 4"], tangent: Float[Tensor, "1 6"]) -> Float[Tensor, "1 3 4"]:
    """The pose turned about its own centre, and shifted."""
    change = exp_map_SO3xR3(tangent)
    return torch.cat([change[:, :, :3] @ pose[:, :, :3], pose[:, :, 3:] + change[:, :, 3:]], dim=2)
