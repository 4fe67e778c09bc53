"""Cameras for Blender, Nuke and USD: by each program's own rule the points lie on the same pixels."""

from __future__ import annotations

import importlib.util
import json
import math
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from das3r_ns.export.blender import write_blender_script
from das3r_ns.export.cameras import ExportedCameras
from das3r_ns.export.nuke import write_chan, write_nuke_script, write_st_maps
from das3r_ns.export.usd import write_usd
from das3r_ns.frontend.report.write import write_point_cloud
from das3r_ns.scene.geometry import invert_rigid, project, transform_points
from das3r_ns.scene.lens import Lens

SIZE = (640, 360)
TOLERANCE = 0.05
"""Pixels."""
KINDS = ("plain", "zoom", "off centre, oblong pixels")


@pytest.fixture(params=KINDS)
def cameras(request: pytest.FixtureRequest) -> ExportedCameras:
    """Six cameras, turned this way and that, and 300 points before all of them."""
    generator = np.random.default_rng(2)
    c2w = np.tile(np.eye(4), (6, 1, 1))
    turns = [[0, 0, 0], [0.2, 0.1, 3.1], [0.1, -0.2, -3.1], [0, 0.3, 1], [0, 0, 0.1], [-0.3, 0.1, -2]]
    c2w[:, :3, :3] = Rotation.from_rotvec(turns).as_matrix()
    c2w[:, :3, 3] = generator.normal(scale=0.3, size=(6, 3))
    k = np.tile([[500.0, 0, 320.0], [0, 500.0, 180.0], [0, 0, 1]], (6, 1, 1))
    if request.param == "zoom":
        k[:, 0, 0] = k[:, 1, 1] = np.linspace(480, 700, 6)
    elif request.param != "plain":
        k[:, :2] = [[500.0, 0, 301.25], [0, 530.0, 195.5]]
    xyz = np.concatenate([generator.uniform(-2, 2, (300, 2)), generator.uniform(5, 9, (300, 1))], axis=1)
    rgb = generator.integers(0, 256, (300, 3)).astype(np.uint8)
    cameras = ExportedCameras(c2w, k, SIZE, [f"{i:05d}.png" for i in range(6)], xyz, rgb)
    return cameras.turned(Rotation.from_rotvec([0.3, -1.2, 0.4]).as_matrix())


def expected(cameras: ExportedCameras) -> Float[np.ndarray, "N M 2"]:
    """Where the points lie, by the project's own projection."""
    views = invert_rigid(cameras.c2w_cv)
    return np.stack(
        [project(transform_points(v, cameras.xyz), k)[0] for v, k in zip(views, cameras.intrinsics, strict=True)]
    )


class PretendBpy(SimpleNamespace):
    """As much of Blender as the script asks of it; keeps what is keyed."""

    def __init__(self) -> None:
        class Thing(SimpleNamespace):
            def keyframe_insert(self, name: str, frame: int) -> None:
                self.__dict__.setdefault("keys", {}).setdefault(name, {})[frame] = getattr(self, name)

        def new(name: str, data: Any = None) -> Any:
            return Thing(name=name, data=data, background_images=SimpleNamespace(new=new_background))

        def new_background() -> Any:
            self.background = Thing(image_user=Thing())
            return self.background

        def new_mesh(name: str) -> Any:
            self.mesh = Thing(name=name, count=0, co=None, colour=None, update=lambda: None)
            mesh = self.mesh
            mesh.vertices = Thing(
                add=lambda count: setattr(mesh, "count", count),
                foreach_set=lambda _, values: setattr(mesh, "co", np.array(values)),
            )
            data = Thing(foreach_set=lambda _, values: setattr(mesh, "colour", np.array(values)))
            mesh.attributes = Thing(new=lambda *_: Thing(data=data))
            return mesh

        scene = Thing(render=Thing(), collection=Thing(objects=Thing(link=lambda _: None)))
        data = Thing(cameras=Thing(new=new), objects=Thing(new=new), meshes=Thing(new=new_mesh))
        data.images = Thing(load=lambda path: Thing(path=path))
        super().__init__(context=SimpleNamespace(scene=scene), data=data)


