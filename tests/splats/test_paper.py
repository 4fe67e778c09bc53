"""The paper's Gaussian stage."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from gsplat.utils import normalized_quat_to_rotmat

from das3r_ns.errors import Das3rExit
from das3r_ns.splats.optimizers import paper_optimizers
from das3r_ns.splats.paper import matrix_to_quaternion

PAPER = {"parser": {"eval_split": "paper", "mask_dilation": 0}, "paper": True}


@pytest.fixture
def trainer(make_trainer):
    """Ready to train on the demo, every other pixel or so seeding a Gaussian."""
    return make_trainer(steps=3, **PAPER)


def test_it_starts_as_published(trainer, demo_video):
    model = trainer.pipeline.model
    frames = model.num_train_data
    assert frames == 11  # frame 5 of twelve is held out
    assert set(model.gauss_params) == {"means", "scales", "quats", "features_dc", "features_rest", "opacities"}
    opacity = torch.sigmoid(model.gauss_params["opacities"])
    torch.testing.assert_close(opacity, torch.full_like(opacity, 1 / frames))
    static = 1 - demo_video.estimate.dynamic_probability[[i for i in range(12) if i != 5]]
    torch.testing.assert_close(model.static_maps.detach(), torch.from_numpy(static))
    frame, row, column = model.kwargs["metadata"]["points3D_pixel"].unbind(dim=1)
    torch.testing.assert_close(model.staticness[:, 0], model.static_maps[frame, row, column])
    centres = trainer.pipeline.datamanager.train_dataset.cameras.camera_to_worlds[..., 3]
    extent = 1.1 * (centres - centres.mean(dim=0)).norm(dim=-1).max()
    (group,) = trainer.optimizers.optimizers["means"].param_groups
    assert group["lr"] == pytest.approx(1.6e-4 * float(extent), rel=1e-5)


def test_it_trains_without_adding_or_removing(trainer):
    model = trainer.pipeline.model
    before = model.num_points
    maps = model.static_maps.detach().clone()
    trainer.train()
    assert model.num_points == before
    assert (model.static_maps != maps).any()
    assert model.pose_quat.abs().max() == 0  # the picture is not good yet


def test_staticness_out_of_bounds_leaves_no_nan(trainer):
    model = trainer.pipeline.model
    model.static_maps.data[::2] = -0.1
    model.static_maps.data[1::2] = 30.0
    assert torch.isfinite(model.opacities).all()
    trainer.train()
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    model.eval()
    outputs = model.get_outputs_for_camera(trainer.pipeline.datamanager.train_dataset.cameras[:1])
    assert all(torch.isfinite(value).all() for value in outputs.values())


def test_a_checkpoint_comes_back_whole(trainer, make_trainer):
    trainer.train()
    (path,) = trainer.checkpoint_dir.iterdir()
    again = make_trainer(steps=1, config={"load_checkpoint": path}, **PAPER).pipeline.model
    torch.testing.assert_close(again.opacities, trainer.pipeline.model.opacities)


def test_poses_are_refined_per_frame(make_trainer):
    trainer = make_trainer(steps=2, camera_gate_psnr=0.0, **PAPER)
    model = trainer.pipeline.model
    camera = trainer.pipeline.datamanager.train_dataset.cameras[:1]
    plain = model.view_matrix(camera)
    camera.metadata = {"cam_idx": 0}
    torch.testing.assert_close(model.view_matrix(camera), plain, atol=1e-5, rtol=0)
    trainer.train()
    assert (model.pose_quat != 0).any() and (model.pose_trans != 0).any()
    matrix = model.view_matrix(camera)[0]
    torch.testing.assert_close(matrix[:3, :3] @ matrix[:3, :3].T, torch.eye(3), atol=1e-5, rtol=0)


def test_other_data_is_refused_with_advice(make_trainer):
    with pytest.raises(Das3rExit, match="one seed point per pixel"):
        make_trainer(paper=True, parser={"seeds": "fused"})


def test_a_quaternion_is_that_of_its_matrix():
    quat = torch.nn.functional.normalize(torch.tensor([0.3, -0.5, 0.7, 0.1]), dim=0)
    found = matrix_to_quaternion(normalized_quat_to_rotmat(quat))
    torch.testing.assert_close(found * found[0].sign(), quat, atol=1e-6, rtol=0)


def test_the_schedules_are_the_official_ones():
    rates = {
        "means": {1: 0.0001599754409773643, 500: 0.00014817899650060694, 4000: 8.658712424743416e-05},
        "camera_opt": {1: 2.9931001914676556e-05, 500: 9.486832980505143e-06, 2000: 3e-06},
        "static_maps": {1: 0.002998273558137839, 1000: 0.0016870239755710477, 4000: 0.0003},
    }
    for name, expected in rates.items():
        group = paper_optimizers(4000)[name]
        optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=group["optimizer"].lr)
        scheduler = dataclasses.replace(group["scheduler"]).setup().get_scheduler(optimizer, group["optimizer"].lr)
        for step, rate in expected.items():
            multiplier = scheduler.lr_lambdas[0](step)
            assert group["optimizer"].lr * multiplier == pytest.approx(rate, rel=1e-4)
