"""A long clip with exact truth, drawn with the renderer of ``das3r demo``: twice round a block of four streets.

``python benchmarks/street.py OUTPUT --frames 600 --laps 2``: every side of the block has walls, posters, columns and
crates of its own, people walk towards the camera, and each place is seen once in every lap. Writes ``frames/``,
``masks/``, ``poses.txt`` and ``intrinsics.json`` as ``das3r demo`` does.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Float

from das3r_ns.demo.room import SKIN, looking, turn_y, walker
from das3r_ns.demo.textures import (
    Texture,
    boards,
    books,
    bricks,
    checked,
    crate,
    marble,
    mottled,
    painting,
    rug,
)
from das3r_ns.demo.world import Box, Ellipsoid
from das3r_ns.demo.write import render_frame, write_picture
from das3r_ns.files import replace_directory, temporary_directory
from das3r_ns.workers import workers

OUTER, INNER, TALL = 5.0, 2.0, 3.2
"""Half the side of the outer walls and of the block, and their height, metres."""
MIDDLE, CORNER = 3.5, 1.5
"""Half the side of the square that the camera walks along, and the radius of its corners."""
SIDE = 2 * (MIDDLE - CORNER)
LAP = 4 * SIDE + 2 * np.pi * CORNER
"""Length of a lap in metres."""
FACE_LIGHT = (0.85, 1.0, 0.95, 0.75, 1.05, 0.9)
"""Brightness of the six faces of a box."""


@dataclass
class Arguments:
    """Draw a walk round the block."""

    output: tyro.conf.Positional[Path]
    """Folder to write."""
    frames: int = 600
    """Length of the clip."""
    laps: float = 2.0
    """Times round the block."""
    width: int = 480
    """Of the frames in pixels."""
    height: int = 270
    """Of the frames in pixels."""


def along(way: float) -> tuple[Float[np.ndarray, "3"], float]:
    """Place on the walk, and the direction of the walk (radians from z towards x) there.

    Args:
        way: Metres from the start.
    """
    quarter = LAP / 4
    number, rest = divmod(way % LAP, quarter)
    turn = turn_y(number * np.pi / 2)
    if rest < SIDE:
        place, heading = np.array([-MIDDLE, 0.0, -SIDE / 2 + rest]), 0.0
    else:
        heading = (rest - SIDE) / CORNER
        centre = np.array([-MIDDLE + CORNER, 0.0, SIDE / 2])
        place = centre + CORNER * np.array([-np.cos(heading), 0.0, np.sin(heading)])
    return turn @ place, heading + number * np.pi / 2


def camera_path(num_frames: int, laps: float) -> Float[np.ndarray, "N 4 4"]:
    """Camera-to-world (OpenCV axes, metres): walking, looking ahead and a little outwards, hand-held."""
    poses = []
    for time in np.linspace(0, 1, num_frames):
        place, heading = along(time * laps * LAP)
        beat = time * laps * LAP / 1.4  # a step of 70 cm is half of it
        sway = [np.sin(2 * np.pi * (rate * beat + phase)) for rate, phase in ((0.31, 0.1), (0.53, 0.6), (0.23, 0.3))]
        position = place + np.array([0.03, -1.5 + 0.03 * sway[1], 0.0]) * [sway[0], 1, 1]
        view = heading - 0.45 + 0.05 * sway[2]
        target = position + 5 * np.array([np.sin(view), 0.04 + 0.01 * sway[0], np.cos(view)])
        poses.append(looking(position, target, 0.008 * sway[1]))
    return np.stack(poses)


class Passers:
    """People who walk the other way round, along the walls of the block."""

    def __init__(self, metres: float, number: int = 4, seed: int = 5) -> None:
        """Args:
        metres: Length of the camera's whole walk.
        number: Of people.
        seed: Of their clothes.
        """
        rng = np.random.default_rng(seed)
        one = (1.0, 1.0)
        skin, hair = (Texture(mottled(rng, 128, colour, 0.1), one) for colour in (SKIN, (0.2, 0.14, 0.1)))
        self.outfits = []
        for _ in range(number):
            first, second = rng.uniform(0.1, 0.9, (2, 3))
            shirt = Texture(checked(rng, tuple(first), tuple(second), int(rng.integers(6, 12))), one)
            self.outfits.append(
                (shirt, Texture(mottled(rng, 256, tuple(rng.uniform(0.1, 0.6, 3)), 0.25), one), skin, hair)
            )
        self.metres = metres

    def at(self, time: float) -> list[Ellipsoid]:
        """Every part of every one."""
        parts = []
        for number, outfit in enumerate(self.outfits):
            walked = 0.8 * time * self.metres
            place, heading = along(LAP * (0.4 + number / len(self.outfits)) - walked)
            inwards = np.array([np.cos(heading), 0.0, -np.sin(heading)])
            parts += walker(place + 0.9 * inwards, (-np.sin(heading), -np.cos(heading)), walked / 0.7, outfit)
        return parts


def build_street(seed: int = 11) -> list[Box]:
    """The static world, lit evenly."""
    rng = np.random.default_rng(seed)

    def colour(low: float = 0.35, high: float = 0.9) -> tuple[float, float, float]:
        return tuple(rng.uniform(low, high, 3))  # pyright: ignore[reportReturnType]

    def wall() -> Texture:
        picture = bricks(rng) if rng.random() < 0.5 else mottled(rng, 1024, colour(), 0.25)
        return Texture(picture, (float(rng.uniform(2.4, 4.2)), float(rng.uniform(2.4, 3.2))))

    sky = Texture(mottled(rng, 512, (0.7, 0.78, 0.88), 0.15), (4.0, 4.0))
    ground = Texture(boards(rng), (4.8, 4.0))
    low, high = np.array([-OUTER, -TALL, -OUTER]), np.array([OUTER, 0.0, OUTER])
    boxes = [Box(low, high, [wall(), wall(), sky, ground, wall(), wall()], inside=True)]
    block = np.array([INNER, 0.0, INNER])
    boxes.append(Box(-block - [0, TALL, 0], block, [wall() for _ in range(6)]))
    for quarter in range(4):
        for _ in range(7):
            boxes.append(_furniture(rng, quarter, colour))
    for box in boxes:
        box.light = [np.full((2, 2, 3), level, np.float32) for level in FACE_LIGHT]
    return boxes


def _furniture(rng: np.random.Generator, quarter: int, colour) -> Box:
    """A poster, a column, a shelf or a crate at a wall of one of the four streets."""
    outer = rng.random() < 0.65
    reach = OUTER if outer else INNER
    place = float(rng.uniform(-0.85, 0.85)) * reach
    kind = int(rng.integers(4))
    if kind == 0:
        size, foot = (float(rng.uniform(0.8, 1.6)), float(rng.uniform(0.7, 1.1)), 0.05), -float(rng.uniform(0.8, 1.3))
        picture = painting(rng)
    elif kind == 1:
        size, foot, picture = (0.3, TALL, 0.3), 0.0, marble(rng, colour())
    elif kind == 2:
        size, foot, picture = (1.4, 2.1, 0.35), 0.0, books(rng)
    else:
        side = float(rng.uniform(0.35, 0.7))
        size, foot, picture = (side, side, side), 0.0, (crate(rng) if rng.random() < 0.6 else rug(rng))
    near, far = (reach - size[2], reach) if outer else (reach, reach + size[2])
    low, high = np.array([place - size[0] / 2, foot - size[1], near]), np.array([place + size[0] / 2, foot, far])
    turn = np.rint(turn_y(quarter * np.pi / 2))
    corners = np.stack([turn @ low, turn @ high])
    texture = Texture(picture, (size[0], size[1]))
    return Box(corners.min(axis=0), corners.max(axis=0), [texture] * 6, fit=True)


def write_street(directory: Path, num_frames: int, laps: float, width: int, height: int) -> Path:
    """Write the clip; nothing happens where the folder is there already.

    Args:
        directory: Where to.
        num_frames: Length of the clip.
        laps: Times round the block.
        width: Of the frames, pixels.
        height: Of the frames, pixels.
    """
    if directory.is_dir():
        return directory
    boxes, movers, poses = build_street(), Passers(laps * LAP), camera_path(num_frames, laps)
    focal = 0.8 * width
    with temporary_directory(directory) as temporary:
        (temporary / "frames").mkdir()
        (temporary / "masks").mkdir()

        def draw(number: int) -> None:
            time = number / max(num_frames - 1, 1)
            frame = render_frame(boxes, movers, time, poses[number], focal, width, height)
            write_picture(temporary / f"frames/{number:05d}.png", frame.image)
            write_picture(temporary / f"masks/{number:05d}.png", frame.mask.astype(np.uint8) * 255)

        with ThreadPoolExecutor(workers()) as pool:
            list(pool.map(draw, range(num_frames)))
        np.savetxt(temporary / "poses.txt", poses[:, :3].reshape(num_frames, 12), fmt="%.9e")
        camera = {"width": width, "height": height, "fx": focal, "fy": focal, "cx": width / 2, "cy": height / 2}
        (temporary / "intrinsics.json").write_text(json.dumps(camera) + "\n")
        replace_directory(temporary, directory)
    return directory


if __name__ == "__main__":
    given = tyro.cli(Arguments)
    write_street(given.output, given.frames, given.laps, given.width, given.height)
