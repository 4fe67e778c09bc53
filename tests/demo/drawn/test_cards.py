"""Cards: where rays meet them, what a cut lets through, and that a turned box equals an upright one."""

from __future__ import annotations

import numpy as np

from das3r_ns.demo.drawn.cards import Card, Cut, cast_parts, turned_box
from das3r_ns.demo.room import looking, turn_y
from das3r_ns.demo.textures import Texture
from das3r_ns.demo.world import Box, Rays, cast_boxes

WHITE = Texture(np.ones((8, 8, 3), np.float32), (1.0, 1.0))
AHEAD = np.eye(4)


def _empty(rays: Rays) -> tuple[np.ndarray, np.ndarray]:
    shape = rays.direction.shape[1:]
    return np.full(shape, 50.0, np.float32), np.zeros((*shape, 3), np.float32)


def test_a_card_is_seen_where_it_projects_to() -> None:
    rays = Rays.of_camera(AHEAD, 40.0, 40, 20, 1)
    depth, colour = _empty(rays)
    card = Card(np.array([-1.0, -0.5, 4.0]), np.array([2.0, 0, 0]), np.array([0, 1.0, 0]), WHITE)
    hit = cast_parts([card], rays, depth, colour)
    # 2 x 1 m at 4 m with a focal of 40 pixels: 20 x 10 pixels round the middle.
    expected = np.zeros((20, 40), bool)
    expected[5:15, 10:30] = True
    np.testing.assert_array_equal(hit, expected)
    np.testing.assert_allclose(depth[hit], 4.0, rtol=1e-5)
    assert (colour[hit] > 0.9).all() and (colour[~hit] == 0).all()


def test_a_cut_lets_rays_through_and_nearer_things_stay() -> None:
    rays = Rays.of_camera(AHEAD, 40.0, 40, 20, 1)
    depth, colour = _empty(rays)
    depth[:, :15] = 3.0
    half = np.zeros((16, 16), np.float32)
    half[8:] = 1
    card = Card(np.array([-1.0, -0.5, 4.0]), np.array([2.0, 0, 0]), np.array([0, 1.0, 0]), WHITE, Cut(half))
    hit = cast_parts([card], rays, depth, colour)
    expected = np.zeros((20, 40), bool)
    expected[10:15, 15:30] = True
    np.testing.assert_array_equal(hit, expected)


def test_a_cut_seen_from_afar_keeps_its_share() -> None:
    bars = (np.arange(256) % 16 < 12).astype(np.float32)[None].repeat(256, 0)
    u, v = np.random.default_rng(0).random((2, 4000))
    assert abs(Cut(bars).solid(u, v, 1 / 256).mean() - 0.75) < 0.03
    assert Cut(bars).solid(u, v, 1 / 8).all()  # finer than a sample: solid where half or more of it is


def test_a_turned_box_is_a_box() -> None:
    low, high = np.array([-0.6, -0.4, 3.0]), np.array([0.5, 0.3, 4.2])
    pose = looking(np.array([1.0, -1.2, 0.2]), np.array([0.0, 0.0, 3.5]))
    rays = Rays.of_camera(pose, 60.0, 64, 48, 1)
    shell = Box(np.full(3, -20.0), np.full(3, 20.0), [WHITE] * 6, True, light=[np.ones((2, 2, 3), np.float32)] * 6)
    solid = Box(low, high, [WHITE] * 6, light=[np.ones((2, 2, 3), np.float32)] * 6)
    expected, _ = cast_boxes([shell, solid], rays)
    depth, colour = cast_boxes([shell], rays)
    # A quarter of a turn swaps its edges.
    size = (high - low)[[2, 1, 0]]
    hit = cast_parts(turned_box(0.5 * (low + high), size, turn_y(np.pi / 2), WHITE), rays, depth, colour)
    np.testing.assert_allclose(depth, expected, rtol=1e-3)
    assert 0.05 < hit.mean() < 0.5