def blender_pixels(scene: Any, camera: Any, frame: int, xyz: Float[np.ndarray, "M 3"]) -> Float[np.ndarray, "M 2"]:
    """Blender's manual and its camera_params (BKE_camera.h): sensor fit HORIZONTAL."""
    data, render = camera.data, scene.render
    assert data.sensor_fit == "HORIZONTAL"

    def at(thing: Any, name: str) -> Any:
        keys = getattr(thing, "keys", {}).get(name)
        return getattr(thing, name) if keys is None else keys[frame]

    w, x, y, z = at(camera, "rotation_quaternion")
    seen = (xyz - at(camera, "location")) @ Rotation.from_quat([x, y, z, w]).as_matrix()
    # The film is as wide as the picture; what is seen of it down follows from the aspect of picture and pixels.
    wide = at(data, "lens") / data.sensor_width * seen[:, 0] / -seen[:, 2] - at(data, "shift_x")
    high = at(data, "lens") / data.sensor_width * seen[:, 1] / -seen[:, 2] - at(data, "shift_y")
    aspect = render.pixel_aspect_x / render.pixel_aspect_y
    u = render.resolution_x * (0.5 + wide)
    v = render.resolution_y / 2 - render.resolution_x * aspect * high
    return np.stack([u, v], axis=1)


