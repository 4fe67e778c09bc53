"""A scene script for Blender: ``blender --python scene.py``, or open and run it in Blender's text editor.

Blender's camera looks along -z with y up, as OpenGL's does. With the sensor fit HORIZONTAL its focal in pixels is
lens / sensor_width * width across, and that times pixel_aspect_x / pixel_aspect_y down; its shifts are in widths of the
picture (Blender's manual, "Cameras"). Frame n shows the picture of number n.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from das3r_ns.export.cameras import ExportedCameras, continuous_quaternions_wxyz

SENSOR_WIDTH = 36.0
"""Millimetres of the longer side of a 35 mm frame; as good as any other, for only its ratio to the focal shows."""

_SCRIPT = '''\
"""The scene of {title}: its camera, its clip and its points, for Blender 3.6 and newer. Written by das3r.

Run it where it lies: `blender --python scene.py`. It adds to what is open, and changes the render size.
"""

import json
from pathlib import Path

import bpy
import numpy as np

SCENE = json.loads(r"""
{scene}
""")
try:
    FOLDER = Path(__file__).resolve().parent
    if not (FOLDER / SCENE["points"]).is_file():  # run in the text editor
        FOLDER = Path(bpy.path.abspath(bpy.context.space_data.text.filepath)).resolve().parent
except (NameError, AttributeError):
    FOLDER = Path.cwd()


def set_up_render(scene):
    """Size, frames and speed of the clip."""
    scene.render.resolution_x, scene.render.resolution_y = SCENE["size"]
    scene.render.resolution_percentage = 100
    scene.render.pixel_aspect_x, scene.render.pixel_aspect_y = SCENE["pixel_aspect"]
    scene.render.fps = max(1, round(SCENE["fps"]))
    scene.render.fps_base = scene.render.fps / SCENE["fps"]
    scene.frame_start, scene.frame_end = 0, len(SCENE["location"]) - 1


def add_camera(scene):
    """The camera with a key in every frame."""
    data = bpy.data.cameras.new("das3r")
    data.sensor_fit = "HORIZONTAL"
    data.sensor_width = SCENE["sensor_width"]
    camera = bpy.data.objects.new("das3r", data)
    scene.collection.objects.link(camera)
    camera.rotation_mode = "QUATERNION"
    for frame, location in enumerate(SCENE["location"]):
        camera.location = location
        camera.rotation_quaternion = SCENE["rotation"][frame]
        camera.keyframe_insert("location", frame=frame)
        camera.keyframe_insert("rotation_quaternion", frame=frame)
    for name in ("lens", "shift_x", "shift_y"):
        values = SCENE[name]
        setattr(data, name, values[0])
        for frame, value in enumerate(values if len(values) > 1 else []):  # a lens that zooms
            setattr(data, name, value)
            data.keyframe_insert(name, frame=frame)
    data.clip_start, data.clip_end = SCENE["clip"]
    scene.camera = camera
    return data


def add_background(data):
    """The clip behind what the camera sees."""
    image = bpy.data.images.load(str(FOLDER / SCENE["images"]))
    image.source = "SEQUENCE"
    background = data.background_images.new()
    background.image = image
    background.image_user.frame_duration = len(SCENE["location"])
    background.image_user.frame_start = 0
    background.image_user.frame_offset = -1
    background.image_user.use_auto_refresh = True
    data.show_background_images = True


def add_points(scene):
    """The points as a mesh without faces, coloured by its attribute "Col"."""
    data = (FOLDER / SCENE["points"]).read_bytes()
    body = data[data.index(b"end_header\\n") + len(b"end_header\\n") :]
    points = np.frombuffer(body, [("xyz", "<f4", 3), ("rgb", "u1", 3)])
    mesh = bpy.data.meshes.new("das3r points")
    mesh.vertices.add(len(points))
    mesh.vertices.foreach_set("co", points["xyz"].ravel())
    colour = np.ones((len(points), 4), np.float32)
    srgb = points["rgb"] / 255
    colour[:, :3] = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    mesh.attributes.new("Col", "FLOAT_COLOR", "POINT").data.foreach_set("color", colour.ravel())
    mesh.update()
    scene.collection.objects.link(bpy.data.objects.new("das3r points", mesh))


set_up_render(bpy.context.scene)
add_background(add_camera(bpy.context.scene))
add_points(bpy.context.scene)
'''


def blender_camera(cameras: ExportedCameras) -> dict[str, Any]:
    """The camera in Blender's terms: JSON values under Blender's own names.

    Args:
        cameras: In a world whose z axis is up, as Blender's is.
    """
    (width, height), k = cameras.size, cameras.intrinsics
    aspect = float(np.median(k[:, 0, 0] / k[:, 1, 1]))  # of a pixel, height to width
    if abs(aspect - 1) < 1e-7:
        aspect = 1.0
    return {
        "size": [width, height],
        # Neither may be less than 1.
        "pixel_aspect": [max(1.0, 1 / aspect), max(1.0, aspect)],
        "sensor_width": SENSOR_WIDTH,
        "lens": _constant_once(k[:, 0, 0] * SENSOR_WIDTH / width),
        "shift_x": _constant_once(0.5 - k[:, 0, 2] / width),
        "shift_y": _constant_once((k[:, 1, 2] - height / 2) * aspect / width),
        "location": cameras.c2w_gl[:, :3, 3].tolist(),
        "rotation": continuous_quaternions_wxyz(cameras.c2w_gl[:, :3, :3]).tolist(),
    }


def _constant_once(values: Float[np.ndarray, " N"]) -> list[float]:
    constant = np.ptp(values) <= 1e-9 * max(1.0, float(np.abs(values).max()))
    return values[:1].tolist() if constant else values.tolist()


def write_blender_script(
    cameras: ExportedCameras, path: Path, title: str, fps: float, images: str, points: str
) -> None:
    """Write the script.

    Args:
        cameras: In a world whose z axis is up.
        path: The file.
        title: Of the video.
        fps: Frames per second.
        images: First picture of the clip, relative to the script; the others are numbered on from 0.
        points: PLY file of the points, relative to it.
    """
    centre = cameras.c2w_cv[:, :3, 3].mean(axis=0)
    reach = float(np.linalg.norm(cameras.xyz - centre, axis=1).max(initial=1.0))
    scene = blender_camera(cameras) | {
        "fps": fps,
        "images": images,
        "points": points,
        "clip": [1e-3 * reach, 10 * reach],
    }
    text = json.dumps(scene)
    quoted = title.replace("\\", "/").replace('"', "'")
    path.write_text(_SCRIPT.replace("{title}", quoted).replace("{scene}", text), encoding="utf-8")
