"""What things in drawn clips are made of: random pictures with detail at every size, and blank ones; all tile."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from jaxtyping import Float

from das3r_ns.demo.textures import (
    Picture,
    Rgb,
    Texture,
    as_float,
    beach_ball,
    books,
    bricks,
    checked,
    crate,
    marble,
    noise,
    painting,
    rug,
)

SIZE = 256
SLOPES = (0.3, 0.6, 0.8, 0.9, 1.0, 1.1, 1.3, 1.6)
"""Of the noise that is kept: films of the world have about 1."""


@cache
def _fields() -> list[Float[np.ndarray, "S S"]]:
    """Noise is slow to make, so every picture takes turned and shifted copies of the same."""
    rng = np.random.default_rng(190)
    return [noise(rng, SIZE, slope) for slope in SLOPES for _ in range(2)]


def grain(rng: np.random.Generator, slope: float) -> Float[np.ndarray, "S S"]:
    """Tiling noise of about that slope, mean 0, standard deviation 1."""
    nearest = int(np.abs(np.array(SLOPES) - slope).argmin())
    picture = _fields()[2 * nearest + int(rng.integers(2))]
    picture = np.roll(picture, rng.integers(SIZE, size=2), (0, 1))
    return np.rot90(picture, int(rng.integers(4)))[:: int(rng.choice([-1, 1]))]


KEPT = 5
"""Variants of the pictures that take long to draw."""
_SLOW = (bricks, beach_ball, books, crate, rug, painting)


@cache
def _drawn(kind: int, variant: int) -> Picture:
    rng = np.random.default_rng([190, kind, variant])
    picture = marble(rng, (0.8, 0.8, 0.8)) if kind == len(_SLOW) else _SLOW[kind](rng)
    side = 2 * SIZE if kind == 0 else SIZE
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)


def known(rng: np.random.Generator, kind: int) -> Picture:
    """One of the demo's pictures (:data:`_SLOW`, then marble), in other colours."""
    picture = _drawn(kind, int(rng.integers(KEPT)))
    if kind == len(_SLOW):
        return picture * as_float(near_to(rng, colour_of(rng), 0.1)) / np.float32(0.8)
    if kind and rng.random() < 0.5:
        picture = picture[..., rng.permutation(3)]
    return picture * rng.uniform(0.75, 1.1, 3).astype(np.float32)


def colour_of(rng: np.random.Generator, vivid: float = 0.35) -> Rgb:
    """A colour, mostly of the dull ones that the world is full of."""
    hsv = np.array([[[rng.uniform(0, 360), vivid * rng.beta(1.2, 1.6) * 1.8, rng.uniform(0.15, 0.95)]]], np.float32)
    red, green, blue = cv2.cvtColor(np.clip(hsv, 0, (360, 1, 1)).astype(np.float32), cv2.COLOR_HSV2RGB)[0, 0]
    return float(red), float(green), float(blue)


def near_to(rng: np.random.Generator, colour: Rgb, spread: float) -> Rgb:
    """Another colour like that."""
    red, green, blue = np.clip(
        np.array(colour) * rng.uniform(1 - spread, 1 + spread) + rng.normal(0, spread / 5, 3), 0, 1
    )
    return float(red), float(green), float(blue)


def clouded(rng: np.random.Generator, colour: Rgb, contrast: float, slope: float = 1.0) -> Picture:
    """One colour with clouds of every size."""
    tint = 1 + contrast * grain(rng, slope) + 0.35 * contrast * grain(rng, 0.3)
    warmth = 0.3 * contrast * grain(rng, 1.3)
    return (as_float(colour) * np.stack([tint + warmth, tint, tint - warmth], -1)).astype(np.float32)


