"""The clips of a training: found in folders, or drawn; each a list of frames and a list of masks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from das3r_ns.data.training_data import settings_key
from das3r_ns.demo.varied import write_clip
from das3r_ns.errors import Das3rError
from das3r_ns.frontend.network.monst3r.config import PATCH
from das3r_ns.frontend.network.monst3r.preprocessing import frame_image, frame_maps, whole_framing
from das3r_ns.progress import Progress
from das3r_ns.training import pointodyssey
from das3r_ns.training.config import LEAST_SIDE, TrainingConfig
from das3r_ns.video.image_folder import images_in, read_image, upright_size

FRAMES, MASKS = "frames", "masks"
RUN = 12
"""Consecutive frames that a long clip is taken in."""
KEPT = 2048
"""Frames and masks that stay decoded in memory: half a gigabyte at 512 pixels."""
WHITE = 127
"""Grey level above which a mask says that something moves."""


@dataclass(frozen=True)
class TrainingClip:
    """Consecutive frames and what moves in them."""

    name: str
    """The same for all runs of a clip."""
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]
    """Pictures of the shape of the frames: bright = moves."""
    size: tuple[int, int]
    """Width and height of what the network sees of it."""

    def image(self, number: int) -> UInt8[np.ndarray, "h w 3"]:
        """A frame as the network sees it."""
        return _read(self.frames[number], self.size, False)

    def mask(self, number: int) -> Bool[np.ndarray, "h w"]:
        """Where it moves, likewise."""
        return _read(self.masks[number], self.size, True)


def find_folders(config: TrainingConfig) -> list[Path]:
    """The folders of the clips that are there, looked at as far as that is quick.

    Raises:
        Das3rError: A folder without clips, frames without masks, pictures too small, or one clip alone.
    """
    whole_framing(16, 9, config.network_size)  # says so where no network can work at this size
    folders = [folder for place in config.data for folder in _clip_folders(place)]
    for folder in folders:
        if pointodyssey.is_scene(folder):
            pointodyssey.check_scene(folder, config.group_size)
            network_size(images_in(folder / pointodyssey.PICTURES)[0], config.network_size)
        else:
            _from_folder(folder, config)
    if len(folders) + config.drawn < 2:
        raise Das3rError(
            "There is one clip only, and one must be held out to measure J by. Name more (--data), or have some drawn "
            "(--drawn 64)."
        )
    return folders


def gather_clips(folders: list[Path], config: TrainingConfig, progress: Progress) -> list[TrainingClip]:
    """Every clip to train on or to hold out: those found, masks of PointOdyssey made, and those drawn.

    Args:
        folders: From :func:`find_folders`.
        config: What to make besides, and where.
        progress: Where to report.

    Raises:
        Das3rError: A file cannot be read or written.
    """
    scenes = [folder for folder in folders if pointodyssey.is_scene(folder)]
    clips = [run for folder in folders if folder not in scenes for run in _from_folder(folder, config)]
    return clips + _from_scenes(scenes, config, progress) + _drawn(config, progress)


def runs(count: int, most: int) -> list[range]:
    """Which frames of a clip to use: all, or runs of :data:`RUN` that are evenly spread.

    Args:
        count: Length of the clip.
        most: Frames to use at most.
    """
    if count <= most:
        return [range(count)]
    length = min(RUN, most)
    number = most // length
    starts = np.linspace(0, count - length, number).round().astype(int)
    return [range(start, start + length) for start in starts]


def network_size(picture: Path, long_side: int) -> tuple[int, int]:
    """Width and height of what the network sees of a picture.

    Raises:
        Das3rError: It cannot be read, or is too small.
    """
    width, height = upright_size(picture)
    if min(width, height) < LEAST_SIDE // 2 or max(width, height) < LEAST_SIDE:
        raise Das3rError(
            f"{picture} has {width} x {height} pixels: too small to learn outlines from. Take pictures of {LEAST_SIDE} "
            f"x {LEAST_SIDE // 2} pixels at least, better of {long_side} (--network-size)."
        )
    return whole_framing(width, height, long_side).size


def _clip_folders(place: Path) -> list[Path]:
    """The clips in a folder, at any depth, links followed; a clip is not searched for more."""
    place = place.expanduser()
    if not place.is_dir():
        raise Das3rError(f"The training folder {place} does not exist (--data). Name one that holds clips.")
    out: list[Path] = []
    seen: set[Path] = set()  # links may lead back
    for name, folders, _ in os.walk(place, followlinks=True):
        folder = Path(name)
        folders.sort()
        if folder.resolve() in seen:
            folders.clear()
            continue
        seen.add(folder.resolve())
        if FRAMES in folders or pointodyssey.is_scene(folder):
            out.append(folder)
            folders.clear()
        folders[:] = [one for one in folders if not one.startswith(".")]
    if not out:
        raise Das3rError(
            f"The training folder {place} holds no clips (--data). A clip is a folder with {FRAMES}/ and {MASKS}/, "
            f"as das3r demo writes it, or a scene of PointOdyssey ({pointodyssey.PICTURES}/, {pointodyssey.DEPTHS}/, "
            f"{pointodyssey.POINTS})."
        )
    return out


def _from_folder(folder: Path, config: TrainingConfig) -> list[TrainingClip]:
    frames = images_in(folder / FRAMES)
    masks = {file.stem: file for file in images_in(folder / MASKS)} if (folder / MASKS).is_dir() else {}
    missing = [frame.name for frame in frames if frame.stem not in masks]
    if len(frames) < config.group_size:
        raise Das3rError(
            f"{folder / FRAMES} holds {len(frames)} frames (jpg, png or webp), and groups have {config.group_size} "
            "(--group-size). Take the clip out, or smaller groups."
        )
    if missing:
        raise Das3rError(
            f"{folder / MASKS} lacks the masks of {len(missing)} of {len(frames)} frames, such as {missing[0]}. Every "
            "frame needs one of its name, black where nothing moves; add them, or take the clip out."
        )
    return _cut(folder, frames, [masks[frame.stem] for frame in frames], config)


def _cut(folder: Path, frames: Sequence[Path], masks: Sequence[Path], config: TrainingConfig) -> list[TrainingClip]:
    size = network_size(frames[0], config.network_size)
    return [
        TrainingClip(str(folder), tuple(frames[i] for i in run), tuple(masks[i] for i in run), size)
        for run in runs(len(frames), config.max_frames)
    ]


def _from_scenes(scenes: list[Path], config: TrainingConfig, progress: Progress) -> list[TrainingClip]:
    out: list[TrainingClip] = []
    if not scenes:
        return out
    with progress.stage("Masks of PointOdyssey", len(scenes)) as advance:
        for folder in scenes:
            frames = images_in(folder / pointodyssey.PICTURES)
            size = network_size(frames[0], config.network_size)
            # Scenes of several folders (--data) may bear one name.
            name = f"{folder.name}-{settings_key(str(folder.resolve()))}"
            target = config.output_dir / "pointodyssey" / folder.parent.name / name
            cut = runs(len(frames), config.max_frames)
            masks = iter(pointodyssey.write_masks(folder, target, [number for run in cut for number in run]))
            out += [
                TrainingClip(str(folder), tuple(frames[i] for i in run), tuple(next(masks) for _ in run), size)
                for run in cut
            ]
            advance()
    return out


def _drawn(config: TrainingConfig, progress: Progress) -> list[TrainingClip]:
    out: list[TrainingClip] = []
    if not config.drawn:
        return out
    width = config.network_size
    height = max(2 * PATCH, round(width * 9 / 16 / PATCH) * PATCH)
    place = config.output_dir / f"drawn-{width}x{height}x{config.drawn_frames}"
    with progress.stage("Drawing clips", config.drawn * config.drawn_frames) as advance:
        first = config.seed * 1_000_000  # other clips for every seed of the training
        for seed in range(first, first + config.drawn):
            write_clip(place / f"{seed:06d}", seed, config.drawn_frames, width, height, advance)
            out += _from_folder(place / f"{seed:06d}", config)
    return out


@lru_cache(maxsize=KEPT)
def _read(file: Path, size: tuple[int, int], is_mask: bool) -> np.ndarray:
    image = read_image(file)
    how = whole_framing(image.shape[1], image.shape[0], max(size))
    if how.size != size:
        raise Das3rError(
            f"{file} is {image.shape[1]} x {image.shape[0]} pixels, another shape than the first frame of its clip. "
            "Frames and masks of a clip have one shape; make them so, or take the clip out."
        )
    if is_mask:
        return frame_maps((image.max(axis=-1) > WHITE)[None], how)[0] > 0.5
    return frame_image(image, how)
