"""Procedural textures of the demo room, rich at every scale so that optical flow has something to hold on to."""

from __future__ import annotations

from copy import copy
from dataclasses import InitVar, dataclass, field

import cv2
import numpy as np
from jaxtyping import Float

Picture = Float[np.ndarray, "S S 3"]
"""A square texture that tiles, sRGB values 0 to 1."""
Rgb = tuple[float, float, float]


@dataclass
class Texture:
    """A tiling picture as its mip pyramid, in linear light."""

    picture: InitVar[Picture]
    """Only its pyramid is kept."""
    metres: tuple[float, float]
    """Length on the surface that one repeat covers, along u and v."""
    emission: float | None = None
    """Linear brightness of a surface that shines by itself; None for one that is lit."""
    levels: list[Picture] = field(init=False)

    def __post_init__(self, picture: Picture) -> None:
        level = np.clip(picture, 0, 1).astype(np.float32) ** np.float32(2.2)
        self.levels = [level]
        while level.shape[0] > 4:
            level = cv2.resize(level, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            self.levels.append(level)

    def of_size(self, along: float, down: float) -> Texture:
        """The same picture, kept once, where a repeat covers another length: along u and v, in metres."""
        other = copy(self)
        other.metres = (along, down)
        return other

    def sample(
        self,
        u: Float[np.ndarray, " n"],
        v: Float[np.ndarray, " n"],
        footprint: Float[np.ndarray, " n"],
    ) -> Float[np.ndarray, "n 3"]:
        """Trilinear look-up.

        Args:
            u: Surface coordinate along the picture's columns, metres.
            v: Surface coordinate along its rows, metres.
            footprint: Width of the sample on the surface, metres; detail finer than that is averaged away.

        Returns:
            Linear-light colours.
        """
        size = self.levels[0].shape[0]
        texel = min(self.metres) / size
        wanted = np.clip(np.log2(np.maximum(footprint / texel, 1e-6)), 0, len(self.levels) - 1)
        u, v = u / self.metres[0] % 1.0, v / self.metres[1] % 1.0
        colour = np.zeros((len(u), 3), np.float32)
        for number, level in enumerate(self.levels):
            weight = 1.0 - np.abs(wanted - number)
            touched = np.flatnonzero(weight > 0)
            if len(touched):
                here = remap_points(level, u[touched], v[touched], cv2.BORDER_WRAP)
                colour[touched] += weight[touched, None] * here
        return colour


def remap_points(
    picture: Float[np.ndarray, "H W 3"],
    u: Float[np.ndarray, " n"],
    v: Float[np.ndarray, " n"],
    border: int,
) -> Float[np.ndarray, "n 3"]:
    """Bilinear look-up of a list of points, u and v running 0 to 1 over the picture."""
    columns = 1024  # OpenCV's remap takes no picture longer than 32767, so the list is folded
    padding = -len(u) % columns
    x = np.pad(u * picture.shape[1] - 0.5, (0, padding)).astype(np.float32).reshape(-1, columns)
    y = np.pad(v * picture.shape[0] - 0.5, (0, padding)).astype(np.float32).reshape(-1, columns)
    return cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=border).reshape(-1, 3)[: len(u)]


def as_float(values: Rgb | list[Rgb]) -> Float[np.ndarray, "*rows 3"]:
    """A colour, or a list of them, as a float32 array."""
    return np.asarray(values, np.float32)


def noise(rng: np.random.Generator, size: int, slope: float = 1.0, stretch: float = 1.0) -> Float[np.ndarray, "S S"]:
    """Tiling noise with a power-law spectrum, mean 0, standard deviation 1.

    Args:
        rng: Source of the phases.
        size: Side in texels.
        slope: Amplitude falls as frequency to the minus ``slope``; larger is smoother.
        stretch: Above 1 the noise runs in streaks along the rows (wood grain).
    """
    fy = np.fft.fftfreq(size)[:, None] * size
    fx = np.fft.rfftfreq(size)[None] * size * stretch
    amplitude = 1.0 / np.maximum(np.hypot(fx, fy), 1.0) ** slope
    amplitude[0, 0] = 0
    field_ = np.fft.irfft2(amplitude * np.exp(2j * np.pi * rng.random(amplitude.shape)), s=(size, size))
    return (field_ / field_.std()).astype(np.float32)