def worn(rng: np.random.Generator, picture: Picture, contrast: float = 0.12) -> Picture:
    """A picture with specks and clouds over it."""
    cover = 1 + contrast * grain(rng, 0.9) + 0.4 * contrast * grain(rng, 0.3)
    if len(picture) != SIZE:
        cover = np.tile(cover, (len(picture) // SIZE, len(picture) // SIZE))
    return picture * cover[..., None].astype(np.float32)


def blotches(rng: np.random.Generator) -> Picture:
    """Patches with hard edges, of two to four colours: hides, camouflage, peeling paint."""
    first = colour_of(rng)
    colours = as_float([first, *(colour_of(rng) for _ in range(int(rng.integers(1, 4))))])
    height = grain(rng, float(rng.uniform(1.0, 1.6)))
    levels = np.sort(rng.uniform(-1.2, 1.2, len(colours) - 1))
    return worn(rng, colours[np.searchsorted(levels, height)], float(rng.uniform(0.05, 0.2)))


def cells(rng: np.random.Generator) -> Picture:
    """Pebbles, tiles, leaves on the ground: patches round random points with dark gaps."""
    count = int(rng.choice([20, 60, 200, 500]))
    seeds = rng.integers(0, SIZE, (count, 2))
    canvas = np.full((3 * SIZE, 3 * SIZE), 255, np.uint8)
    for shift in np.indices((3, 3)).reshape(2, 9).T * SIZE:
        canvas[tuple((seeds + shift).T)] = 0
    distance, labels = cv2.distanceTransformWithLabels(canvas, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    middle = slice(SIZE, 2 * SIZE)
    base = colour_of(rng)
    palette = as_float([near_to(rng, base, 0.5) for _ in range(12)])
    round_ = np.clip(1.25 - distance[middle, middle] / (0.75 * SIZE / np.sqrt(count)), 0.25, 1)
    return worn(rng, palette[labels[middle, middle].astype(int) * 7 % 12] * round_[..., None], 0.15)


def stripes(rng: np.random.Generator) -> Picture:
    """Bands that waver, of some colours."""
    y = np.mgrid[0:SIZE, 0:SIZE][0] / SIZE
    colours = as_float([colour_of(rng) for _ in range(int(rng.integers(2, 5)))])
    height = y * int(rng.integers(2, 14)) + rng.uniform(0, 0.6) * grain(rng, 1.6)
    picture = colours[(height * len(colours)).astype(int) % len(colours)]
    return worn(rng, np.rot90(picture, int(rng.integers(2))))


def lettered(rng: np.random.Generator) -> Picture:
    """Rows of marks like writing, and a patch: posters, labels, signs."""
    paper, ink = colour_of(rng, 0.8), colour_of(rng, 0.8)
    picture = np.empty((SIZE, SIZE, 3), np.float32)
    picture[:] = paper
    y = 8
    while y < SIZE - 30:
        tall = int(rng.choice([6, 9, 14, 30]))
        x = int(rng.integers(6, 40))
        while x < SIZE - 12:
            wide = max(int(tall * rng.uniform(0.15, 0.9)), 2)
            picture[y + int(rng.integers(tall // 2)) : y + tall, x : min(x + wide, SIZE - 6)] = ink
            x += wide + int(tall * rng.choice([0.2, 0.2, 0.8])) + 1
        y += int(tall * rng.uniform(1.3, 2.0))
    x, y = rng.integers(20, SIZE - 100, 2)
    cv2.ellipse(
        picture, (int(x) + 40, int(y) + 40), (40, 30), float(rng.uniform(0, 180)), 0, 360, colour_of(rng, 0.9), -1
    )
    return worn(rng, picture, 0.06)


def blank(rng: np.random.Generator) -> Picture:
    """Paint with next to nothing on it."""
    return clouded(rng, near_to(rng, (0.8, 0.78, 0.74), 0.25), float(rng.choice([0.0, 0.01, 0.03])), 1.3)


def turf(rng: np.random.Generator) -> Picture:
    """Grass, earth, sand or snow, seen from above."""
    base = [(0.33, 0.42, 0.18), (0.45, 0.40, 0.22), (0.46, 0.36, 0.27), (0.72, 0.62, 0.48), (0.86, 0.88, 0.92)]
    first = near_to(rng, base[int(rng.integers(len(base)))], 0.25)
    second = near_to(rng, base[int(rng.integers(4))], 0.25)
    share = (1 / (1 + np.exp(-4 * (grain(rng, 1.3) + rng.uniform(-1.5, 0.5)))))[..., None].astype(np.float32)
    ground = clouded(rng, first, 0.25, 0.6) * (1 - share) + clouded(rng, second, 0.22, 0.6) * share
    return ground.astype(np.float32)


def paving(rng: np.random.Generator) -> Picture:
    """Slabs or asphalt."""
    grey = near_to(rng, (0.5, 0.49, 0.47), 0.4)
    picture = clouded(rng, grey, float(rng.uniform(0.06, 0.2)), 0.6)
    if rng.random() < 0.6:
        number = int(rng.choice([2, 4, 8]))
        step = SIZE // number
        picture = picture * rng.uniform(0.8, 1.15, (number, number, 1)).repeat(step, 0).repeat(step, 1).astype(
            np.float32
        )
        picture[::step] *= 0.5
        picture[:, ::step] *= 0.5
    return picture


def house_front(rng: np.random.Generator, rows: int, columns: int) -> Picture:
    """A front with windows in rows; 512 texels, to be stretched over a wall."""
    side = 2 * SIZE
    wall = clouded(rng, near_to(rng, colour_of(rng, 0.35), 0.2), float(rng.uniform(0.03, 0.15)), 0.9)
    picture = np.tile(wall, (2, 2, 1))
    if rng.random() < 0.3:
        picture = known(rng, 0).copy()
    frame = near_to(rng, (0.8, 0.8, 0.78) if rng.random() < 0.6 else (0.25, 0.2, 0.18), 0.2)
    cell_x, cell_y = side // columns, side // rows
    wide, tall = int(cell_x * rng.uniform(0.35, 0.7)), int(cell_y * rng.uniform(0.45, 0.7))
    panes = int(rng.integers(1, 4))
    for row in range(rows):
        for column in range(columns):
            x, y = column * cell_x + (cell_x - wide) // 2, row * cell_y + (cell_y - tall) // 2
            picture[y - 4 : y + tall + 4, x - 4 : x + wide + 4] = frame
            glass = np.linspace(0.5, 0.12, tall)[:, None, None] * as_float((0.75, 0.9, 1.0)) * rng.uniform(0.3, 1.3)
            picture[y : y + tall, x : x + wide] = glass
            if rng.random() < 0.5:  # a curtain or a blind
                low = y + int(tall * rng.uniform(0.2, 1.0))
                picture[y:low, x : x + wide] = as_float(near_to(rng, (0.8, 0.74, 0.62), 0.3)) * rng.uniform(0.5, 1.0)
            for pane in range(1, panes):
                bar = x + pane * wide // panes
                picture[y : y + tall, bar - 1 : bar + 2] = frame
    for row in range(rows):  # cornices
        picture[row * cell_y : row * cell_y + 5] *= rng.uniform(0.6, 1.3)
    door = int(rng.integers(columns)) * cell_x + cell_x // 4
    picture[side - int(0.75 * cell_y) :, door : door + cell_x // 2] = colour_of(rng)
    return worn(rng, picture, 0.05)


def anything(rng: np.random.Generator) -> Picture:
    """A picture for furniture, clothes, hides, balls; plain ones among them."""
    kind = int(rng.integers(16))
    if kind < 4:
        return clouded(rng, colour_of(rng), float(rng.uniform(0.03, 0.35)), float(rng.uniform(0.6, 1.3)))
    if kind == 4:
        return clouded(rng, colour_of(rng), 0.01)
    if kind < 12:
        return (blotches, blotches, cells, cells, stripes, lettered, turf)[kind - 5](rng)
    if kind == 12:
        return checked(rng, colour_of(rng), colour_of(rng), int(rng.integers(3, 12)))
    if kind == 13:
        return known(rng, len(_SLOW))
    return known(rng, int(rng.integers(1, len(_SLOW))))


def stuff(rng: np.random.Generator, metres: float = 1.0) -> Texture:
    """Any material; ``metres`` is the length of one repeat."""
    return Texture(anything(rng), (metres, metres))


def shining(picture: Picture) -> Texture:
    """A surface that is as bright as its picture says, whatever the light: the sky."""
    return Texture(picture, (1.0, 1.0), emission=1.0)


def sky(rng: np.random.Generator) -> Picture:
    """Up to down: from the zenith to the haze at the horizon, clear, veiled or with clouds."""
    kind = int(rng.integers(3))
    zenith = as_float([(0.25, 0.45, 0.82), (0.78, 0.8, 0.82), (0.35, 0.5, 0.8)][kind]) * rng.uniform(0.7, 1.1)
    haze = as_float([(0.75, 0.84, 0.93), (0.9, 0.9, 0.9), (0.8, 0.85, 0.92)][kind]) * rng.uniform(0.85, 1.05)
    down = np.linspace(0, 1, SIZE, dtype=np.float32)[:, None, None] ** 1.5
    picture = np.broadcast_to(zenith * (1 - down) + haze * down, (SIZE, SIZE, 3))
    if kind == 2:
        cloud = np.clip(0.8 * grain(rng, 1.3) - rng.uniform(-0.4, 0.6), 0, 1)[..., None]
        picture = picture * (1 - cloud) + np.float32(0.97) * cloud
    return np.clip(picture, 0, 1).astype(np.float32)
