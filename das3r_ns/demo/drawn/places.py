"""Where drawn clips happen: rooms, streets, open land, an object to go round, a thicket close by."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from das3r_ns.demo.drawn.cards import Card
from das3r_ns.demo.drawn.outlines import ridge
from das3r_ns.demo.drawn.plants import bush, chair, fence, fern, lumber, pole, table, tree
from das3r_ns.demo.drawn.scene import FAR, Scene, block, heaven, indoors
from das3r_ns.demo.drawn.stuff import anything, blank, clouded, colour_of, house_front, near_to, paving, stuff, turf
from das3r_ns.demo.drawn.vehicles import car
from das3r_ns.demo.room import build_room
from das3r_ns.demo.textures import Texture, boards
from das3r_ns.demo.world import Ellipsoid

ROOMS = 4
"""Different textures of the demo's room; its light takes seconds to compute, and is kept."""
ANYWHERE = ("sweep", "sweep", "walk", "dolly", "orbit", "orbit", "pan", "tripod", "wide")
"""Kinds of camera, those with parallax more often."""


def at(x: float, z: float, y: float = 0.0) -> np.ndarray:
    """A point of the world."""
    return np.array([x, y, z], float)


def demo_room(rng: np.random.Generator) -> Scene:
    """The room of `das3r demo`."""
    boxes = [replace(box, light=list(box.light)) for box in build_room(100 + int(rng.integers(ROOMS)))]
    eye = at(rng.uniform(-1.2, 1.2), rng.uniform(-0.6, 0.5), rng.uniform(-1.8, -1.1))
    focus = at(rng.uniform(-0.8, 0.8), rng.uniform(3.5, 5.0), rng.uniform(-1.3, -0.8))
    free = np.array([(-2.8, -2.3, -1.2), (2.8, -0.6, 1.8)])
    return Scene(
        "demo_room", boxes, (0, 3), focus, eye, free, ANYWHERE, shadow=0.35, towards=np.array((0.1, -1.0, -0.1))
    )


def room(rng: np.random.Generator) -> Scene:
    """A room of any size with furniture; some walls are blank, some are full of things."""
    wide, deep, tall = rng.uniform(2.0, 4.5), rng.uniform(4.5, 9.0), rng.uniform(2.4, 3.4)
    walls = [_wall(rng) for _ in range(3)]
    walls[1] = _floor(rng)
    shell = indoors(rng, (-wide, -tall, -2.5), (wide, 0.0, deep), walls)
    boxes, parts = [shell], []
    for _ in range(int(rng.integers(2, 9))):  # what hangs on the walls: pictures, screens, windows
        across, up, height = rng.uniform(0.3, 1.4), rng.uniform(0.3, 1.2), rng.uniform(1.0, 2.2)
        cloth = Texture(anything(rng), (across, up))
        if rng.random() < 0.5:
            x = rng.uniform(-wide, wide - across)
            boxes.append(
                block((x, -height - up / 2, deep - 0.05), (x + across, -height + up / 2, deep), cloth, fit=True)
            )
        else:
            side, z = rng.choice([-1, 1]), rng.uniform(0.5, deep - across)
            x = side * wide
            low, high = sorted((x, x - 0.05 * side))
            boxes.append(block((low, -height - up / 2, z), (high, -height + up / 2, z + across), cloth, fit=True))
    for _ in range(int(rng.integers(1, 5))):  # cupboards, shelves, pillars
        across, up, z = rng.uniform(0.3, 1.6), rng.uniform(0.5, tall), rng.uniform(2.0, deep - 0.5)
        x = rng.choice([-wide, wide - across, rng.uniform(-wide, wide - across)])
        boxes.append(block((x, -up, z), (x + across, 0.0, z + 0.5), Texture(anything(rng), (across, up)), fit=True))
    for _ in range(int(rng.integers(0, 4))):
        parts += table(
            rng,
            at(rng.uniform(-wide, wide) * 0.7, rng.uniform(2, deep - 1)),
            rng.uniform((0.5, 0.4, 0.4), (1.6, 1.0, 0.9)),
            rng.uniform(0, 3),
        )
    for _ in range(int(rng.integers(0, 5))):
        parts += chair(rng, at(rng.uniform(-wide, wide) * 0.8, rng.uniform(1.2, deep - 1)), rng.uniform(0, 6))
    for _ in range(int(rng.integers(0, 4))):
        parts += lumber(rng, at(rng.uniform(-wide, wide) * 0.8, rng.uniform(1.5, deep - 0.5)), rng.uniform(0.3, 0.9))
    if rng.random() < 0.5:
        root = at(rng.uniform(-wide, wide) * 0.7, rng.uniform(1.5, deep - 1), -rng.uniform(0.3, 0.8))
        parts += fern(rng, root, rng.uniform(0.6, 1.4), int(rng.integers(8, 24)))
        parts.append(Ellipsoid(root * (1, 0.5, 1), np.array([0.2, -0.55 * root[1], 0.2]), np.eye(3), stuff(rng)))
    eye = at(rng.uniform(-0.5, 0.5) * wide, rng.uniform(-1.5, 0.0), rng.uniform(-1.8, -0.9))
    focus = at(rng.uniform(-0.3, 0.3) * wide, rng.uniform(0.4, 0.8) * deep, rng.uniform(-1.4, -0.5))
    free = np.array([(-wide + 0.5, -tall + 0.4, -2.1), (wide - 0.5, -0.4, 0.5 * deep)])
    scene = Scene("room", boxes, (0, 3), focus, eye, free, ANYWHERE, 1.0, parts, rng.uniform(0.25, 0.6))
    return glossy(rng, scene, 0.25)


