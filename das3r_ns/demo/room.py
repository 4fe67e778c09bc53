"""What the demo shows: a furnished room, two people who walk through it and a ball, seen by a hand-held camera."""

from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import Float

from das3r_ns.demo.textures import (
    Texture,
    beach_ball,
    boards,
    books,
    bricks,
    checked,
    crate,
    marble,
    mottled,
    painting,
    rug,
)
from das3r_ns.demo.world import Box, Ellipsoid, bake_light

ROOM_LOW, ROOM_HIGH = (-3.6, -2.9, -1.6), (3.6, 0.0, 6.8)
LAMPS = [(-1.5, 3.2, 0.5, 0.5), (1.6, 3.6, 0.5, 0.5), (0.0, 0.6, 0.5, 0.4)]
SKIN = (0.86, 0.64, 0.50)


@cache
def build_room(seed: int = 7) -> list[Box]:
    """The static world with its light baked: y = 0 is the floor, the camera starts near x = z = 0."""
    rng = np.random.default_rng(seed)
    plaster = Texture(mottled(rng, 1024, (0.58, 0.72, 0.70), 0.15), (4.1, 4.1))
    warm_plaster = Texture(mottled(rng, 1024, (0.83, 0.74, 0.58), 0.15), (4.3, 4.3))
    ceiling = Texture(mottled(rng, 512, (0.86, 0.85, 0.82), 0.10), (3.1, 3.1))
    wood = Texture(mottled(rng, 512, (0.50, 0.32, 0.19), 0.22), (1.0, 1.0))
    lamp = Texture(np.ones((8, 8, 3), np.float32), (1.0, 1.0), emission=1.0)
    stone = Texture(marble(rng, (0.82, 0.80, 0.76)), (0.9, 1.4))
    shell = [
        plaster,
        warm_plaster,
        ceiling,
        Texture(boards(rng), (4.8, 4.0)),
        plaster,
        Texture(bricks(rng), (3.1, 3.0)),
    ]

    def box(low: tuple[float, float, float], high: tuple[float, float, float], *textures: Texture, fit: bool = False):
        faces = list(textures) * 6 if len(textures) == 1 else list(textures)
        return Box(np.array(low), np.array(high), faces[:6], fit=fit)

    crate_sides = [crate(rng) for _ in range(3)] * 2

    def crate_box(x: float, y: float, z: float, side: float) -> Box:
        sides = [Texture(picture, (side, side)) for picture in crate_sides]
        return box((x, y - side, z), (x + side, y, z + side), *sides, fit=True)

    def picture(x: float, y: float, wide: float, tall: float) -> Box:
        canvas = Texture(painting(rng), (wide, tall))
        return box((x, y, 6.74), (x + wide, y + tall, 6.8), wood, wood, wood, wood, canvas, wood, fit=True)

    shelf = Texture(books(rng), (1.5, 2.1))
    carpet = Texture(rug(rng), (2.6, 2.2))
    table = [((0.95, -0.78, 4.7), (2.55, -0.70, 5.5))]
    table += [((x, -0.70, z), (x + 0.08, 0.0, z + 0.08)) for x in (1.0, 2.42) for z in (4.75, 5.37)]
    boxes = [
        Box(np.array(ROOM_LOW), np.array(ROOM_HIGH), shell, inside=True),
        box((-1.5, -0.015, 3.0), (1.1, 0.0, 5.2), carpet, fit=True),
        box((-3.1, -2.1, 6.35), (-1.6, 0.0, 6.8), wood, wood, wood, wood, shelf, wood, fit=True),
        box((-2.35, -2.9, 4.3), (-2.0, 0.0, 4.65), stone),
        box((2.75, -2.9, 4.9), (3.1, 0.0, 5.25), stone),
        *(box(low, high, wood) for low, high in table),
        crate_box(1.25, -0.78, 4.95, 0.36),
        crate_box(-1.95, 0.0, 4.6, 0.8),
        crate_box(-1.8, -0.8, 4.75, 0.5),
        crate_box(0.45, 0.0, 4.25, 0.55),
        picture(-0.95, -2.15, 1.3, 0.95),
        picture(0.85, -2.0, 0.8, 0.8),
        picture(2.0, -2.1, 0.95, 1.0),
        *(box((x - a, -2.9, z - b), (x + a, -2.87, z + b), lamp) for x, z, a, b in LAMPS),
    ]
    bake_light(boxes, LAMPS)
    return boxes


