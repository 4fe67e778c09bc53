"""One frame of a drawn clip: its light, where a mover is seen first, and how far everything goes until the next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int

from das3r_ns.demo.drawn.cards import Part, cast_parts
from das3r_ns.demo.drawn.movers import Mover
from das3r_ns.demo.drawn.scene import Scene, surface_of
from das3r_ns.demo.world import Box, Rays, cast_boxes

FLAT = 0.004
"""Metres from a glossy surface's height within which a point is on it."""
SAMPLES = 2
"""Rays per pixel along each axis."""


@dataclass
class Lens:
    """A pinhole with a little radial distortion; the principal point is the picture's middle."""

    focal: float
    """Pixels."""
    width: int
    height: int
    k1: float


@dataclass
class Exposure:
    """What falls on the sensor."""

    light: Float[np.ndarray, "H W 3"]
    """Linear."""
    mask: Bool[np.ndarray, "H W"]
    """Pixels of which movers cover half or more."""
    depth: Float[np.ndarray, "H W"]
    """Camera z, metres, of the nearest thing in the pixel."""
    owner: Int[np.ndarray, "H W"]
    """Which mover it is, -1 for none."""


def draw(
    scene: Scene,
    movers: Sequence[Mover],
    time: float,
    pose: Float[np.ndarray, "4 4"],
    lens: Lens,
    samples: int = SAMPLES,
    shadows: bool = True,
) -> Exposure:
    """Cast the rays of a frame.

    Args:
        scene: What stands.
        movers: What moves.
        time: 0 to 1 over the clip.
        pose: Camera-to-world, OpenCV axes, metres.
        lens: Of the camera.
        samples: Rays per pixel along each axis.
        shadows: Whether movers cast any on the ground, and are mirrored by what is glossy.
    """
    rays = Rays.of_camera(pose, lens.focal, lens.width, lens.height, samples, lens.k1)
    bodies = [mover.at(time) for mover in movers]
    moving = [part for parts in bodies for part in parts]
    depth, colour = cast_boxes(scene.lit_by(moving) if shadows else scene.boxes, rays)
    cast_parts(scene.parts, rays, depth, colour)
    if scene.gloss:
        _shine(scene, moving if shadows else [], rays, depth, colour, pose, lens)
    owner = np.full(depth.shape, -1, np.int32)
    for number, parts in enumerate(bodies):
        owner[cast_parts(parts, rays, depth, colour)] = number
    size = (lens.width, lens.height)
    mask = cv2.resize((owner >= 0).astype(np.float32), size, interpolation=cv2.INTER_AREA) >= 0.5
    light = cv2.resize(colour, size, interpolation=cv2.INTER_AREA)
    return Exposure(light, mask, depth[::samples, ::samples], owner[::samples, ::samples])


def _shine(
    scene: Scene,
    moving: Sequence[Part],
    rays: Rays,
    depth: Float[np.ndarray, "h w"],
    colour: Float[np.ndarray, "h w 3"],
    pose: Float[np.ndarray, "4 4"],
    lens: Lens,
) -> None:
    """Let a level surface mirror what is above it, as a camera sees it that is mirrored there itself.

    What moves is mirrored too and, like its shadow, not masked. What stands only partly above is taken as a whole.
    """
    height = rays.origin[1] + depth * rays.direction[1]
    flat = np.abs(height - scene.level) < FLAT
    if not flat.any() or pose[1, 3] > scene.level:
        return
    turned = pose.copy()
    turned[1, :3] *= -1
    turned[1, 3] = 2 * scene.level - pose[1, 3]
    below = Rays.of_camera(turned, lens.focal, lens.width, lens.height, 1, lens.k1)
    boxes = [
        _deepened(scene.boxes[0], float(turned[1, 3])),
        *(box for box in scene.boxes[1:] if box.low[1] < scene.level - FLAT),
    ]
    far, mirrored = cast_boxes(boxes, below)
    above = [part for part in (*scene.parts, *moving) if surface_of(part)[:, 1].min() < scene.level - 2 * FLAT]
    cast_parts([part for part in above if surface_of(part)[:, 1].max() < scene.level + 0.1], below, far, mirrored)
    mirrored = cv2.resize(cv2.GaussianBlur(mirrored, (0, 0), 0.7), depth.shape[::-1], interpolation=cv2.INTER_LINEAR)
    steep = np.abs(rays.direction[1]) / np.linalg.norm(rays.direction, axis=0)
    share = (scene.gloss * (0.3 + 0.7 * (1 - steep) ** 3))[..., None]
    colour[flat] = (colour * (1 - share) + mirrored * share)[flat]


def _deepened(shell: Box, depth: float) -> Box:
    """A room that reaches below a camera's height, its walls lit as they are above."""
    tall = float(shell.high[1] - shell.low[1])
    times = max(math.ceil((depth + 1.0 - shell.high[1]) / tall), 1)
    light = list(shell.light)
    for face in (0, 1, 4, 5):
        light[face] = np.pad(light[face], ((0, times * len(light[face])), (0, 0), (0, 0)), "edge")
    return replace(shell, high=shell.high + np.array((0, times * tall, 0)), light=light)


def flow_to(
    seen: Exposure,
    movers: Sequence[Mover],
    times: tuple[float, float],
    poses: tuple[Float[np.ndarray, "4 4"], Float[np.ndarray, "4 4"]],
    lens: Lens,
) -> Float[np.ndarray, "H W 2"]:
    """How far every pixel's point goes from one time to another, in pixels; a lens's distortion is left out."""
    y, x = np.mgrid[0 : lens.height, 0 : lens.width].astype(np.float32) + 0.5
    middle = (0.5 * lens.width, 0.5 * lens.height)
    local = np.stack([(x - middle[0]) / lens.focal, (y - middle[1]) / lens.focal, np.ones_like(x)]) * seen.depth
    turn = poses[1][:3, :3].T @ poses[0][:3, :3]
    shift = poses[1][:3, :3].T @ (poses[0][:3, 3] - poses[1][:3, 3])
    there = np.tensordot(turn.astype(np.float32), local, 1) + shift.astype(np.float32)[:, None, None]
    for number, mover in enumerate(movers):
        way = poses[1][:3, :3].T @ (mover.place(times[1]) - mover.place(times[0]))
        there[:, seen.owner == number] += way.astype(np.float32)[:, None]
    depth = np.maximum(there[2], 0.05)
    flow = np.stack([there[0] / depth * lens.focal + middle[0] - x, there[1] / depth * lens.focal + middle[1] - y], -1)
    return np.clip(flow, -0.15 * lens.width, 0.15 * lens.width).astype(np.float32)
