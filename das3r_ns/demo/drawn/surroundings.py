"""What is round a camera: thin things before it, and nothing in its way."""

from __future__ import annotations

import numpy as np

from das3r_ns.demo.drawn.cards import Card
from das3r_ns.demo.drawn.plants import bush, fence, fern, pole
from das3r_ns.demo.drawn.scene import Scene
from das3r_ns.demo.world import Box, Ellipsoid


def foreground(rng: np.random.Generator, scene: Scene, pose: np.ndarray) -> None:
    """Put thin things before the camera: a rail, a fence, posts, twigs."""
    reach = float(np.linalg.norm(scene.focus - pose[:3, 3]))
    near = float(rng.uniform(0.35, 0.7)) * min(reach, 3.0)
    right, ahead = pose[:3, 0] * (1, 0, 1), pose[:3, 2] * (1, 0, 1)
    foot = (pose[:3, 3] + near * ahead) * (1, 0, 1)
    height = -float(pose[1, 3])
    kind = str(rng.choice(["rail", "posts", "twigs"]))
    if kind == "rail":
        start, end = foot - 3 * near * right, foot + (3 * right + rng.uniform(-1, 1) * ahead) * near
        scene.parts += fence(rng, start, end, max(height - float(rng.uniform(-0.1, 0.5)) * near, 0.3))
    elif kind == "posts":
        for _ in range(int(rng.integers(1, 5))):
            aside = float(rng.uniform(-0.8, 0.8)) * near * right
            scene.parts += pole(rng, foot + aside, height + near, near * float(rng.uniform(0.01, 0.08)))
    else:
        side = float(rng.choice([-1, 1]) * rng.uniform(0.3, 0.7))
        where = pose[:3, 3] + near * (pose[:3, 2] + side * pose[:3, 0] + rng.uniform(-0.4, 0.4) * pose[:3, 1])
        make = bush if rng.random() < 0.5 else fern
        scene.parts += make(rng, where, 0.4 * near, int(rng.integers(4, 9)))


def clear_the_way(scene: Scene, path: np.ndarray, clearance: float = 0.25) -> None:
    """Take away what a camera would run into; ``path`` is N x 3."""
    scene.parts = [part for part in scene.parts if all(apart(part, eye, clearance, True) for eye in path)]
    keep = scene.boxes[:1] + [
        box for box in scene.boxes[1:] if box is scene.boxes[scene.ground[0]] or not _within(box, path, clearance)
    ]
    scene.ground = (next(i for i, box in enumerate(keep) if box is scene.boxes[scene.ground[0]]), scene.ground[1])
    scene.boxes = keep


def _within(box: Box, path: np.ndarray, clearance: float) -> bool:
    return bool(((path > box.low - clearance) & (path < box.high + clearance)).all(1).any())


def apart(part: Ellipsoid | Card, eye: np.ndarray, clearance: float, upright: bool = False) -> bool:
    """Whether a part keeps away from a point: its true distance, or that on the ground."""
    axes = (1, 1, 1) if upright else (1, 0, 1)
    if isinstance(part, Card):
        offset = eye - part.corner
        u = np.clip(offset @ part.along / (part.along @ part.along), 0, 1)
        v = np.clip(offset @ part.down / (part.down @ part.down), 0, 1)
        return float(np.linalg.norm((offset - u * part.along - v * part.down) * axes)) > clearance
    local = part.rotation.T @ ((eye - part.centre) * axes)
    return float(np.linalg.norm(local / (part.radii + clearance))) > 1
