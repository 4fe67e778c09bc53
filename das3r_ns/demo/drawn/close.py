"""Drawn places that are filmed from close by: an object to go round, a thicket."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from das3r_ns.demo.drawn.places import at, glossy, open_land, room
from das3r_ns.demo.drawn.plants import bush, fern, lumber, pole, table
from das3r_ns.demo.drawn.scene import Scene, surface_of
from das3r_ns.demo.drawn.stuff import stuff
from das3r_ns.demo.drawn.surroundings import apart
from das3r_ns.demo.room import turn_y
from das3r_ns.demo.world import Ellipsoid


def object_on_show(rng: np.random.Generator) -> Scene:
    """Something on a table or on the floor, with a room or a garden round it, to be filmed from all sides."""
    if rng.random() < 0.6:
        scene = room(rng)
        scene.boxes[1:] = [box for box in scene.boxes[1:] if box.high[2] > 4.5 or abs(box.low[0]) > 2]
    else:
        scene = open_land(rng)
    middle = at(rng.uniform(-0.3, 0.3), rng.uniform(1.2, 2.0))
    scene.parts = [part for part in scene.parts if apart(part, middle, 1.5)]
    top = 0.0
    if rng.random() < 0.7:
        size = rng.uniform((0.6, 0.4, 0.5), (1.3, 0.9, 1.0))
        board = table(rng, middle, size, rng.uniform(0, 3))
        scene.parts += board
        top = min(float(surface_of(part)[:, 1].min()) for part in board[:6])
        scene.gloss = 0.0
        glossy(rng, scene, 0.5, top)
    kind, stand = int(rng.integers(4)), at(middle[0], middle[2], top)
    size = rng.uniform(0.3, 0.6)
    if kind == 0:
        scene.parts += fern(rng, stand - at(0, 0, 0.25 * size), 1.3 * size, int(rng.integers(10, 30)))
        scene.parts.append(Ellipsoid(stand - at(0, 0, 0.15 * size), np.full(3, 0.2 * size), np.eye(3), stuff(rng)))
    elif kind == 1:
        scene.parts += bush(rng, stand - at(0, 0, 0.6 * size), 0.7 * size, int(rng.integers(10, 24)))
    for _ in range(int(rng.integers(1 if kind > 1 else 0, 5))):
        offset = at(rng.uniform(-0.4, 0.4), rng.uniform(-0.3, 0.3)) * (0.4 if kind > 2 else 1)
        scene.parts += lumber(rng, stand + offset, size * rng.uniform(0.4, 1.0))
    focus = stand - at(0, 0, 0.3 * size)
    away, turn = rng.uniform(0.8, 1.8), rng.uniform(-0.6, 0.6)
    eye = focus + turn_y(turn) @ at(0, -away, 0) - at(0, 0, rng.uniform(0.1, 0.8))
    free = np.array([(-2, -2.4, -2.0), (2, min(-0.35, top - 0.05), 3.8)])
    cameras = ("orbit", "orbit", "orbit", "sweep", "wide", "wide", "dolly", "tripod")
    return replace(scene, kind="object", focus=focus, eye=eye, free=free, cameras=cameras, scale=0.55)


def thicket(rng: np.random.Generator) -> Scene:
    """Leaves, stalks and blossoms everywhere, close to the camera."""
    scene = open_land(rng)
    scene.parts = [part for part in scene.parts if apart(part, at(0, 1.0), 3.0)]
    for _ in range(int(rng.integers(3, 8))):
        z = rng.uniform(1.2, 3.5)
        where = at(rng.uniform(-0.7, 0.7) * z, z, -rng.uniform(0.1, 1.5))
        if rng.random() < 0.5:
            scene.parts += bush(rng, where, rng.uniform(0.3, 0.8), int(rng.integers(6, 14)))
        else:
            scene.parts += fern(rng, where, rng.uniform(0.5, 1.2), int(rng.integers(5, 12)))
    for _ in range(int(rng.integers(0, 7))):
        z = rng.uniform(0.9, 3.0)
        scene.parts += pole(rng, at(rng.uniform(-0.6, 0.6) * z, z), rng.uniform(0.8, 2.5), rng.uniform(0.01, 0.06))
    eye = at(rng.uniform(-0.3, 0.3), rng.uniform(-0.4, 0.1), rng.uniform(-1.4, -0.6))
    focus = at(rng.uniform(-0.3, 0.3), rng.uniform(1.5, 2.5), rng.uniform(-1.0, -0.4))
    free = np.array([(-1.0, -1.8, -2.0), (1.0, -0.3, 0.7)])
    cameras = ("orbit", "sweep", "wide", "dolly", "walk", "pan", "tripod")
    return replace(scene, kind="thicket", focus=focus, eye=eye, free=free, cameras=cameras, scale=0.7)
