"""Frames: what a glossy floor mirrors, and how far points go in the picture."""

from __future__ import annotations

import numpy as np

from das3r_ns.demo.drawn.cards import Card
from das3r_ns.demo.drawn.frame import Lens, draw, flow_to
from das3r_ns.demo.drawn.movers import Mover
from das3r_ns.demo.drawn.scene import Scene, block
from das3r_ns.demo.room import looking
from das3r_ns.demo.textures import Texture
from das3r_ns.demo.world import Ellipsoid

GREY = Texture(np.full((8, 8, 3), 0.5, np.float32), (1.0, 1.0))
RED = Texture(np.broadcast_to(np.array([1, 0, 0], np.float32), (8, 8, 3)), (1.0, 1.0))
LENS = Lens(60.0, 64, 48, 0.0)
POSE = looking(np.array([0.0, -1.5, 0.0]), np.array([0.0, -0.8, 4.0]))


def _scene(gloss: float = 0.0) -> Scene:
    shell = block((-4, -3, -2), (4, 0, 8), GREY, inside=True)
    sign = Card(np.array([-0.5, -1.2, 4.0]), np.array([1.0, 0, 0]), np.array([0, 0.5, 0]), RED)
    free = np.array([(-3, -2.5, -1), (3, -0.5, 3)])
    return Scene("none", [shell], (0, 3), np.zeros(3), np.zeros(3), free, ("pan",), 1.0, [sign], gloss=gloss)


def _mover() -> Mover:
    def ball(place: np.ndarray, heading: float, gone: float) -> list:
        return [Ellipsoid(place - np.array([0, 0.4, 0]), np.full(3, 0.4), np.eye(3), RED)]

    return Mover("ball", "across", 0.8, ball, np.array([0.0, 1.0]), np.array([(-0.6, 0, 3.0), (0.6, 0, 3.0)]))


def test_a_glossy_floor_mirrors_the_sign_where_it_must() -> None:
    dull, shiny = (draw(_scene(gloss), [], 0.0, POSE, LENS) for gloss in (0.0, 0.6))
    np.testing.assert_array_equal(dull.depth, shiny.depth)
    redder = (shiny.light[..., 0] - shiny.light[..., 1]) - (dull.light[..., 0] - dull.light[..., 1]) > 0.05
    assert redder.any()
    # The sign's middle, mirrored at the floor, as the camera sees it.
    local = POSE[:3, :3].T @ (np.array([0.0, 0.95, 4.0]) - POSE[:3, 3])
    column, row = local[0] / local[2] * 60 + 32, local[1] / local[2] * 60 + 24
    middle = np.argwhere(redder).mean(0) + 0.5
    assert abs(middle[1] - column) < 1.5 and abs(middle[0] - row) < 2.5


def test_shadows_and_mirror_images_are_not_masked() -> None:
    mover = _mover()
    plain = draw(_scene(), [mover], 0.5, POSE, LENS, shadows=False)
    full = draw(_scene(0.6), [mover], 0.5, POSE, LENS)
    np.testing.assert_array_equal(plain.mask, full.mask)
    assert (np.abs(full.light - plain.light).max(-1) > 0.02)[~full.mask].any()
    radius = 60 * 0.4 / 3.0
    assert abs(full.mask.sum() / (np.pi * radius**2) - 1) < 0.15


def test_flow_is_where_points_go() -> None:
    mover, later = _mover(), POSE.copy()
    later[:3, 3] += (0.2, 0.0, 0.1)
    seen = draw(_scene(), [mover], 0.5, POSE, LENS)
    still = flow_to(seen, [mover], (0.5, 0.5), (POSE, POSE), LENS)
    np.testing.assert_allclose(still, 0, atol=1e-3)
    flow = flow_to(seen, [mover], (0.5, 0.6), (POSE, later), LENS)

    def shown(point: np.ndarray, pose: np.ndarray) -> np.ndarray:
        local = pose[:3, :3].T @ (point - pose[:3, 3])
        return local[:2] / local[2] * 60

    wall = shown(np.array([2.0, -2.0, 8.0]), POSE)
    there = shown(np.array([2.0, -2.0, 8.0]), later) - wall
    np.testing.assert_allclose(flow[int(wall[1] + 24), int(wall[0] + 32)], there, atol=0.1)
    front = np.array([0.0, -0.5, 2.62])
    middle = shown(front, POSE)
    there = shown(front + mover.place(0.6) - mover.place(0.5), later) - middle
    np.testing.assert_allclose(flow[int(middle[1] + 24), int(middle[0] + 32)], there, atol=0.25)