class Movers:
    """Two walkers who cross the room in opposite directions and a bouncing beach ball.

    They cast no shadow, so that nothing outside their mask changes.
    """

    def __init__(self, seed: int = 3) -> None:
        rng = np.random.default_rng(seed)
        one = (1.0, 1.0)
        skin = Texture(mottled(rng, 128, SKIN, 0.06), one)
        hair = Texture(mottled(rng, 128, (0.22, 0.14, 0.09), 0.3), one)
        jeans = Texture(mottled(rng, 256, (0.22, 0.30, 0.48), 0.25, 0.6), one)
        khaki = Texture(mottled(rng, 256, (0.52, 0.46, 0.30), 0.25, 0.6), one)
        red = Texture(checked(rng, (0.80, 0.16, 0.14), (0.95, 0.86, 0.72), 10), one)
        green = Texture(checked(rng, (0.12, 0.48, 0.34), (0.93, 0.82, 0.30), 8), one)
        self._outfits = [(red, jeans, skin, hair), (green, khaki, skin, hair)]
        self._ball = Texture(beach_ball(rng), one)

    def at(self, time: float) -> list[Ellipsoid]:
        """Every part of every mover, ``time`` running from 0 to 1 over the video."""
        near = np.array([-1.8 + 3.5 * time, 0.0, 2.85 + 0.3 * time])
        far = np.array([2.0 - 3.9 * time, 0.0, 3.75 - 0.4 * time])
        parts = walker(near, (3.5, 0.3), 5.0 * time, self._outfits[0])
        parts += walker(far, (-3.9, -0.4), 5.5 * time + 0.3, self._outfits[1])
        bounce = abs(np.sin(np.pi * (3.0 * time + 0.35)))
        roll = turn_z(-7.0 * time) @ turn_x(0.5)
        centre = np.array([1.25 - 2.5 * time, -0.45 - 0.8 * bounce, 2.45])
        return [*parts, Ellipsoid(centre, np.full(3, 0.3), roll, self._ball)]


def walker(
    feet: Float[np.ndarray, "3"], heading: tuple[float, float], phase: float, outfit: tuple[Texture, ...]
) -> list[Ellipsoid]:
    """A person 1.75 m tall; ``phase`` counts steps."""
    shirt, trousers, skin, hair = outfit
    facing = turn_y(np.arctan2(heading[0], heading[1]))
    swing = 0.5 * np.sin(np.pi * phase)
    bob = -0.03 * abs(np.cos(np.pi * phase))

    def part(x: float, y: float, z: float, radii: tuple[float, float, float], texture: Texture, lean: float = 0.0):
        return Ellipsoid(feet + facing @ np.array([x, y + bob, z]), np.array(radii), facing @ turn_x(lean), texture)

    def limb(x: float, top: float, angle: float, length: float, radius: float, texture: Texture) -> Ellipsoid:
        return part(
            x,
            top + 0.5 * length * np.cos(angle),
            0.5 * length * np.sin(angle),
            (radius, 0.5 * length + radius, radius),
            texture,
            angle,
        )

    return [
        part(0, -1.16, 0, (0.24, 0.37, 0.17), shirt),
        part(0, -1.60, 0, (0.095, 0.13, 0.105), skin),
        part(0, -1.66, -0.02, (0.105, 0.11, 0.115), hair),
        limb(-0.1, -0.88, swing, 0.78, 0.1, trousers),
        limb(0.1, -0.88, -swing, 0.78, 0.1, trousers),
        limb(-0.25, -1.40, -0.8 * swing, 0.55, 0.07, shirt),
        limb(0.25, -1.40, 0.8 * swing, 0.55, 0.07, shirt),
    ]


def camera_path(num_frames: int) -> Float[np.ndarray, "N 4 4"]:
    """Camera-to-world (OpenCV axes, metres) of a hand-held sweep from left to right with some forward motion."""
    poses = np.tile(np.eye(4), (num_frames, 1, 1))
    for number, time in enumerate(np.linspace(0, 1, num_frames)):
        ease = time * time * (3 - 2 * time)
        sway = [np.sin(2 * np.pi * (rate * time + phase)) for rate, phase in ((1.7, 0.1), (2.3, 0.6), (3.1, 0.3))]
        position = np.array([-0.6 + 1.2 * ease, -1.5, 0.05 + 0.4 * time]) + np.array([0.015, 0.03, 0.02]) * sway
        target = np.array([0.15 - 0.3 * ease, -1.1, 5.0]) + np.array([0.04, 0.03, 0.0]) * sway[::-1]
        poses[number] = looking(position, target, 0.008 * sway[1])
    return poses


def looking(
    position: Float[np.ndarray, "3"], target: Float[np.ndarray, "3"], roll: float = 0.0
) -> Float[np.ndarray, "4 4"]:
    """Camera-to-world (OpenCV axes) of a camera that looks at a point, turned by ``roll`` radians about that axis."""
    forward = target - position
    forward /= np.linalg.norm(forward)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    level = np.stack([right, np.cross(forward, right), forward], -1)
    pose = np.eye(4)
    pose[:3, :3] = level @ turn_z(roll)
    pose[:3, 3] = position
    return pose


def turn_x(angle: float) -> Float[np.ndarray, "3 3"]:
    """Rotation about x by an angle in radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def turn_y(angle: float) -> Float[np.ndarray, "3 3"]:
    """Rotation about y by an angle in radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def turn_z(angle: float) -> Float[np.ndarray, "3 3"]:
    """Rotation about z by an angle in radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


# Scripts that draw clips of their own with this room know them by these names.
_turn_x, _turn_y, _turn_z = turn_x, turn_y, turn_z
