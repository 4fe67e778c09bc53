"""Cameras and points, re-read by the programs they are for: the same pixels come out."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from jaxtyping import Float
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.data.utils import colmap_parsing_utils as colmap
from scipy.spatial.transform import Rotation

from das3r_ns.camera import view_matrix
from das3r_ns.export.cameras import ExportedCameras, write_colmap, write_trajectory, write_transforms
from das3r_ns.frontend.export import write_point_cloud
from das3r_ns.frontend.geometry import invert_rigid, project, transform_points

SIZE = (160, 90)
TOLERANCE = 0.01
"""Pixels."""


@pytest.fixture()
def cameras() -> ExportedCameras:
    """Five cameras, some turned by more than 90 degrees, two focals, and 200 points before all of them."""
    generator = np.random.default_rng(1)
    c2w = np.tile(np.eye(4), (5, 1, 1))
    c2w[:, :3, :3] = Rotation.from_rotvec(
        [[0, 0, 0], [0.2, 0.1, 3], [0.1, -0.2, -2], [0, 0.3, 1], [0, 0, 0.1]]
    ).as_matrix()
    c2w[:, :3, 3] = generator.normal(scale=0.3, size=(5, 3))
    k = np.tile([[120.5, 0, 81.25], [0, 119.0, 44.5], [0, 0, 1]], (5, 1, 1))
    k[3:, 0, 0] = 140.0
    xyz = np.concatenate([generator.uniform(-2, 2, (200, 2)), generator.uniform(5, 9, (200, 1))], axis=1)
    rgb = generator.integers(0, 256, (200, 3)).astype(np.uint8)
    return ExportedCameras(c2w, k, SIZE, [f"{i:05d}.png" for i in range(5)], xyz, rgb)


def pixels(cameras: ExportedCameras, frame: int) -> Float[np.ndarray, "M 2"]:
    """Where the points lie in a picture, by the project's own projection."""
    in_camera = transform_points(invert_rigid(cameras.c2w_cv[frame]), cameras.xyz)
    assert (in_camera[:, 2] > 1).all()
    return project(in_camera, cameras.intrinsics[frame])[0]


@pytest.mark.parametrize("extension", [".txt", ".bin"])
def test_colmap_is_read_by_nerfstudio(extension: str, cameras: ExportedCameras, tmp_path: Path) -> None:
    write_colmap(cameras, tmp_path / "model", extension)
    models, images, points = colmap.read_model(str(tmp_path / "model"), extension)  # pyright: ignore[reportGeneralTypeIssues]
    assert len(models) == 2 and len(images) == 5 and len(points) == 200
    xyz = np.stack([points[i].xyz for i in range(1, 201)])
    np.testing.assert_array_equal(np.stack([points[i].rgb for i in range(1, 201)]), cameras.rgb)
    for frame, name in enumerate(cameras.image_names):
        image = images[frame + 1]
        assert image.name == name
        model = models[image.camera_id]
        assert (model.model, model.width, model.height) == ("PINHOLE", *SIZE)
        fx, fy, cx, cy = model.params
        x, y, z = colmap.qvec2rotmat(image.qvec) @ xyz.T + image.tvec[:, None]
        np.testing.assert_allclose(
            np.stack([fx * x / z + cx, fy * y / z + cy], axis=1), pixels(cameras, frame), atol=TOLERANCE
        )


@pytest.mark.parametrize("extension", [".txt", ".bin"])
def test_colmap_is_read_by_colmap(extension: str, cameras: ExportedCameras, tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap", reason="pycolmap is not installed")
    write_colmap(cameras, tmp_path / "model", extension)
    model = pycolmap.Reconstruction(str(tmp_path / "model"))
    assert len(model.images) == 5 and len(model.points3D) == 200
    for frame, name in enumerate(cameras.image_names):
        image = model.images[frame + 1]
        assert image.name == name
        found = [image.project_point(model.points3D[i].xyz) for i in range(1, 201)]
        np.testing.assert_allclose(np.stack(found), pixels(cameras, frame), atol=TOLERANCE)


def test_transforms_are_read_by_nerfstudio(cameras: ExportedCameras, tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for name in cameras.image_names:
            cv2.imwrite(str(tmp_path / folder / name), np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    write_transforms(cameras, tmp_path / "transforms.json", "images", "masks", "points3D.ply")
    write_point_cloud(tmp_path / "points3D.ply", cameras.xyz.astype(np.float32), cameras.rgb)
    config = NerfstudioDataParserConfig(
        data=tmp_path,
        orientation_method="none",
        center_method="none",
        auto_scale_poses=False,
        load_3D_points=True,
        eval_mode="all",
    )
    outputs = config.setup().get_dataparser_outputs("train")
    assert [path.name for path in outputs.image_filenames] == cameras.image_names
    assert outputs.mask_filenames is not None and len(outputs.mask_filenames) == 5
    np.testing.assert_array_equal(outputs.metadata["points3D_rgb"], cameras.rgb)
    points = torch.cat([outputs.metadata["points3D_xyz"], torch.ones(200, 1)], dim=1)
    views = view_matrix(outputs.cameras.camera_to_worlds)
    ks = outputs.cameras.get_intrinsics_matrices()
    for frame in range(5):
        x, y, z = (ks[frame] @ (views[frame] @ points.T)[:3]).numpy()
        np.testing.assert_allclose(np.stack([x / z, y / z], axis=1), pixels(cameras, frame), atol=TOLERANCE)


def test_a_trajectory_has_the_order_of_tum(cameras: ExportedCameras, tmp_path: Path) -> None:
    write_trajectory(cameras.c2w_cv, 25.0, tmp_path / "trajectory.txt")
    rows = np.loadtxt(tmp_path / "trajectory.txt")
    np.testing.assert_allclose(rows[:, 0], [0, 0.04, 0.08, 0.12, 0.16])
    np.testing.assert_allclose(rows[:, 1:4], cameras.c2w_cv[:, :3, 3], atol=1e-8)
    np.testing.assert_allclose(rows[0, 4:], [0, 0, 0, 1], atol=1e-8)  # the first camera is not turned: w is last
    # scipy reads x y z w
    np.testing.assert_allclose(Rotation.from_quat(rows[:, 4:]).as_matrix(), cameras.c2w_cv[:, :3, :3], atol=1e-7)
