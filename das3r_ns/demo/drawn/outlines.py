"""Outlines that cards are cut to: leaves, fronds, lattices, fences, ridges, and blobs of any shape."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float

from das3r_ns.demo.drawn.cards import Cut
from das3r_ns.demo.drawn.stuff import SIZE, as_float, colour_of, grain, near_to
from das3r_ns.demo.textures import Picture, Rgb, Texture


def leaves(rng: np.random.Generator, green: Rgb) -> tuple[Texture, Cut]:
    """A spray of leaves, or of grass blades; the texture covers one metre."""
    picture, cut = _canvas(green)
    count = int(rng.integers(25, 110))
    long = SIZE * rng.uniform(0.5, 1.1) / np.sqrt(count)
    slim = rng.uniform(0.15, 0.6)
    for _ in range(count):
        middle = (int(rng.normal(0.5, 0.2) * SIZE), int(rng.normal(0.5, 0.2) * SIZE))
        size = long * rng.uniform(0.6, 1.4)
        _leaf(picture, cut, middle, (size, size * slim), float(rng.uniform(0, 360)), near_to(rng, green, 0.45))
    return _finished(rng, picture, cut)


def frond(rng: np.random.Generator, green: Rgb) -> tuple[Texture, Cut]:
    """A fern's: leaflets in pairs along a stem that runs along the picture's rows."""
    picture, cut = _canvas(green)
    count, angle, slim = int(rng.integers(8, 26)), rng.uniform(45, 75), rng.uniform(0.12, 0.3)
    widest = rng.uniform(0.1, 0.5)
    cv2.line(cut, (0, SIZE // 2), (SIZE - 6, SIZE // 2), (1.0,), 4)
    for number in range(count):
        share = (number + 0.7) / count
        length = 0.42 * SIZE * min(0.35 + share / widest, 1.0, 1.25 * (1 - share) + 0.06)
        for side in (-1, 1):
            turn = side * angle * (1 - 0.4 * share) + float(rng.normal(0, 4))
            half = 0.5 * length * np.array([np.cos(np.radians(turn)), np.sin(np.radians(turn))])
            middle = (int(share * SIZE * 0.92 + half[0]), int(SIZE / 2 + half[1]))
            _leaf(picture, cut, middle, (0.5 * length, 0.5 * length * slim), turn, near_to(rng, green, 0.3))
    return _finished(rng, picture, cut)


def lattice(rng: np.random.Generator) -> Cut:
    """A fence, a railing, wire or an ornamental screen."""
    cut = np.zeros((SIZE, SIZE), np.float32)
    kind, step = int(rng.integers(4)), SIZE // int(rng.choice([4, 8, 16]))
    thick = max(int(step * rng.uniform(0.12, 0.5)), 2)
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    if kind == 0:  # bars between two rails
        cut[(x % step < thick) | (np.abs(y - 20) < 8) | (np.abs(y - SIZE + 20) < 8)] = 1
    elif kind == 1:  # a grid
        cut[(x % step < thick) | (y % step < thick)] = 1
    elif kind == 2:  # diamonds
        cut[((x + y) % step < thick) | ((x - y) % step < thick)] = 1
    else:  # holes in a sheet
        shift = step // 2 * ((y // step) % 2)
        cut[np.hypot((x + shift) % step - step / 2, y % step - step / 2) > step / 2 - thick / 2] = 1
    return Cut(cut)


def ridge(rng: np.random.Generator) -> Cut:
    """The upper edge of hills, woods or roofs; solid below."""
    x = np.arange(SIZE)
    height = 0.5 + 0.12 * grain(rng, 1.6)[0] + 0.05 * rng.uniform(0, 1) * grain(rng, 0.6)[0]
    if rng.random() < 0.4:
        height = height[x // 16 * 16]
    return Cut((np.arange(SIZE)[:, None] > SIZE * np.clip(height, 0.05, 0.9)[None]).astype(np.float32))


def blob(waves: Float[np.ndarray, "2 K"], time: float, size: int = 96) -> Cut:
    """A random outline that wavers with time: radius over angle, of a few waves.

    Args:
        waves: Strengths and phases of the waves with 1, 2, ... K bumps.
        time: In periods of the slowest wave.
        size: Of the picture.
    """
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size * 2 - 1
    angle, bumps = np.arctan2(y, x), np.arange(1, waves.shape[1] + 1)
    phase = waves[1] + 2 * np.pi * time * (1 + bumps % 3) * np.where(bumps % 2, 1, -1)
    radius = 0.62 + (waves[0] * np.sin(bumps * angle[..., None] + phase)).sum(-1)
    return Cut((np.hypot(x, y) < np.clip(radius, 0.25, 0.98)).astype(np.float32))


def green_of(rng: np.random.Generator) -> Rgb:
    """A colour of leaves; now and then of blossoms or of autumn."""
    if rng.random() < 0.15:
        return colour_of(rng, 0.9)
    return near_to(rng, (0.28, 0.45, 0.16) if rng.random() < 0.7 else (0.5, 0.5, 0.25), 0.4)


def _canvas(green: Rgb) -> tuple[Picture, Float[np.ndarray, "S S"]]:
    picture = np.empty((SIZE, SIZE, 3), np.float32)
    picture[:] = 0.6 * as_float(green)
    return picture, np.zeros((SIZE, SIZE), np.float32)


def _leaf(
    picture: Picture,
    cut: Float[np.ndarray, "S S"],
    middle: tuple[int, int],
    half: tuple[float, float],
    turn: float,
    colour: Rgb,
) -> None:
    axes = (max(int(half[0]), 2), max(int(half[1]), 1))
    cv2.ellipse(picture, middle, axes, turn, 0, 360, colour, -1)
    cv2.ellipse(cut, middle, axes, turn, 0, 360, (1.0,), -1)
    tip = np.array(half[0]) * np.array([np.cos(np.radians(turn)), np.sin(np.radians(turn))])
    start, end = np.array(middle) - tip, np.array(middle) + tip
    vein = tuple(1.25 * channel for channel in colour)
    cv2.line(picture, tuple(start.astype(int).tolist()), tuple(end.astype(int).tolist()), vein, 1)


def _finished(rng: np.random.Generator, picture: Picture, cut: Float[np.ndarray, "S S"]) -> tuple[Texture, Cut]:
    light = 1 + 0.15 * grain(rng, 1.1) + 0.05 * grain(rng, 0.3)
    return Texture(picture * light[..., None].astype(np.float32), (1.0, 1.0)), Cut(cut)