def mottled(rng: np.random.Generator, size: int, colour: Rgb, contrast: float = 0.16, slope: float = 0.9) -> Picture:
    """One colour with clouds and specks of every size."""
    tint = 1 + contrast * noise(rng, size, slope) + 0.3 * contrast * noise(rng, size, 0.3)
    warmth = 0.25 * contrast * noise(rng, size, 1.2)
    return as_float(colour) * np.stack([tint + warmth, tint, tint - warmth], -1)


def rows_of_blocks(
    rng: np.random.Generator, size: int, rows: int, columns: int, colours: list[Rgb], joint: Rgb, joint_texels: float
) -> Picture:
    """Staggered rows of blocks, each with its own colour: bricks, or floor boards."""
    y, x = np.mgrid[0:size, 0:size] / size
    row = (y * rows).astype(int)
    shift = rng.random(rows)[row]
    along = (x * columns + shift) % columns
    column = along.astype(int)
    palette = as_float(colours)[rng.integers(len(colours), size=(rows, columns))]
    palette = palette * rng.uniform(0.7, 1.25, (rows, columns, 1)).astype(np.float32)
    gap_y = np.minimum(y * rows % 1, 1 - y * rows % 1) / rows * size
    gap_x = np.minimum(along % 1, 1 - along % 1) / columns * size
    cover = np.clip(np.minimum(gap_x, gap_y) - joint_texels + 0.5, 0, 1)[..., None].astype(np.float32)
    return palette[row, column] * cover + as_float(joint) * (1 - cover)


def bricks(rng: np.random.Generator) -> Picture:
    """A wall of painted bricks."""
    colours = [(0.72, 0.40, 0.30), (0.62, 0.33, 0.27), (0.78, 0.50, 0.38), (0.55, 0.30, 0.28)]
    wall = rows_of_blocks(rng, 1024, 30, 10, colours, (0.74, 0.70, 0.64), 3.0)
    return wall * mottled(rng, 1024, (1, 1, 1), 0.17, 0.8)


def boards(rng: np.random.Generator) -> Picture:
    """A wooden floor."""
    colours = [(0.62, 0.44, 0.27), (0.70, 0.51, 0.32), (0.54, 0.37, 0.22), (0.66, 0.45, 0.25)]
    floor = rows_of_blocks(rng, 1024, 24, 4, colours, (0.22, 0.14, 0.08), 1.5)
    grain = 1 + 0.12 * noise(rng, 1024, 0.8, stretch=12)[..., None]
    return floor * grain * mottled(rng, 1024, (1, 1, 1), 0.10)


def books(rng: np.random.Generator) -> Picture:
    """Five shelves of books."""
    size, shelves = 512, 5
    shelf = size // shelves
    picture = np.full((size, size, 3), (0.16, 0.10, 0.07), np.float32)
    for top in range(0, shelves * shelf, shelf):
        x = 4
        while x < size - 8:
            thick, tall = int(rng.integers(9, 26)), int(rng.integers(int(shelf * 0.6), int(shelf * 0.88)))
            hue = rng.uniform(0, 360)
            hsv = np.array([[[hue, rng.uniform(0.35, 0.8), rng.uniform(0.45, 0.95)]]], np.float32)
            colour = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0]
            base, end = top + shelf - 8, min(x + thick - 1, size - 4)
            picture[base - tall : base, x:end] = colour
            picture[base - int(tall * 0.8) : base - int(tall * 0.72), x:end] = 1 - 0.7 * colour
            picture[base - int(tall * 0.3) : base - int(tall * 0.25), x:end] = 0.5 * colour
            x += thick
        picture[top + shelf - 8 : top + shelf] = (0.42, 0.28, 0.17)
    return picture * mottled(rng, size, (1, 1, 1), 0.08)


def crate(rng: np.random.Generator) -> Picture:
    """One side of a wooden crate: planks, a frame and a diagonal."""
    size = 256
    y, x = np.mgrid[0:size, 0:size] / size
    planks = rows_of_blocks(rng, size, 6, 1, [(0.72, 0.55, 0.34), (0.62, 0.46, 0.28)], (0.25, 0.17, 0.1), 1.2)
    edge = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y))
    bar = (edge < 0.12) | (np.abs(x - y) < 0.09)
    line = (np.abs(edge - 0.12) < 0.008) | ((np.abs(np.abs(x - y) - 0.09) < 0.01) & (edge > 0.12))
    picture = np.where(bar[..., None], as_float((0.80, 0.63, 0.40)), planks)
    picture = np.where(line[..., None], as_float((0.22, 0.14, 0.08)), picture)
    return picture * (1 + 0.1 * noise(rng, size, 0.8, stretch=8)[..., None]) * mottled(rng, size, (1, 1, 1), 0.10)