def street(rng: np.random.Generator) -> Scene:
    """House fronts to the left and right, a road between, parked cars, lamps and trees, and an end far away."""
    half, pave = rng.uniform(3.0, 6.5), rng.uniform(1.2, 3.0)
    long = 55.0
    road = Texture(clouded(rng, near_to(rng, (0.36, 0.36, 0.37), 0.3), rng.uniform(0.08, 0.2), 0.6), (3.0, 3.0))
    ground = block((-30, 0, -12), (30, 0.3, long + 10), road)
    boxes = [heaven(rng), ground]
    slab = Texture(paving(rng), (2.0, 2.0))
    parts = []
    for side in (-1, 1):
        low, high = sorted((side * half, side * (half + pave)))
        boxes.append(block((low, -0.13, -12), (high, 0.02, long), slab))
        z = -12.0
        while z < long:
            front = rng.uniform(5, 13)
            rows, columns = int(rng.integers(2, 6)), int(rng.integers(2, 6))
            tall, back = 3.0 * rows * rng.uniform(0.85, 1.2), rng.uniform(0, 0.8) * (rng.random() < 0.4)
            low, high = sorted((side * (half + pave + back), side * (half + pave + 12)))
            cloth = Texture(house_front(rng, rows, columns), (front, tall))
            if rng.random() < 0.9:
                boxes.append(block((low, -tall, z), (high, 0.0, z + front), cloth, fit=True))
            z += front
        for _ in range(int(rng.integers(0, 5))):
            where = at(side * (half - 1.0), rng.uniform(2, 30))
            parts += car(rng, rng.uniform(0.9, 1.1))(where, 0.0 if rng.random() < 0.5 else np.pi, 0.0)
        for _ in range(int(rng.integers(0, 3))):
            parts += tree(rng, at(side * (half + 0.5), rng.uniform(3, 25)), rng.uniform(3.5, 7))
        for z in np.arange(rng.uniform(1, 4), 30, rng.uniform(3, 12)):
            parts += pole(rng, at(side * (half + 0.25), z), rng.choice([0.9, 3.5]), rng.uniform(0.06, 0.14))
    if rng.random() < 0.7:
        cloth = Texture(house_front(rng, 5, 6), (14.0, 14.0))
        boxes.append(block((-half - pave, -rng.uniform(6, 15), long), (half + pave, 0, long + 5), cloth, fit=True))
    for _ in range(int(rng.integers(0, 3))):
        parts += lumber(rng, at(rng.uniform(-half, half), rng.uniform(4, 14)), rng.uniform(0.4, 1.0))
    eye = at(rng.uniform(-0.9, 0.9) * half, rng.uniform(-6, 0), rng.uniform(-2.0, -1.0))
    focus = at(rng.uniform(-1, 1) * half, rng.uniform(7, 20), rng.uniform(-2.5, -0.8))
    free = np.array([(-half - pave + 0.4, -3.5, -10), (half + pave - 0.4, -0.5, 25.0)])
    cameras = (*ANYWHERE, "drive", "drive")
    scene = Scene("street", boxes, (1, 2), focus, eye, free, cameras, 1.0, parts, rng.uniform(0.2, 0.65))
    return glossy(rng, scene, 0.15)


