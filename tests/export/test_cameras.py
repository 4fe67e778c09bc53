"""Cameras and points, re-read by the programs they are for: the same pixels come out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import open3d
import pytest
from evo.tools import file_interface
from jaxtyping import Float
from nerfstudio.data.utils import colmap_parsing_utils as colmap
from scipy.spatial.transform import Rotation

from das3r_ns.export.cameras import ExportedCameras, write_colmap, write_trajectory, write_transforms
from das3r_ns.frontend.known.cameras import read_cameras
from das3r_ns.frontend.report.write import write_point_cloud
from das3r_ns.scene.fisheye import Fisheye
from das3r_ns.scene.geometry import invert_rigid, project, transform_points

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


def write_all(cameras: ExportedCameras, folder: Path) -> Path:
    """The cameras in every format, in the folders of `das3r export`."""
    for pictures in ("images", "masks"):
        (folder / pictures).mkdir()
        for name in cameras.image_names:
            cv2.imwrite(str(folder / pictures / name), np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    write_colmap(cameras, folder / "colmap/sparse/0", ".bin")
    write_colmap(cameras, folder / "colmap/text", ".txt")
    write_transforms(cameras, folder / "transforms.json", "images", "masks", "points3D.ply")
    write_point_cloud(folder / "points3D.ply", cameras.xyz.astype(np.float32), cameras.rgb)
    return folder


@pytest.fixture()
def exported(cameras: ExportedCameras, tmp_path: Path) -> Path:
    """What ``write_all`` writes."""
    return write_all(cameras, tmp_path)


def test_every_program_sees_the_same_pixels(reader: str, cameras: ExportedCameras, exported: Path, read_back) -> None:
    found = read_back(reader, exported)
    assert found.image_names == cameras.image_names
    np.testing.assert_array_equal(found.rgb, cameras.rgb)
    expected = np.stack([pixels(cameras, frame) for frame in range(5)])
    np.testing.assert_allclose(found.pixels, expected, atol=TOLERANCE)


def test_every_program_sees_the_same_distortion(
    reader: str, cameras: ExportedCameras, tmp_path: Path, read_back
) -> None:
    terms = np.tile([-0.12, 0.02, 0.001, -0.002], (5, 1))
    bent = replace(cameras, distortion=terms)
    found = read_back(reader, write_all(bent, tmp_path))
    for frame in range(5):
        in_camera = transform_points(invert_rigid(cameras.c2w_cv[frame]), cameras.xyz)
        none, k = np.zeros(3), cameras.intrinsics[frame]
        expected, _ = cv2.projectPoints(in_camera, none, none, k, terms[frame])
        if found.distortion is None:  # the program's own projection knows of it
            np.testing.assert_allclose(found.pixels[frame], expected[:, 0], atol=TOLERANCE)
        else:
            # nerfstudio's order: k1 k2 k3 k4 p1 p2; its datamanager undistorts the pictures by them.
            np.testing.assert_allclose(found.distortion[frame], [-0.12, 0.02, 0, 0, 0.001, -0.002], rtol=1e-6)
            np.testing.assert_allclose(found.pixels[frame], pixels(cameras, frame), atol=TOLERANCE)


def test_every_program_sees_the_same_fisheye(reader: str, cameras: ExportedCameras, tmp_path: Path, read_back) -> None:
    # nerfstudio's parser of COLMAP refuses k4, taking it for another model's.
    terms = [0.05, -0.01, 0.004, 0.0 if reader.startswith("ns colmap") else -0.001]
    bent = replace(cameras, distortion=np.tile(terms, (5, 1)), lens_model=Fisheye.model)
    found = read_back(reader, write_all(bent, tmp_path))
    for path in (tmp_path / "colmap/text", tmp_path / "transforms.json"):  # and we ourselves
        lens = read_cameras(path).lens(cameras.image_names[:3], SIZE, None)
        assert isinstance(lens, Fisheye) and lens.coefficients.tolist() == pytest.approx(terms)
    for frame in range(5):
        in_camera = transform_points(invert_rigid(cameras.c2w_cv[frame]), cameras.xyz)
        none, k = np.zeros(3), cameras.intrinsics[frame]
        expected, _ = cv2.fisheye.projectPoints(in_camera[:, None], none, none, k, np.array(terms))
        if found.distortion is None:  # the program's own projection knows of it
            np.testing.assert_allclose(found.pixels[frame], expected[:, 0], atol=TOLERANCE)
        else:
            np.testing.assert_allclose(found.distortion[frame], [*terms, 0, 0], rtol=1e-6)
            np.testing.assert_allclose(found.pixels[frame], pixels(cameras, frame), atol=TOLERANCE)


def test_points_are_read_by_open3d(cameras: ExportedCameras, exported: Path) -> None:
    cloud = open3d.io.read_point_cloud(exported / "points3D.ply")
    np.testing.assert_allclose(np.asarray(cloud.points), cameras.xyz, rtol=1e-6)
    np.testing.assert_array_equal(np.rint(np.asarray(cloud.colors) * 255), cameras.rgb)


def test_a_large_picture_far_from_the_origin_keeps_its_digits(tmp_path: Path, read_back) -> None:
    """Nine digits of a number in the text are enough."""
    c2w = np.eye(4)[None].repeat(2, axis=0)
    c2w[:, :3, :3] = Rotation.from_rotvec([[0.3, 0.1, 0.02], [0.31, 0.1, 0.02]]).as_matrix()
    c2w[:, :3, 3] = [[123.456, -78.9, 1000.1], [123.5, -78.9, 1000.2]]
    k = np.array([[3600.1234, 0, 1920.0], [0, 3600.4321, 1080.0], [0, 0, 1]])[None].repeat(2, axis=0)
    xyz = transform_points(c2w[0], np.array([[0.1, 0.2, 5.0], [-2.0, 1.0, 9.0]]))
    cameras = ExportedCameras(c2w, k, (3840, 2160), ["a.png", "b.png"], xyz, np.zeros((2, 3), np.uint8))
    expected = np.stack([pixels(cameras, frame) for frame in range(2)])
    write_colmap(cameras, tmp_path / "colmap/sparse/0", ".bin")
    write_colmap(cameras, tmp_path / "colmap/text", ".txt")
    for kind in ("binary", "text"):
        np.testing.assert_allclose(read_back(f"pycolmap, {kind}", tmp_path).pixels, expected, atol=TOLERANCE)


def test_a_trajectory_has_the_order_of_tum(cameras: ExportedCameras, tmp_path: Path) -> None:
    write_trajectory(cameras.c2w_cv, (np.arange(len(cameras.c2w_cv)) / 25).tolist(), tmp_path / "trajectory.txt")
    rows = np.loadtxt(tmp_path / "trajectory.txt")
    np.testing.assert_allclose(rows[:, 0], [0, 0.04, 0.08, 0.12, 0.16])
    np.testing.assert_allclose(rows[:, 1:4], cameras.c2w_cv[:, :3, 3], atol=1e-8)
    np.testing.assert_allclose(rows[0, 4:], [0, 0, 0, 1], atol=1e-8)  # the first camera is not turned: w is last
    # scipy reads x y z w
    np.testing.assert_allclose(Rotation.from_quat(rows[:, 4:]).as_matrix(), cameras.c2w_cv[:, :3, :3], atol=1e-7)


def test_a_trajectory_is_read_by_evo(cameras: ExportedCameras, tmp_path: Path) -> None:
    write_trajectory(cameras.c2w_cv, (np.arange(len(cameras.c2w_cv)) / 30).tolist(), tmp_path / "trajectory.txt")
    read = file_interface.read_tum_trajectory_file(tmp_path / "trajectory.txt")
    np.testing.assert_allclose(read.timestamps, np.arange(5) / 30, atol=1e-8)
    np.testing.assert_allclose(np.stack(read.poses_se3), cameras.c2w_cv, atol=1e-7)
