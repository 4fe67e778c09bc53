"""The scene as USD: ``scene.usda`` has the camera and refers to ``scene_points.usdc``; usd-core writes them.

USD's camera looks along -z with y up. Across, the picture shows horizontalAperture / focalLength, down
verticalAperture / focalLength, and the aperture offsets move that window (UsdGeomCamera, GfCamera). Frame n is time
code n.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from das3r_ns.errors import Das3rError
from das3r_ns.export.cameras import ExportedCameras
from das3r_ns.pictures import linear

APERTURE = 36.0
"""Horizontal aperture; only its ratio to the focal shows."""
SCENE, POINTS = "scene.usda", "scene_points.usdc"


def check_usd() -> None:
    """Make sure that the format can be written at all.

    Raises:
        Das3rError: usd-core is missing.
    """
    if importlib.util.find_spec("pxr") is None:
        raise Das3rError(
            "The format usd needs usd-core, which is not installed: pip install 'das3r-ns[usd]'. Or leave usd out of "
            "--format."
        )


def write_usd(
    cameras: ExportedCameras,
    directory: Path,
    fps: float,
    gaussians: dict[str, Float[np.ndarray, " N"]] | None = None,
    up: Literal["Y", "Z"] = "Z",
    metric: bool = False,
) -> None:
    """Write SCENE and POINTS.

    Args:
        cameras: Cameras and points.
        directory: Folder for both files.
        fps: Frames per second.
        gaussians: x, y, z, f_dc, opacity and scale of :func:`~das3r_ns.export.gaussians.gaussian_columns`, in the world
            of the cameras; each becomes a point as wide as it is.
        up: Which axis is up.
        metric: Whether the unit is the metre; else it is unknown, and left at USD's own.
    """
    Usd, UsdGeom = _pxr("Usd"), _pxr("UsdGeom")

    geometry = Usd.Stage.CreateNew(str(directory / POINTS))
    root = UsdGeom.Xform.Define(geometry, "/Geometry")
    geometry.SetDefaultPrim(root.GetPrim())
    _points(geometry, "/Geometry/Points", cameras.xyz, cameras.rgb / 255)
    if gaussians is not None:
        xyz = np.stack([gaussians[axis] for axis in "xyz"], axis=1)
        # Degree 0 of the spherical harmonics is the constant 1 / (2 sqrt(pi)); colours are stored around grey.
        rgb = 0.5 + np.stack([gaussians[f"f_dc_{i}"] for i in range(3)], axis=1) / (2 * np.sqrt(np.pi))
        widths = 2 * np.exp(np.mean([gaussians[f"scale_{i}"] for i in range(3)], axis=0))
        points = _points(geometry, "/Geometry/Gaussians", xyz, rgb.clip(0, 1), widths)
        opacity = 1 / (1 + np.exp(-gaussians["opacity"]))
        points.CreateDisplayOpacityPrimvar(UsdGeom.Tokens.vertex).Set(_array("Float", opacity))
    stages = [geometry]

    stage = Usd.Stage.CreateNew(str(directory / SCENE))
    world = UsdGeom.Xform.Define(stage, "/World")
    stage.SetDefaultPrim(world.GetPrim())
    stage.DefinePrim("/World/Geometry").GetReferences().AddReference(f"./{POINTS}")
    _camera(stage, cameras)
    stage.SetStartTimeCode(0)
    stage.SetEndTimeCode(len(cameras.c2w_cv) - 1)
    stage.SetTimeCodesPerSecond(fps)
    stage.SetFramesPerSecond(fps)
    stages.append(stage)
    for each in stages:
        UsdGeom.SetStageUpAxis(each, UsdGeom.Tokens.z if up == "Z" else UsdGeom.Tokens.y)
        if metric:
            UsdGeom.SetStageMetersPerUnit(each, 1.0)
        layer = each.GetRootLayer()
        layer.comment = "Written by das3r; " + ("in metres" if metric else "the unit of length is unknown")
        layer.Save()


def _pxr(name: str) -> Any:
    """A module of usd-core, which has no types."""
    return importlib.import_module(f"pxr.{name}")


def _camera(stage: Any, cameras: ExportedCameras) -> None:
    Gf, UsdGeom = _pxr("Gf"), _pxr("UsdGeom")

    (width, height), k = cameras.size, cameras.intrinsics
    camera = UsdGeom.Camera.Define(stage, "/World/Camera")
    vertical = APERTURE * height / width * k[:, 0, 0] / k[:, 1, 1]
    values = {
        camera.CreateHorizontalApertureAttr(): np.full(len(k), APERTURE),
        camera.CreateVerticalApertureAttr(): vertical,
        camera.CreateFocalLengthAttr(): k[:, 0, 0] * APERTURE / width,
        camera.CreateHorizontalApertureOffsetAttr(): (0.5 - k[:, 0, 2] / width) * APERTURE,
        camera.CreateVerticalApertureOffsetAttr(): (k[:, 1, 2] / height - 0.5) * vertical,
    }
    for attribute, numbers in values.items():
        if np.ptp(numbers) <= 1e-9:
            attribute.Set(float(numbers[0]))
        else:
            for frame, number in enumerate(numbers.tolist()):
                attribute.Set(number, frame)
    transform = camera.AddTransformOp()
    for frame, pose in enumerate(cameras.c2w_gl):
        transform.Set(Gf.Matrix4d(pose.T.tolist()), frame)  # rows there are columns here
    centre = cameras.c2w_cv[:, :3, 3].mean(axis=0)
    reach = float(np.linalg.norm(cameras.xyz - centre, axis=1).max(initial=1.0))
    camera.CreateClippingRangeAttr(Gf.Vec2f(1e-3 * reach, 10 * reach))


def _points(
    stage: Any,
    path: str,
    xyz: Float[np.ndarray, "M 3"],
    rgb: Float[np.ndarray, "M 3"],
    widths: Float[np.ndarray, " M"] | None = None,
) -> Any:
    UsdGeom = _pxr("UsdGeom")

    points = UsdGeom.Points.Define(stage, path)
    points.CreatePointsAttr(_array("Vec3f", xyz))
    points.CreateDisplayColorPrimvar(UsdGeom.Tokens.vertex).Set(_array("Vec3f", linear(rgb)))
    if widths is None:
        size = 0.002 * float(np.linalg.norm(np.ptp(xyz, axis=0))) if len(xyz) else 1.0
        widths = np.full(len(xyz), size)
    points.CreateWidthsAttr(_array("Float", widths))
    if len(xyz):
        points.CreateExtentAttr(_array("Vec3f", np.stack([xyz.min(axis=0), xyz.max(axis=0)])))
    return points


def _array(kind: str, values: np.ndarray) -> Any:
    return getattr(_pxr("Vt"), f"{kind}Array").FromNumpy(np.ascontiguousarray(values, dtype=np.float32))
