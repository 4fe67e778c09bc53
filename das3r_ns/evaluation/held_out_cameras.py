"""Cameras of held-out frames, refined on the frames themselves.

``refined`` poses are optimised on the held-out picture, over its static pixels with the scene fixed: that measures the
scene apart from the cameras, and is told apart in every table. What training corrected round a held-out frame, which
needs no look at it, is das3r_ns.splats.held_out_cameras's.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.lie_groups import exp_map_SO3xR3
from torch import Tensor

from das3r_ns.splats.losses import dynamics_aware_loss

STEPS = 100
STEP_SIZE = 1e-3
"""First and largest step of a refinement, in radians and in units of the (scaled) scene; it falls to a tenth."""


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
