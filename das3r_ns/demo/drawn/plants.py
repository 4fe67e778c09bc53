"""Plants, thin things and furniture: what stands in drawn places and hides what is behind it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from das3r_ns.demo.drawn.cards import Card, Part, lit, turned_box
from das3r_ns.demo.drawn.outlines import frond, green_of, lattice, leaves
from das3r_ns.demo.drawn.stuff import anything, clouded, colour_of, stuff
from das3r_ns.demo.room import turn_x, turn_y, turn_z
from das3r_ns.demo.textures import Texture
from das3r_ns.demo.world import Ellipsoid

Point = Float[np.ndarray, "3"]


def bush(rng: np.random.Generator, centre: Point, size: float, count: int) -> list[Part]:
    """Sprays of leaves in a ball of that radius."""
    green = green_of(rng)
    sprays = [leaves(rng, green) for _ in range(2)]
    out: list[Part] = []
    for _ in range(count):
        offset = rng.normal(size=3)
        offset *= size * 0.7 * rng.random() ** 0.33 / np.linalg.norm(offset)
        rotation = turn_y(float(rng.uniform(-1.3, 1.3))) @ turn_x(float(rng.uniform(-0.9, 0.9)))
        rotation = rotation @ turn_z(float(rng.uniform(0, 6.3)))
        texture, cut = sprays[int(rng.integers(2))]
        side = size * float(rng.uniform(0.7, 1.3))
        # Deep in the bush it is dark.
        shade = lit(offset / np.linalg.norm(offset)) * (0.55 + 0.45 * float(np.linalg.norm(offset)) / size)
        out.append(_spray(centre + offset, rotation, (side, side), texture.of_size(side, side), cut, shade))
    return out


def fern(rng: np.random.Generator, root: Point, size: float, count: int) -> list[Part]:
    """Fronds that bow outward from a root; two cards each."""
    green = green_of(rng)
    texture, cut = frond(rng, green)
    out: list[Part] = []
    for _ in range(count):
        turn, rise = float(rng.uniform(0, 6.3)), float(rng.uniform(0.2, 1.3))
        length = size * float(rng.uniform(0.7, 1.2))
        wide = length * float(rng.uniform(0.3, 0.5))
        tilt = turn_y(turn) @ turn_z(-rise)
        bow = turn_y(turn) @ turn_z(-rise + float(rng.uniform(0.3, 0.9)))
        roll = turn_x(float(rng.uniform(-0.6, 0.6)))
        shade = 0.55 + 0.45 * float(rng.random())
        cloth = texture.of_size(length, wide)
        whole = _spray(root, tilt @ roll, (length, wide), cloth, cut, shade)
        whole.corner = root - 0.5 * whole.down
        short = (0.8 * length, 0.8 * wide)
        tip = _spray(root, bow @ roll, short, texture.of_size(*short), cut, shade)
        tip.corner = root + 0.45 * whole.along - 0.5 * tip.down
        out += [whole, tip]
    return out


def _spray(centre: Point, rotation: np.ndarray, size: tuple[float, float], texture: Texture, cut, shade: float) -> Card:
    along, down = rotation[:, 0] * size[0], rotation[:, 1] * size[1]
    return Card(centre - 0.5 * along - 0.5 * down, along, down, texture, cut, shade)


def tree(rng: np.random.Generator, root: Point, tall: float) -> list[Part]:
    """A trunk, a few boughs and a crown."""
    bark = Texture(clouded(rng, (0.36, 0.29, 0.22), 0.3, 0.8), (0.5, 0.25))
    thick = tall * float(rng.uniform(0.02, 0.045))
    trunk = Ellipsoid(
        root - np.array([0, 0.4 * tall, 0]),
        np.array([thick, 0.5 * tall, thick]),
        turn_z(float(rng.normal(0, 0.05))),
        bark,
    )
    out: list[Part] = [trunk]
    for _ in range(int(rng.integers(0, 4))):
        turn = turn_y(float(rng.uniform(0, 6.3))) @ turn_z(float(rng.uniform(0.4, 1.0)))
        reach = tall * 0.22
        start = root - np.array([0, tall * float(rng.uniform(0.45, 0.7)), 0])
        out.append(Ellipsoid(start - turn[:, 1] * reach, np.array([0.4 * thick, reach, 0.4 * thick]), turn, bark))
    if rng.random() < 0.8:
        out += bush(
            rng, root - np.array([0, 0.85 * tall, 0]), tall * float(rng.uniform(0.22, 0.35)), int(rng.integers(8, 16))
        )
    return out


def pole(
    rng: np.random.Generator, foot: Point, tall: float, thick: float, texture: Texture | None = None
) -> list[Part]:
    """A post, a leg or a rod that stands a little askew, square or round."""
    texture = texture or stuff(rng, 0.3)
    lean = turn_x(float(rng.normal(0, 0.03))) @ turn_z(float(rng.normal(0, 0.03)))
    centre = foot - np.array([0, 0.5 * tall, 0])
    if rng.random() < 0.5:
        return [Ellipsoid(centre, np.array([0.5 * thick, 0.56 * tall, 0.5 * thick]), lean, texture)]
    return [*turned_box(centre, np.array([thick, tall, thick]), lean @ turn_y(float(rng.uniform(0, 1.5))), texture)]


def fence(rng: np.random.Generator, start: Point, end: Point, tall: float) -> list[Part]:
    """From one place to another: a lattice, or posts with rails or wires."""
    way = end - start
    length = float(np.linalg.norm(way))
    texture = Texture(clouded(rng, colour_of(rng), 0.12), (0.6, 0.6))
    up = np.array([0, tall, 0])
    if rng.random() < 0.5:
        panels = max(round(length / tall / 1.2), 1)
        cut = lattice(rng)
        step = way / panels
        shade = float(rng.uniform(0.5, 1.0))
        return [Card(start + number * step - up, step, up, texture, cut, shade) for number in range(panels)]
    out: list[Part] = []
    facing = turn_y(float(np.arctan2(-way[2], way[0])))
    for share in np.linspace(0, 1, max(int(length / 1.2), 2)):
        out += pole(rng, start + share * way, tall, float(rng.uniform(0.03, 0.09)), texture)
    thin = float(rng.uniform(0.01, 0.07))
    for share in np.linspace(0.35, 0.97, int(rng.integers(2, 4))):
        middle = start + 0.5 * way - share * up
        out += turned_box(middle, np.array([length, thin, min(thin, 0.04)]), facing, texture)
    return out


def table(rng: np.random.Generator, middle: Point, size: Float[np.ndarray, "3"], turn: float) -> list[Part]:
    """Four legs and a top; ``size`` is length, height, depth; glossy white, wood or cloth."""
    rotation = turn_y(turn)
    top = Texture(anything(rng) if rng.random() < 0.6 else clouded(rng, (0.86, 0.86, 0.85), 0.01), (0.7, 0.7))
    thick = float(rng.uniform(0.02, 0.06))
    out: list[Part] = [
        *turned_box(middle - np.array([0, size[1], 0]), np.array([size[0], thick, size[2]]), rotation, top)
    ]
    leg = stuff(rng, 0.4)
    for x in (-0.45, 0.45):
        for z in (-0.45, 0.45):
            foot = middle + rotation @ np.array([x * size[0], 0, z * size[2]])
            out += pole(rng, foot, float(size[1]), float(rng.uniform(0.03, 0.06)), leg)
    return out


def chair(rng: np.random.Generator, middle: Point, turn: float) -> list[Part]:
    """A seat on legs with a back that one sees through."""
    out = table(rng, middle, np.array([0.45, 0.46, 0.45]), turn)
    rotation = turn_y(turn)
    along, down = rotation[:, 0] * 0.45, np.array([0, 0.5, 0])
    corner = middle + rotation @ np.array([-0.225, -0.98, 0.2])
    texture = Texture(clouded(rng, colour_of(rng), 0.1), (0.5, 0.5))
    return [*out, Card(corner, along, down, texture, lattice(rng) if rng.random() < 0.7 else None, 0.8)]


def lumber(rng: np.random.Generator, foot: Point, size: float) -> list[Part]:
    """Something of no name: a box or a ball on the ground, or some of them on top of each other."""
    out: list[Part] = []
    low = foot.copy()
    for _ in range(int(rng.integers(1, 4))):
        edges = size * rng.uniform(0.35, 1.0, 3)
        texture = stuff(rng, float(edges.max()) if rng.random() < 0.5 else 0.6)
        centre = low - np.array([0, 0.5 * edges[1], 0])
        if rng.random() < 0.6:
            out += turned_box(centre, edges, turn_y(float(rng.uniform(0, 3.1))), texture)
        else:
            ball = texture.of_size(0.5, 0.5)
            out.append(Ellipsoid(centre, 0.5 * edges, turn_y(float(rng.uniform(0, 3.1))), ball))
        low = low - np.array([0, edges[1], 0])
        size *= 0.7
    return out
