"""Cameras for the rasteriser: the same as nerfstudio's, without asking the device."""

from __future__ import annotations

import pytest
import torch
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.cameras.cameras import Cameras
from scipy.spatial.transform import Rotation

from das3r_ns.splats.camera import keep_world, picture_size, refined_c2w, rotations, scaled_intrinsics

NUMBER = 5


@pytest.fixture()
def cameras() -> Cameras:
    """Five cameras, each at a place of its own."""
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(NUMBER, 3, 3, generator=generator))[0]
    c2w_gl = torch.cat([rotation, torch.randn(NUMBER, 3, 1, generator=generator)], dim=2)
    return Cameras(c2w_gl, torch.arange(NUMBER) + 100.0, torch.arange(NUMBER) + 90.0, 40.0, 30.0, 81, 61)


@pytest.mark.parametrize("mode", ["off", "SO3xR3", "SE3"])
def test_refined_poses_are_nerfstudio_s(cameras, mode):
    optimizer = CameraOptimizerConfig(mode=mode).setup(num_cameras=NUMBER, device="cpu")
    if mode != "off":
        optimizer.pose_adjustment.data = 0.1 * torch.randn(NUMBER, 6, generator=torch.Generator().manual_seed(1))
    singly = []
    for index in range(NUMBER):
        camera = cameras[index : index + 1]
        torch.testing.assert_close(refined_c2w(optimizer, camera), camera.camera_to_worlds)  # of no frame in particular
        camera.metadata = {"cam_idx": index}
        singly.append(refined_c2w(optimizer, camera))
        torch.testing.assert_close(singly[-1], optimizer.apply_to_camera(camera), atol=1e-6, rtol=1e-5)
    cameras.metadata = {"cam_idx": slice(0, NUMBER)}
    torch.testing.assert_close(refined_c2w(optimizer, cameras), torch.cat(singly))


@pytest.mark.parametrize("mode", ["off", "SO3xR3", "SE3"])
def test_what_all_cameras_have_in_common_is_taken_off(mode):
    optimizer = CameraOptimizerConfig(mode=mode).setup(num_cameras=NUMBER, device="cpu")
    if mode == "off":
        return keep_world(optimizer)
    given = torch.randn(NUMBER, 6, generator=torch.Generator().manual_seed(1))
    optimizer.pose_adjustment.data = given.clone()
    keep_world(optimizer)
    # Those of SE3 turn about the origin of the world, and their mean is no motion of all.
    expected = given - given.mean(dim=0) if mode == "SO3xR3" else given
    torch.testing.assert_close(optimizer.pose_adjustment.data, expected)
    assert optimizer.pose_adjustment.requires_grad


@pytest.mark.parametrize("angle", [0.0, 1e-8, 0.01, 1.0, 3.0])
def test_rotations_and_their_gradient(angle):
    axes = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    vectors = (angle * torch.nn.functional.normalize(axes, dim=1)).requires_grad_()
    expected = Rotation.from_rotvec(vectors.detach().numpy()).as_matrix()
    torch.testing.assert_close(rotations(vectors), torch.from_numpy(expected), atol=1e-14, rtol=0)
    assert torch.autograd.gradcheck(rotations, (vectors,))


def test_intrinsics_are_nerfstudio_s(cameras):
    k, width, height = scaled_intrinsics(cameras[2:3], 1)
    torch.testing.assert_close(k, cameras[2:3].get_intrinsics_matrices(), atol=0, rtol=0)
    assert (width, height) == (81, 61)
    k_half, *size = scaled_intrinsics(cameras[2:3], 2)
    torch.testing.assert_close(k_half, torch.tensor([[[51.0, 0, 20], [0, 46, 15], [0, 0, 1]]]))
    assert size == [40, 30]


def test_intrinsics_are_not_computed_where_they_are_known(cameras):
    camera = cameras[:1]
    camera.metadata = {"intrinsics": torch.eye(3)[None]}
    assert scaled_intrinsics(camera, 1)[0] is camera.metadata["intrinsics"]


def test_the_size_is_not_asked_for_where_it_is_known(cameras):
    camera = cameras[:1]
    camera.metadata = {"size": (20, 10)}
    camera.width = None  # nobody looks
    assert picture_size(camera) == (20, 10)
