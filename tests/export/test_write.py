"""A whole export: everything fits everything else."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from nerfstudio.data.utils import colmap_parsing_utils as colmap

from das3r_ns.errors import Das3rError
from das3r_ns.export.write import write_export
from das3r_ns.splats.camera import view_matrix
from das3r_ns.trained.scene import TrainedScene


@pytest.fixture()
def scene(make_trainer) -> TrainedScene:
    """Untrained splats of the demo whose poses were moved by what stands for training."""
    pipeline = make_trainer().pipeline
    with torch.no_grad():
        pipeline.model.camera_optimizer.pose_adjustment.normal_(0, 0.01)
    return TrainedScene(pipeline)


def colmap_pixels(folder: Path, frame: int, xyz: np.ndarray) -> np.ndarray:
    """Where points lie in a picture, by a COLMAP model."""
    models, images, _ = colmap.read_model(str(folder), ".bin")  # pyright: ignore[reportGeneralTypeIssues]
    image = images[frame + 1]
    fx, fy, cx, cy = models[image.camera_id].params
    x, y, z = colmap.qvec2rotmat(image.qvec) @ xyz.T + image.tvec[:, None]
    return np.stack([fx * x / z + cx, fy * y / z + cy], axis=1)


def test_cameras_and_gaussians_fit_each_other(scene: TrainedScene, demo_video, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_export(scene, out, world="gaussians")
    assert {path.name for path in out.iterdir()} == {
        *("colmap", "images", "masks", "transforms.json", "points3D.ply", "trajectory.txt", "splat.ply"),
        *("scene.splat", "export.json"),
    }
    header, _, body = (out / "splat.ply").read_bytes().partition(b"end_header\n")
    names = [line.split()[2].decode() for line in header.splitlines() if line.startswith(b"property")]
    means = np.frombuffer(body, "<f4").reshape(-1, len(names))[:, :3].astype(float)
    # Where the model itself draws them, from the refined pose.
    camera = scene.pipeline.datamanager.train_dataset.cameras[4:5]  # pyright: ignore[reportOptionalMemberAccess]
    camera.metadata = {"cam_idx": 4}
    with torch.no_grad():
        view = scene.model.view_matrix(camera)[0].numpy()  # pyright: ignore[reportCallIssue]
    x, y, z = camera.get_intrinsics_matrices()[0].numpy() @ (view[:3, :3] @ means.T + view[:3, 3:])
    before = z > 0.2
    expected = np.stack([x / z, y / z], axis=1)[before]
    found = colmap_pixels(out / "colmap/sparse/0", 4, means)[before]
    near = np.abs(expected).max(axis=1) < 400
    assert near.sum() > 500
    np.testing.assert_allclose(found[near], expected[near], atol=0.01)

    for frame in (0, 7):
        image = cv2.imread(str(out / f"images/{frame:05d}.png"))
        np.testing.assert_array_equal(image[..., ::-1], demo_video.images[frame])
        mask = cv2.imread(str(out / f"masks/{frame:05d}.png"), cv2.IMREAD_UNCHANGED)
        assert not mask[demo_video.estimate.dynamic_probability[frame] > 0.5].any() and (mask == 255).mean() > 0.4


def test_an_export_is_the_same_to_every_program(reader: str, scene: TrainedScene, tmp_path: Path, read_back) -> None:
    out = tmp_path / "out"
    write_export(scene, out, ["colmap", "transforms"], world="gaussians")
    size = scene.video.original_size
    xyz, rgb = scene.seed_points()
    found = read_back(reader, out)
    assert found.image_names == [f"{i:05d}.png" for i in range(12)]
    np.testing.assert_array_equal(found.rgb, rgb)
    for frame in (0, 6, 11):
        # As the model itself draws, from the refined pose.
        camera = scene.camera(frame, size)
        view = view_matrix(camera.camera_to_worlds)[0].double().cpu().numpy()
        in_camera = xyz @ view[:3, :3].T + view[:3, 3]
        u, v, z = camera.get_intrinsics_matrices()[0].double().cpu().numpy() @ in_camera.T
        expected = np.stack([u / z, v / z], axis=1)
        visible = (z > 0.1) & (np.abs(expected).max(axis=1) < 1000)
        assert visible.sum() > 1000
        np.testing.assert_allclose(found.pixels[frame][visible], expected[visible], atol=0.01)


@pytest.mark.parametrize("video", ["bent", "fisheye"])
@pytest.mark.parametrize("undistort", [False, True])
def test_the_pictures_of_a_lens_and_their_cameras(
    video: str, request: pytest.FixtureRequest, make_trainer, tmp_path: Path, undistort: bool
) -> None:
    bent_video = request.getfixturevalue(f"{video}_video")
    scene, out = TrainedScene(make_trainer(video=bent_video, data=bent_video.frames).pipeline), tmp_path / "out"
    lens = bent_video.estimate.lens
    write_export(scene, out, ["colmap", "transforms", "nuke"], undistort=undistort)
    models, _, _ = colmap.read_model(str(out / "colmap/sparse/0"), ".bin")  # pyright: ignore[reportGeneralTypeIssues]
    k, terms = lens.matrix[[0, 1, 0, 1], [0, 1, 2, 2]], lens.coefficients
    written = json.loads((out / "transforms.json").read_text())["frames"][3]
    image = cv2.imread(str(out / "images/00003.png"))[..., ::-1]
    mask = cv2.imread(str(out / "masks/00003.png"), cv2.IMREAD_UNCHANGED)
    moves = bent_video.estimate.dynamic_probability[3]
    pinhole = lens.undistorted_picture(bent_video.images[3], cv2.INTER_CUBIC)
    if undistort:
        assert [model.model for model in models.values()] == ["PINHOLE"] and "k1" not in written
        np.testing.assert_array_equal(image, pinhole)
        assert not mask[moves > 0.5].any()
    else:
        assert [model.model for model in models.values()] == [lens.model]
        np.testing.assert_allclose(models[1].params, [*k, *terms], rtol=1e-6)
        assert [written[name] for name in lens.terms] == pytest.approx(terms.tolist())
        np.testing.assert_array_equal(image, bent_video.images[3])
        assert not mask[lens.distorted_picture(moves) > 0.6].any()
        apart = cv2.imread(str(out / "undistorted/images/00003.png"))[..., ::-1]
        np.testing.assert_array_equal(apart, pinhole)
    where = "images" if undistort else "undistorted/images"
    assert f"../{where}/%05d.png" in (out / "nuke/scene.nk").read_text()
    assert (out / "undistorted").exists() is not undistort


def test_the_front_ends_own_world_and_poses(scene: TrainedScene, demo_video, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_export(scene, out, ["trajectory", "points", "splat"], world="estimate", poses="front-end")
    assert {path.name for path in out.iterdir()} == {"trajectory.txt", "points3D.ply", "export.json"}
    rows = np.loadtxt(out / "trajectory.txt")
    np.testing.assert_allclose(rows[:, 1:4], demo_video.estimate.c2w_cv[:, :3, 3], atol=1e-6)
    np.testing.assert_allclose(rows[0], [0, 0, 0, 0, 0, 0, 0, 1], atol=1e-6)


def test_refined_poses_are_the_default(scene: TrainedScene, demo_video, tmp_path: Path) -> None:
    write_export(scene, tmp_path / "out", ["trajectory"], world="estimate")
    rows = np.loadtxt(tmp_path / "out/trajectory.txt")
    moved = np.abs(rows[:, 1:4] - demo_video.estimate.c2w_cv[:, :3, 3]).max()
    assert 0.002 < moved < 0.2


def test_a_second_export_replaces_the_first_and_nothing_else(scene: TrainedScene, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_export(scene, out, ["trajectory"])
    write_export(scene, out, ["points"])
    assert {path.name for path in out.iterdir()} == {"points3D.ply", "export.json"}
    assert json.loads((out / "export.json").read_text())["formats"] == ["points"]
    (out / "export.json").unlink()
    with pytest.raises(Das3rError, match="left alone"):
        write_export(scene, out, ["points"])
    with pytest.raises(Das3rError, match="world estimate"):
        write_export(scene, tmp_path / "other", ["splat"], world="estimate")


def test_each_program_gets_a_folder_the_right_way_up(scene: TrainedScene, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_export(scene, out, ["blender", "nuke", "usd"], world="gaussians")
    found = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file() and path.suffix != ".png"}
    assert found == {
        *("blender/scene.py", "blender/points.ply", "nuke/scene.nk", "nuke/camera.chan"),
        *("usd/scene.usda", "usd/scene_points.usdc", "export.json"),
    }
    assert len(list((out / "images").iterdir())) == 12
    # nerfstudio's world has z up, Nuke's y.
    place = scene.c2w_cv()[:, :3, 3]
    np.testing.assert_allclose(
        np.loadtxt(out / "nuke/camera.chan")[:, 1:4], place[:, [0, 2, 1]] * [1, 1, -1], atol=1e-6
    )
    first = json.loads((out / "blender/scene.py").read_text().partition('r"""')[2].partition('"""')[0])
    np.testing.assert_allclose(first["location"], place, atol=1e-9)
