"""Clips with exact masks, each another by its seed: the demo's room, drawn for training and its control.

What moves and what stands are made of the same parts and the same stuff: only that it moves tells one from the other.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from das3r_ns.demo.room import build_room, looking, turn_x, turn_z, walker
from das3r_ns.demo.textures import Texture, beach_ball, books, checked, crate, marble, mottled, rug
from das3r_ns.demo.world import Ellipsoid
from das3r_ns.demo.write import render_frame, write_picture
from das3r_ns.errors import Das3rError
from das3r_ns.files import replace_directory, temporary_directory
from das3r_ns.workers import workers

ROOMS = 8
"""Different textures of the room; its light takes seconds to compute, and is kept."""
STILL_SHARE = 0.25
"""Share of the clips in which nothing moves."""
MOST_MOVERS, MOST_STANDING = 4, 3
REACH = 2.2
"""Metres from the middle of the room within which things stand and walk."""


@dataclass
class _Thing:
    """A walker, a ball or a lump on its way from one place to another."""

    kind: str
    start: Float[np.ndarray, "3"]
    way: Float[np.ndarray, "3"]
    """From the start to the end."""
    pace: float
    """Steps, bounces or turns over the clip."""
    phase: float
    radii: Float[np.ndarray, "3"]
    textures: tuple[Texture, ...]
    """Four of a walker (shirt, trousers, skin, hair), else one."""

    def at(self, time: float) -> list[Ellipsoid]:
        """Its parts at a time from 0 to 1."""
        place, beat = self.start + time * self.way, self.phase + self.pace * time
        if self.kind == "walker":
            return walker(place, (float(self.way[0]), float(self.way[2])), beat, self.textures)
        lift = abs(np.sin(np.pi * beat)) if self.kind == "ball" else 0.15 * np.sin(2 * np.pi * beat)
        centre = place - np.array([0.0, self.radii[1] + (0.8 * lift if self.kind == "ball" else 0.9 + lift), 0.0])
        return [Ellipsoid(centre, self.radii, turn_z(2.0 * beat) @ turn_x(0.5 + self.phase), self.textures[0])]


@dataclass
class DrawnClip:
    """What a seed stands for."""

    room: int
    poses: Float[np.ndarray, "N 4 4"]
    """Camera-to-world, OpenCV axes, metres."""
    focal_share: float
    """Focal in widths of the picture."""
    movers: list[_Thing]
    standing: list[Ellipsoid]

    @classmethod
    def of_seed(cls, seed: int, num_frames: int) -> DrawnClip:
        """The clip of a seed; the same walk is cut into any number of frames."""
        rng = np.random.default_rng([19, seed])
        number = 0 if rng.random() < STILL_SHARE else int(rng.integers(1, MOST_MOVERS + 1))
        movers = [_thing(rng) for _ in range(number)]
        standing = [part for _ in range(rng.integers(MOST_STANDING + 1)) for part in _thing(rng).at(rng.random())]
        poses = _camera(rng, num_frames)
        return cls(int(rng.integers(ROOMS)), poses, float(rng.uniform(0.75, 1.1)), movers, standing)

    def at(self, time: float) -> list[Ellipsoid]:
        """Every part of every mover."""
        return [part for mover in self.movers for part in mover.at(time)]


def write_clip(
    directory: Path,
    seed: int,
    num_frames: int,
    width: int,
    height: int,
    on_frame: Callable[[], None] = lambda: None,
) -> None:
    """Write the clip of a seed: frames/ and masks/ (255 = the first hit at the pixel's centre moves).

    Args:
        directory: Folder to write, there completely or not at all; nothing happens where it is.
        seed: Any whole number from 0 up.
        num_frames: Length of the clip.
        width: Of the picture, pixels.
        height: Of the picture, pixels.
        on_frame: Called after each finished frame, for progress bars.

    Raises:
        Das3rError: It cannot be written.
    """
    if directory.is_dir():
        for _ in range(num_frames):
            on_frame()
        return
    clip = DrawnClip.of_seed(seed, num_frames)
    boxes = build_room(100 + clip.room)

    def draw(number: int) -> None:
        time, focal = number / max(num_frames - 1, 1), clip.focal_share * width
        frame = render_frame(boxes, clip, time, clip.poses[number], focal, width, height, clip.standing)
        write_picture(temporary / f"frames/{number:05d}.png", frame.image)
        write_picture(temporary / f"masks/{number:05d}.png", frame.mask.astype(np.uint8) * 255)
        on_frame()

    try:
        with temporary_directory(directory) as temporary:
            (temporary / "frames").mkdir()
            (temporary / "masks").mkdir()
            with ThreadPoolExecutor(max_workers=workers()) as pool:
                list(pool.map(draw, range(num_frames)))
            replace_directory(temporary, directory)
    except OSError as error:
        raise Das3rError(f"The drawn clip cannot be written to {directory}: {error}.") from error


def _thing(rng: np.random.Generator) -> _Thing:
    """Something that crosses the room in front of the furniture."""
    kind = str(rng.choice(["walker", "ball", "lump"]))
    start = np.array([rng.uniform(-REACH, REACH), 0.0, rng.uniform(2.3, 3.9)])
    end = np.array([rng.uniform(-REACH, REACH), 0.0, rng.uniform(2.3, 3.9)])
    way = end - start
    # No slower than a stroll: what hardly moves is no lesson.
    way *= max(1.0, 1.2 / max(float(np.hypot(way[0], way[2])), 1e-3))
    radii = np.full(3, rng.uniform(0.2, 0.45)) if kind == "ball" else rng.uniform(0.15, 0.5, 3)
    textures = tuple(_stuff(rng) for _ in range(4 if kind == "walker" else 1))
    return _Thing(kind, start, way, float(rng.uniform(2.0, 6.0)), float(rng.random()), radii, textures)


def _stuff(rng: np.random.Generator) -> Texture:
    """What furniture, clothes and balls are made of."""

    def colour() -> tuple[float, float, float]:
        red, green, blue = rng.uniform(0.08, 0.95, 3)
        return float(red), float(green), float(blue)

    kind = int(rng.integers(8))
    if kind == 0:
        picture = checked(rng, colour(), colour(), int(rng.integers(4, 12)))
    elif kind == 1:
        picture = marble(rng, colour())
    elif kind in (2, 3, 4, 5):
        picture = (beach_ball, books, crate, rug)[kind - 2](rng)
    else:
        picture = mottled(rng, 128, colour(), float(rng.uniform(0.05, 0.4)))
    return Texture(picture, (1.0, 1.0))


def _camera(rng: np.random.Generator, num_frames: int) -> Float[np.ndarray, "N 4 4"]:
    """Hand-held: a sweep, a walk towards or away, a turn on the spot, or nearly still."""
    start = np.array([rng.uniform(-1.2, 1.2), rng.uniform(-1.8, -1.1), rng.uniform(-0.6, 0.5)])
    target = np.array([rng.uniform(-0.8, 0.8), rng.uniform(-1.3, -0.8), 5.0])
    walk, turn = np.zeros(3), np.zeros(3)
    kind = str(rng.choice(["sweep", "dolly", "pan", "tripod"]))
    if kind == "sweep":
        walk, turn = np.array([rng.uniform(-1.6, 1.6), 0.0, rng.uniform(-0.3, 0.3)]), rng.uniform(-0.4, 0.4, 3)
    elif kind == "dolly":
        walk = np.array([rng.uniform(-0.3, 0.3), rng.uniform(-0.2, 0.2), rng.uniform(-1.0, 1.0)])
    elif kind == "pan":
        turn = np.array([rng.uniform(-2.0, 2.0), rng.uniform(-0.3, 0.3), 0.0])
    rate, phase = rng.uniform(1.0, 3.5, 6), rng.random(6)
    shake = rng.uniform(0.2, 1.5) * (0.1 if kind == "tripod" else 1.0)
    poses = []
    for time in np.linspace(-0.5, 0.5, num_frames):
        sway = shake * np.sin(2 * np.pi * (rate * time + phase))
        position = start + time * walk + np.array([0.015, 0.03, 0.02]) * sway[:3]
        poses.append(looking(position, target + time * turn + 0.04 * sway[3:], 0.008 * float(sway[1])))
    return np.stack(poses)