def rug(rng: np.random.Generator) -> Picture:
    """A rug of nested diamonds with a border."""
    size = 512
    y, x = np.mgrid[0:size, 0:size] / size
    diamond = (np.abs((x * 4) % 1 - 0.5) + np.abs((y * 4) % 1 - 0.5)) * 5
    palette = as_float(
        [(0.55, 0.12, 0.15), (0.86, 0.74, 0.52), (0.13, 0.24, 0.42), (0.72, 0.30, 0.18), (0.9, 0.8, 0.6)]
    )
    picture = palette[diamond.astype(int) % 5]
    edge = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y))
    picture = np.where((edge < 0.09)[..., None], palette[(edge * 55).astype(int) % 5], picture)
    return picture * mottled(rng, size, (1, 1, 1), 0.16, 0.6)


def marble(rng: np.random.Generator, colour: Rgb) -> Picture:
    """Veined stone."""
    size = 512
    y = np.mgrid[0:size, 0:size][0] / size
    vein = np.abs(np.sin(2 * np.pi * (2 * y + 0.45 * noise(rng, size, 1.5))))[..., None] ** 0.5
    return mottled(rng, size, colour, 0.14) * (0.55 + 0.45 * vein).astype(np.float32)


def painting(rng: np.random.Generator) -> Picture:
    """A framed picture of hills under a low sun."""
    size = 256
    y, x = np.mgrid[0:size, 0:size] / size
    zenith, glow = rng.uniform((0.2, 0.3, 0.5), (0.6, 0.6, 0.95)), rng.uniform((0.9, 0.5, 0.2), (1.0, 0.9, 0.7))
    picture = (zenith * (1 - 1.4 * y[..., None]).clip(0) + glow * (1.4 * y[..., None]).clip(0, 1)).astype(np.float32)
    hills = rng.uniform((0.15, 0.3, 0.25), (0.6, 0.6, 0.45))
    sun_x, sun_y = rng.uniform(0.25, 0.75), rng.uniform(0.28, 0.42)
    picture[np.hypot(x - sun_x, y - sun_y) < 0.1] = (1.0, 0.93, 0.66)
    for depth in range(4):
        phase, wave = rng.uniform(0, 2 * np.pi), rng.uniform(0.7, 1.8)
        ridge = 0.48 + 0.12 * depth + 0.07 * np.sin(2 * np.pi * wave * x + phase) + 0.02 * np.sin(30 * x + phase)
        shade = hills.astype(np.float32) * (1 - 0.2 * depth)
        picture = np.where((y > ridge)[..., None], shade, picture)
    picture = picture * mottled(rng, size, (1, 1, 1), 0.09, 0.7)
    edge = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y))[..., None]
    picture = np.where(edge < 0.09, as_float((0.95, 0.92, 0.85)), picture)
    return np.where(edge < 0.06, as_float((0.24, 0.15, 0.08)), picture)


def checked(rng: np.random.Generator, first: Rgb, second: Rgb, cells: int = 8) -> Picture:
    """Cloth with a check pattern."""
    size = 256
    y, x = np.mgrid[0:size, 0:size] / size
    stripes = (((x * cells) % 1 < 0.5).astype(np.float32) + ((y * cells) % 1 < 0.5).astype(np.float32))[..., None] / 2
    cloth = as_float(first) * stripes + as_float(second) * (1 - stripes)
    return cloth * mottled(rng, size, (1, 1, 1), 0.12, 0.7)


def beach_ball(rng: np.random.Generator) -> Picture:
    """Coloured sectors round the axis, u being the longitude."""
    size = 256
    y, x = np.mgrid[0:size, 0:size] / size
    palette = as_float([(0.92, 0.2, 0.18), (0.97, 0.95, 0.9), (0.15, 0.45, 0.85), (0.98, 0.82, 0.2), (0.97, 0.95, 0.9)])
    picture = palette[(x * 10).astype(int) % 5]
    picture = np.where((np.abs(y - 0.5) > 0.42)[..., None], palette[0], picture)
    return picture * mottled(rng, size, (1, 1, 1), 0.08, 0.7)
