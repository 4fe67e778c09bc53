"""The exported world: Gaussians turned and scaled look the same, lengths are what they are said to be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from das3r_ns.errors import Das3rError
from das3r_ns.export.gaussians import gaussian_columns
from das3r_ns.export.placement import Placement, upright
from das3r_ns.export.up_axis import turn
from das3r_ns.export.write import write_export
from das3r_ns.rasterization import rasterization
from das3r_ns.scene.geometry import unproject
from das3r_ns.trained.scene import TrainedScene


def picture(columns: dict[str, np.ndarray], c2w_cv: np.ndarray, k: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """What splats look like from a camera."""

    def stacked(names: list[str]) -> torch.Tensor:
        return torch.from_numpy(np.stack([columns[name] for name in names], axis=1))

    rest = [name for name in columns if name.startswith("f_rest")]
    colours = stacked([f"f_dc_{i}" for i in range(3)])[:, None]
    if rest:
        colours = torch.cat([colours, stacked(rest).reshape(len(colours), 3, -1).swapaxes(1, 2)], dim=1)
    with torch.no_grad():
        image, _, _ = rasterization(
            means=stacked(list("xyz")),
            quats=stacked([f"rot_{i}" for i in range(4)]),
            scales=torch.exp(stacked([f"scale_{i}" for i in range(3)])),
            opacities=torch.sigmoid(torch.from_numpy(columns["opacity"])),
            colors=colours,
            viewmats=torch.from_numpy(np.linalg.inv(c2w_cv)).float()[None],
            Ks=torch.from_numpy(k).float()[None],
            width=size[0],
            height=size[1],
            sh_degree=int((len(rest) / 3 + 1) ** 0.5) - 1,
            packed=False,
        )
    return image[0].numpy()


def some_columns(degree: int) -> dict[str, np.ndarray]:
    """Random Gaussians before a camera at the origin, long and thin, of view-dependent colours."""
    generator = np.random.default_rng(degree)
    count = 150
    columns = {axis: generator.uniform(-1, 1, count) for axis in "xy"} | {"z": generator.uniform(2, 4, count)}
    columns |= {f"f_dc_{i}": generator.normal(size=count) for i in range(3)}
    columns |= {f"f_rest_{i}": 0.3 * generator.normal(size=count) for i in range(3 * ((degree + 1) ** 2 - 1))}
    columns |= {"opacity": generator.normal(size=count)}
    columns |= {f"scale_{i}": generator.normal(-3, 0.7, count) for i in range(3)}
    columns |= {f"rot_{i}": generator.normal(size=count) for i in range(4)}
    return {name: values.astype(np.float32) for name, values in columns.items()}


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_turned_gaussians_look_the_same(degree: int) -> None:
    k, size, columns = np.array([[60.0, 0, 48], [0, 60, 32], [0, 0, 1]]), (96, 64), some_columns(degree)
    placement = Placement(Rotation.from_rotvec([0.4, -1.9, 0.8]).as_matrix(), 2.5)
    camera = np.eye(4)
    camera[:3, :3] = placement.rotation
    before = picture(columns, np.eye(4), k, size)
    after = picture(placement.gaussians(columns), camera, k, size)
    assert before.std() > 0.05
    np.testing.assert_allclose(after, before, atol=2e-3)


@pytest.fixture()
def scene(make_trainer) -> TrainedScene:
    """Untrained splats of the demo."""
    return TrainedScene(make_trainer(sh_degree=1).pipeline)


def test_each_file_has_the_axis_up_that_its_readers_have(scene: TrainedScene, demo_video, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_export(scene, out, ["trajectory", "gaussians", "splat", "nuke", "usd", "blender"])
    pose = np.loadtxt(demo_video.folder / "poses.txt")[0].reshape(3, 4)
    up = pose[:, :3].T @ [0, -1.0, 0]  # of the demo, in the world of the estimate
    told = json.loads((out / "export.json").read_text())
    assert told["unit"] == "unknown" and told["up"] == {
        "else": "z",
        "splat.ply": "-y",
        "scene.splat": "-y",
        "nuke/": "y",
    }
    rotation = np.array(told["world_from_estimate"]["transform"])[:, :3]
    assert (rotation @ up)[2] > np.cos(np.radians(10))
    places = np.loadtxt(out / "trajectory.txt")[:, 1:4]
    np.testing.assert_allclose(places.mean(axis=0), 0, atol=1e-4)
    # SuperSplat turns what it reads by half a turn about z, and then has y up: so does Nuke.
    splat = np.frombuffer((out / "scene.splat").read_bytes(), "<f4").reshape(-1, 8)[:, :3]
    shown = np.sort(splat[:, 1] * -1)
    placed = upright(scene).gaussians(gaussian_columns(scene.model))
    np.testing.assert_allclose(shown, np.sort(placed["z"]), atol=1e-5)
    np.testing.assert_allclose(np.loadtxt(out / "nuke/camera.chan")[:, 2], places[:, 2], atol=1e-6)


def test_two_pixels_and_their_distance_give_metres(scene: TrainedScene, demo_video, tmp_path: Path) -> None:
    """The demo is in metres."""
    estimate = demo_video.estimate
    still = estimate.dynamic_probability < 0.5
    ends = [(0, 20, 30), (7, 140, 60)]
    assert all(still[frame, y, x] for frame, x, y in ends)
    points = []
    for frame, x, y in ends:
        seen = unproject(np.array([x + 0.5, y + 0.5]), estimate.depth[frame, y, x], estimate.intrinsics[frame])
        points.append(estimate.c2w_cv[frame, :3, :3] @ seen + estimate.c2w_cv[frame, :3, 3])
    metres = float(np.linalg.norm(points[0] - points[1]))
    length = "-".join(f"{frame}:{x + 0.5},{y + 0.5}" for frame, x, y in ends) + f"={metres:.6f}"
    write_export(scene, tmp_path / "out", ["trajectory", "nuke"], scale_by=length)
    places = np.loadtxt(tmp_path / "out/trajectory.txt")[:, 1:4]
    walked = np.linalg.norm(places[-1] - places[0])
    assert walked == pytest.approx(np.linalg.norm(estimate.c2w_cv[-1, :3, 3] - estimate.c2w_cv[0, :3, 3]), rel=1e-3)
    assert json.loads((tmp_path / "out/export.json").read_text())["unit"] == "metre"


def test_the_height_of_the_camera_gives_metres(scene: TrainedScene) -> None:
    once, twice = upright(scene, camera_height=1.5), upright(scene, camera_height=3.0)
    assert once.metric and twice.scale == pytest.approx(2 * once.scale)
    with pytest.raises(Das3rError, match="one of them"):
        upright(scene, "0:1,1-0:2,2=1", 1.5)


@pytest.mark.parametrize(
    ("length", "says"),
    [
        ("0:1,1", "is no length"),
        ("0:1.2.3,1-0:20,20=1", "is no length"),
        ("0:10,10-0:20,20=0", "nothing apart"),
        ("0:10,10-99:20,20=1", "of frame 99 does not exist"),
        ("0:10,10-0:2000,20=1", "does not exist"),
    ],
)
def test_a_wrong_length_is_said(length: str, says: str, scene: TrainedScene, tmp_path: Path) -> None:
    with pytest.raises(Das3rError, match=says):
        write_export(scene, tmp_path / "out", ["points"], scale_by=length)


def test_what_moves_has_no_length(scene: TrainedScene, demo_video, tmp_path: Path) -> None:
    y, x = np.argwhere(demo_video.estimate.dynamic_probability[0] > 0.5)[0]
    with pytest.raises(Das3rError, match="something that moves"):
        write_export(scene, tmp_path / "out", ["points"], scale_by=f"0:{x}.5,{y}.5-0:1,1=1")
    with pytest.raises(Das3rError, match="upright world only"):
        write_export(scene, tmp_path / "out", ["points"], world="gaussians", camera_height=1.0)


def test_turns_between_axes_keep_x() -> None:
    up = {"z": [0, 0, 1], "y": [0, 1, 0], "-y": [0, -1, 0]}
    for old in ("z", "y", "-y"):
        for new in ("z", "y", "-y"):
            matrix = turn(old, new)
            assert np.linalg.det(matrix) == 1 and matrix[0, 0] == 1
            np.testing.assert_array_equal(matrix @ up[old], up[new])