def write_for_blender(cameras: ExportedCameras, folder: Path) -> Path:
    """A folder as `das3r export --format blender` writes it."""
    (folder / "images").mkdir()
    cv2.imwrite(str(folder / "images/00000.png"), np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    write_point_cloud(folder / "points3D.ply", cameras.xyz.astype(np.float32), cameras.rgb)
    script = folder / "blender_scene.py"
    write_blender_script(cameras, script, 'a "film"', 29.97, "images/00000.png", "points3D.ply")
    return script


def test_blender_sees_the_same_pixels(
    cameras: ExportedCameras, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bpy = PretendBpy()
    monkeypatch.setitem(sys.modules, "bpy", bpy)
    runpy.run_path(str(write_for_blender(cameras, tmp_path)))
    scene = bpy.context.scene
    assert (scene.render.resolution_x, scene.render.resolution_y) == SIZE
    assert scene.render.fps / scene.render.fps_base == pytest.approx(29.97)
    assert min(scene.render.pixel_aspect_x, scene.render.pixel_aspect_y) >= 1
    assert (scene.frame_start, scene.frame_end) == (0, 5)
    found = np.stack([blender_pixels(scene, scene.camera, frame, cameras.xyz) for frame in range(6)])
    np.testing.assert_allclose(found, expected(cameras), atol=TOLERANCE)
    keys = np.array([scene.camera.keys["rotation_quaternion"][frame] for frame in range(6)])
    assert ((keys[1:] * keys[:-1]).sum(axis=1) > 0).all()  # nothing turns the long way round between two frames
    np.testing.assert_allclose(bpy.mesh.co.reshape(-1, 3), cameras.xyz, rtol=1e-6)
    assert bpy.mesh.count == 300 and (bpy.mesh.colour[3::4] == 1).all()
    assert bpy.background.image.source == "SEQUENCE"
    assert bpy.background.image.path == str(tmp_path / "images/00000.png")
    user = bpy.background.image_user  # the number in the file's name is frame - frame_start + 1 + frame_offset
    assert 0 - user.frame_start + 1 + user.frame_offset == 0 and user.frame_duration == 6


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("bpy") is None, reason="Blender as a module (bpy) is not installed")
def test_blender_itself_sees_the_same_pixels(cameras: ExportedCameras, tmp_path: Path) -> None:
    import bpy  # pyright: ignore[reportMissingImports]
    from bpy_extras.object_utils import world_to_camera_view  # pyright: ignore[reportMissingImports]
    from mathutils import Vector  # pyright: ignore[reportMissingImports]

    bpy.ops.wm.read_factory_settings(use_empty=True)
    runpy.run_path(str(write_for_blender(cameras, tmp_path)))
    scene = bpy.context.scene
    for frame, pixels in enumerate(expected(cameras)):
        scene.frame_set(frame)
        seen = np.array([world_to_camera_view(scene, scene.camera, Vector(p)) for p in cameras.xyz.tolist()])
        found = np.stack([seen[:, 0] * SIZE[0], (1 - seen[:, 1]) * SIZE[1]], axis=1)
        np.testing.assert_allclose(found, pixels, atol=TOLERANCE)


def read_nk(text: str) -> list[tuple[str, dict[str, str]]]:
    """Nodes of a Nuke script with their knobs."""
    nodes: list[tuple[str, dict[str, str]]] = []
    for line in text.splitlines():
        if line.endswith(" {") and not line.startswith(" "):
            nodes.append((line[:-2], {}))
        elif line.startswith(" "):
            name, _, value = line.strip().partition(" ")
            nodes[-1][1][name] = value
    return nodes


def knob(text: str, frame: int) -> list[float]:
    """Values of a knob in a frame: numbers, or curves of keys."""
    values: list[float] = []
    words = text.replace("{", " { ").replace("}", " } ").split()
    curve: dict[int, float] | None = None
    key = 0
    for word in words:
        if word == "curve":
            curve = {}
        elif word == "}" and curve is not None:
            values.append(curve[frame])
            curve = None
        elif word in "{}L":
            continue
        elif curve is not None and word.startswith("x"):
            key = int(word[1:])
        elif curve is not None:
            curve[key] = float(word)
        else:
            values.append(float(word))
    return values


def nuke_rotation(angles: list[float]) -> Float[np.ndarray, "3 3"]:
    """Rotation order ZXY: about z first, then x, then y."""
    x, y, z = (Rotation.from_euler(axis, angle, degrees=True) for axis, angle in zip("xyz", angles, strict=True))
    return (y * x * z).as_matrix()


def nuke_pixels(
    xyz: np.ndarray, place: list[float], angles: list[float], lens: float, window: list[float], scale: list[float]
) -> Float[np.ndarray, "M 2"]:
    """nukescripts.snap3d.cameraProjectionMatrix; `lens` is focal / haperture. Nuke's pixels count from below."""
    seen = (xyz - place) @ nuke_rotation(angles)
    clip = (2 * lens * seen[:, :2] / -seen[:, 2:] - window) / scale
    half = SIZE[0] / 2
    return np.stack([half * (clip[:, 0] + 1), SIZE[1] - half * (clip[:, 1] + SIZE[1] / SIZE[0])], axis=1)


def test_nuke_sees_the_same_pixels(cameras: ExportedCameras, tmp_path: Path) -> None:
    write_nuke_script(cameras, tmp_path / "scene.nk", 25.0, "images/%05d.png", lens=True)
    nodes = read_nk((tmp_path / "scene.nk").read_text())
    (camera,) = (knobs for name, knobs in nodes if name == "Camera2")
    assert camera["rot_order"] == "ZXY"
    for frame, pixels in enumerate(expected(cameras)):
        place, angles, window, scale = (
            knob(camera[name], frame) for name in ("translate", "rotate", "win_translate", "win_scale")
        )
        lens = knob(camera["focal"], frame)[0] / float(camera["haperture"])
        found = nuke_pixels(cameras.xyz, place, angles, lens, window, scale)
        np.testing.assert_allclose(found, pixels, atol=TOLERANCE)
    root, read = nodes[0][1], nodes[1][1]
    assert (root["first_frame"], root["last_frame"], read["first"], read["last"]) == ("0", "5", "0", "5")
    assert read["file"].endswith('/images/%05d.png"')
    assert [knobs["name"] for name, knobs in nodes if name == "STMap"] == ["undistort", "distort"]


def test_a_chan_file_is_the_same_camera(cameras: ExportedCameras, tmp_path: Path) -> None:
    write_chan(cameras, tmp_path / "camera.chan")
    rows = np.loadtxt(tmp_path / "camera.chan")
    np.testing.assert_array_equal(rows[:, 0], range(6))
    assert np.abs(np.diff(rows[:, 4:7], axis=0)).max() <= 180
    vaperture = 24.576 * SIZE[1] / SIZE[0]  # of any camera node with the aspect of the picture
    centre = np.array(SIZE) / 2
    for row, pixels, k in zip(rows, expected(cameras), cameras.intrinsics, strict=True):
        focal = vaperture / 2 / math.tan(math.radians(row[7] / 2))
        found = nuke_pixels(cameras.xyz, list(row[1:4]), list(row[4:7]), focal / 24.576, [0, 0], [1, 1])
        # The format knows square pixels and the middle of the picture only.
        wanted = (pixels - k[:2, 2]) * [1, k[0, 0] / k[1, 1]] + centre
        np.testing.assert_allclose(found, wanted, atol=TOLERANCE)


def test_st_maps_lead_from_one_picture_to_the_other(tmp_path: Path) -> None:
    openexr = pytest.importorskip("OpenEXR", reason="OpenEXR is not installed")
    lens = Lens.central((160, 90), 110.0, -0.12, 0.01)
    write_st_maps(lens, tmp_path)
    for name, other, to_other in (
        ("undistort", lens.size, lens.from_pinhole),
        ("distort", lens.pinhole_size, lens.to_pinhole),
    ):
        with openexr.File(str(tmp_path / f"{name}.exr"), separate_channels=True) as file:
            red, green = (np.array(file.channels()[c].pixels) for c in "RG")
        assert red.dtype == np.float32 and red.shape[::-1] in (lens.size, lens.pinhole_size)
        row, column = 20, 33
        # Nuke's pixels count from below, and so does what the map says.
        found = [red[row, column] * other[0], (1 - green[row, column]) * other[1]]
        np.testing.assert_allclose(found, to_other(np.array([column + 0.5, row + 0.5])), atol=0.01)


def test_usd_sees_the_same_pixels(cameras: ExportedCameras, tmp_path: Path) -> None:
    Gf, Usd, UsdGeom = (pytest.importorskip(f"pxr.{name}") for name in ("Gf", "Usd", "UsdGeom"))
    generator = np.random.default_rng(0)
    gaussians = {name: generator.normal(size=40).astype(np.float32) for name in ("x", "y", "z", "opacity")}
    gaussians |= {
        f"{name}_{i}": generator.normal(size=40).astype(np.float32) for name in ("f_dc", "scale") for i in "012"
    }
    write_usd(cameras, tmp_path, 24.0, gaussians, metric=True)
    stage = Usd.Stage.Open(str(tmp_path / "scene.usda"))
    assert UsdGeom.GetStageUpAxis(stage) == "Z" and UsdGeom.GetStageMetersPerUnit(stage) == 1.0
    assert (stage.GetStartTimeCode(), stage.GetEndTimeCode(), stage.GetTimeCodesPerSecond()) == (0, 5, 24)
    points = UsdGeom.Points(stage.GetPrimAtPath("/World/Geometry/Points"))
    xyz = np.array(points.GetPointsAttr().Get(), dtype=float)
    np.testing.assert_allclose(xyz, cameras.xyz, rtol=1e-6)
    camera = UsdGeom.Camera(stage.GetPrimAtPath("/World/Camera"))
    for frame, pixels in enumerate(expected(cameras)):
        frustum = camera.GetCamera(frame).frustum
        matrix = frustum.ComputeViewMatrix() * frustum.ComputeProjectionMatrix()
        clip = np.array([matrix.Transform(Gf.Vec3d(*p)) for p in xyz.tolist()])
        found = np.stack([SIZE[0] * (1 + clip[:, 0]) / 2, SIZE[1] * (1 - clip[:, 1]) / 2], axis=1)
        np.testing.assert_allclose(found, pixels, atol=TOLERANCE)
    splats = UsdGeom.Points(stage.GetPrimAtPath("/World/Geometry/Gaussians"))
    np.testing.assert_allclose(np.array(splats.GetPointsAttr().Get())[:, 1], gaussians["y"])
    opacity = splats.GetDisplayOpacityPrimvar().Get()
    np.testing.assert_allclose(opacity, 1 / (1 + np.exp(-gaussians["opacity"])), rtol=1e-5)


def test_a_title_cannot_break_the_script(cameras: ExportedCameras, tmp_path: Path) -> None:
    write_blender_script(cameras, tmp_path / "a.py", '"""\\', 25.0, "images/00000.png", "points3D.ply")
    text = (tmp_path / "a.py").read_text()
    compile(text, "a.py", "exec")
    assert json.loads(text.partition('r"""')[2].partition('"""')[0])["size"] == list(SIZE)
