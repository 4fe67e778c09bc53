"""Places: each is lit, is not empty, and lets a camera through; each kind of camera suits one."""

from __future__ import annotations

import numpy as np
import pytest

from das3r_ns.demo.drawn import places
from das3r_ns.demo.drawn.cameras import CAMERAS, camera
from das3r_ns.demo.drawn.choice import PLACES
from das3r_ns.demo.drawn.frame import Lens, draw
from das3r_ns.demo.drawn.surroundings import apart, clear_the_way, foreground
from das3r_ns.demo.room import build_room


@pytest.fixture(autouse=True)
def one_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The light of a room takes seconds."""
    monkeypatch.setattr(places, "build_room", lambda seed: build_room())


@pytest.mark.parametrize("kind", PLACES)
def test_it_can_be_filmed(kind: str) -> None:
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        scene = PLACES[kind][0](rng)
        assert scene.kind == kind and set(scene.cameras) <= set(CAMERAS)
        filming = camera(rng, scene)
        way = filming.poses(11)[:, :3, 3]
        clear_the_way(scene, way)
        foreground(rng, scene, filming.pose(0.5))
        clear_the_way(scene, way, 0.12)
        scene.cast_shadows()
        assert all(apart(part, eye, 0.11, upright=True) for part in scene.parts for eye in way)
        for time in (0.0, 1.0):
            seen = draw(scene, [], time, filming.pose(time), Lens(60.0, 64, 36, 0.0), 1)
            assert np.isfinite(seen.light).all() and (seen.light >= 0).all() and not seen.mask.any()
            assert seen.light.mean() > 0.02 and seen.light.std() > 0.02
            assert seen.depth.min() > 0.05 and seen.depth.max() / seen.depth.min() > 1.5


def test_every_camera_suits_a_place() -> None:
    suited = {kind for make, _ in PLACES.values() for kind in make(np.random.default_rng(0)).cameras}
    assert suited == set(CAMERAS)
    assert sum(share for _, share in PLACES.values()) == pytest.approx(1.0)


def test_things_darken_the_ground() -> None:
    scene = places.open_land(np.random.default_rng(3))
    number, face = scene.ground
    scene.parts = scene.parts[:0]
    bare = scene.boxes[number].light[face].mean()
    scene.parts = places.tree(np.random.default_rng(0), places.at(0.0, 6.0), 5.0)
    scene.cast_shadows()
    light = scene.boxes[number].light[face]
    assert light.mean() < bare and light.min() < bare * (1 - 0.4 * scene.shadow) and light.min() > 0
    under = scene.lit_by(places.lumber(np.random.default_rng(0), places.at(0.0, 3.0), 1.0))
    assert under[number].light[face].mean() < light.mean() and scene.boxes[number].light[face] is light
