"""Cars, vans and carts of drawn clips, standing or driving."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from das3r_ns.demo.drawn.cards import Part, turned_box
from das3r_ns.demo.drawn.stuff import anything, clouded, colour_of, grain, worn
from das3r_ns.demo.room import turn_x, turn_y
from das3r_ns.demo.textures import Texture, as_float
from das3r_ns.demo.world import Ellipsoid

Body = Callable[[Float[np.ndarray, "3"], float, float], list[Part]]
"""Parts of a thing from where it stands, where it heads (radians about y from z on), and how far it has gone."""


def car(rng: np.random.Generator, scale: float) -> Body:
    """A hull, a cabin with panes, and four wheels that turn."""
    long, wide, tall = scale * rng.uniform((2.6, 1.3, 1.1), (4.6, 1.8, 2.2))
    paint = anything(rng) if rng.random() < 0.3 else worn(rng, clouded(rng, colour_of(rng, 0.6), 0.02), 0.03)
    hull, panes = Texture(paint, (2.0 * scale, 2.0 * scale)), Texture(_panes(rng, paint), (0.45 * long, 0.45 * tall))
    tyre = Texture(_tyre(rng), (0.5, 1.0))
    round_, radius, share = bool(rng.random() < 0.5), 0.19 * tall + 0.12 * scale, rng.uniform(0.35, 0.6)

    def at(place: Float[np.ndarray, "3"], heading: float, gone: float) -> list[Part]:
        rotation = turn_y(heading)

        def spot(x: float, y: float, z: float) -> Float[np.ndarray, "3"]:
            return place + rotation @ np.array([x, -y, z])

        out: list[Part] = []
        if round_:
            out.append(
                Ellipsoid(spot(0, 0.45 * tall, 0), np.array([0.52 * wide, 0.3 * tall, 0.55 * long]), rotation, hull)
            )
        else:
            out += turned_box(spot(0, 0.42 * tall, 0), np.array([wide, 0.4 * tall, long]), rotation, hull)
        size = np.array([0.88 * wide, 0.42 * tall, share * long])
        out += turned_box(spot(0, 0.79 * tall, -0.06 * long), size, rotation, panes, hull)
        spin = rotation @ turn_x(-gone / radius)
        for x in (-0.46, 0.46):
            for z in (-0.32, 0.32):
                radii = np.array([0.09 * wide, radius, radius])
                out.append(Ellipsoid(spot(x * wide, radius, z * long), radii, spin, tyre))
        return out

    return at


def _panes(rng: np.random.Generator, paint: Float[np.ndarray, "S S 3"]) -> Float[np.ndarray, "S S 3"]:
    size = len(paint)
    y, x = np.mgrid[0:size, 0:size] / size
    glass = as_float((0.18, 0.22, 0.26)) * (
        1 + 0.5 * grain(rng, 1.6)[:, :, None].repeat(max(size // 256, 1), 0).repeat(max(size // 256, 1), 1)
    )
    pillar = (x % 0.5 < 0.06) | (y < 0.12) | (y > 0.85)
    return np.where(pillar[..., None], paint, np.clip(glass, 0.02, 0.9)).astype(np.float32)


def _tyre(rng: np.random.Generator) -> Float[np.ndarray, "S S 3"]:
    picture = clouded(rng, (0.12, 0.12, 0.13), 0.15)
    picture[:, ::32] = 0.55
    picture[96:160] = as_float(colour_of(rng, 0.3))
    return picture
