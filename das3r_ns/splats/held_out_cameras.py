"""Cameras of held-out frames: where the front end saw them, and what training corrected round them.

Training refines the poses of its own frames and thereby moves the scene; a held-out camera left where the front end
saw it is then off by what its neighbours were corrected by. ``carried`` poses take over the mean correction of the two
training frames round them, which needs no look at the held-out picture.
"""

from __future__ import annotations

from bisect import bisect
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datasets.base_dataset import InputDataset
from scipy.spatial.transform import Rotation

from das3r_ns.splats.model import Das3rModel


def corrected_poses(
    model: torch.nn.Module, train_set: InputDataset, eval_set: InputDataset
) -> Float[np.ndarray, "M 3 4"]:
    """Camera-to-world (OpenGL axes, float64) of all held-out frames, by what their neighbours were corrected by.

    Args:
        model: Trained.
        train_set: What it was trained on.
        eval_set: The held-out frames.
    """
    return carried_poses(
        eval_set.cameras.camera_to_worlds.double().cpu().numpy(),
        eval_set.metadata["frame_indices"].tolist(),
        train_set.cameras.camera_to_worlds.double().cpu().numpy(),
        trained_poses(model, train_set.cameras),
        train_set.metadata["frame_indices"].tolist(),
    )


@torch.no_grad()
def trained_poses(model: torch.nn.Module, cameras: Cameras) -> Float[np.ndarray, "N 3 4"]:
    """Camera-to-world (OpenGL axes) of the training cameras as training left them.

    Args:
        model: Das3rModel, or any other, whose cameras its camera optimizer corrects, or nothing does.
        cameras: Of the training images, in their order.
    """
    optimizer: Any = getattr(model, "camera_optimizer", None)
    if not isinstance(model, Das3rModel) and optimizer is None:
        return cameras.camera_to_worlds.double().cpu().numpy()
    poses = []
    for index in range(len(cameras)):
        camera = cameras[index : index + 1].to(model.device)
        camera.metadata = {"cam_idx": index}
        if isinstance(model, Das3rModel):
            w2c = model.view_matrix(camera)[0].double().cpu().numpy()
            poses.append(np.linalg.inv(w2c)[:3] * [1.0, -1.0, -1.0, 1.0])
        else:
            poses.append(optimizer.apply_to_camera(camera)[0].double().cpu().numpy())
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