def open_land(rng: np.random.Generator) -> Scene:
    """A meadow, a beach, a square or snow with things on it, and hills or a wood at the end."""
    size = rng.uniform(1.5, 6)
    soil = Texture(turf(rng) if rng.random() < 0.75 else paving(rng), (size, size))
    boxes = [heaven(rng), block((-35, 0, -20), (35, 0.3, 50), soil), block((-FAR, 0.31, -FAR), (FAR, 0.5, FAR), soil)]
    parts = []
    hill = clouded(rng, near_to(rng, (0.32, 0.38, 0.24), 0.4), 0.3, 0.8)
    for _ in range(int(rng.integers(1, 4))):
        radii = np.array([rng.uniform(15, 40), rng.uniform(3, 14), rng.uniform(6, 12)])
        parts.append(
            Ellipsoid(at(rng.uniform(-45, 45), rng.uniform(38, 55)), radii, np.eye(3), Texture(hill, (0.06, 0.06)))
        )
    for far in np.sort(rng.uniform(30, 64, int(rng.integers(1, 4))))[::-1]:
        tall, wood = rng.uniform(3, 11), Texture(clouded(rng, near_to(rng, (0.26, 0.34, 0.24), 0.5), 0.35, 0.7), (9, 9))
        parts.append(
            Card(at(-far, far, -tall), at(2 * far, 0), at(0, 0, tall + 0.3), wood, ridge(rng), rng.uniform(0.6, 1.0))
        )
    for _ in range(int(rng.integers(0, 8))):
        parts += lumber(rng, at(rng.uniform(-6, 6), rng.uniform(3, 18)), rng.uniform(0.3, 1.6))
    for _ in range(int(rng.integers(0, 5))):
        parts += tree(rng, at(rng.uniform(-9, 9), rng.uniform(5, 22)), rng.uniform(3, 8))
    for _ in range(int(rng.integers(0, 5))):
        wide = rng.uniform(0.3, 1.2)
        parts += bush(rng, at(rng.uniform(-6, 6), rng.uniform(2.5, 14), -0.5 * wide), wide, int(rng.integers(6, 14)))
    for _ in range(int(rng.integers(0, 3))):
        z = rng.uniform(2.5, 14)
        parts += fence(
            rng, at(rng.uniform(-9, -3), z), at(rng.uniform(3, 9), z + rng.uniform(-4, 4)), rng.uniform(0.8, 1.5)
        )
    eye = at(rng.uniform(-1, 1), rng.uniform(-4, 0), rng.uniform(-2.2, -0.8))
    focus = at(rng.uniform(-2, 2), rng.uniform(4, 14), rng.uniform(-1.5, -0.3))
    free = np.array([(-8, -4, -10), (8, -0.4, 15.0)])
    cameras, shadow = (*ANYWHERE, "drive"), rng.uniform(0.1, 0.65)
    return glossy(rng, Scene("open_land", boxes, (1, 2), focus, eye, free, cameras, 1.0, parts, shadow), 0.07)


def glossy(rng: np.random.Generator, scene: Scene, share: float, level: float = 0.0) -> Scene:
    """Let the floor, or what is level at that height, mirror in that share of the cases."""
    if rng.random() < share:
        scene.gloss, scene.level = float(rng.uniform(0.15, 0.7)), level
    return scene


def _wall(rng: np.random.Generator) -> Texture:
    kind = rng.random()
    if kind < 0.4:
        return Texture(blank(rng), (2.5, 2.5))
    if kind < 0.7:
        return Texture(clouded(rng, colour_of(rng, 0.35), rng.uniform(0.03, 0.2)), (2.5, 2.5))
    return stuff(rng, rng.uniform(0.8, 2.5))


@cache
def floor_boards(variant: int) -> np.ndarray:
    """A wooden floor; slow to draw, so kept."""
    return boards(np.random.default_rng([191, variant]))


def _floor(rng: np.random.Generator) -> Texture:
    kind = int(rng.integers(4))
    if kind == 0:
        return Texture(floor_boards(int(rng.integers(4))), (4.8, 4.0))
    if kind == 1:
        return Texture(paving(rng), (1.2, 1.2))
    return Texture(clouded(rng, colour_of(rng, 0.4), 0.1) if kind == 2 else anything(rng), (1.5, 1.5))
