"""The clips that field.py measures: what the scripts of a folder write, and sets, each with its truth in one layout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from workspace import find_sets

from das3r_ns.files import link_files, replace_directory, temporary_directory

MADE = "made"
"""File that says that a script has come to its end."""


@dataclass(frozen=True)
class Source:
    """A script of the field folder with its arguments; it writes one clip or several."""

    name: str
    script: str
    arguments: tuple[str, ...] = ()
    films: tuple[str, ...] = ()
    """Videos that it writes, each a clip of its own: files, or the folder of its demo; none = the folder truth/ is the
    clip."""
    bends: str = ""
    """The set that it bends, where it does."""


SOURCES = (
    Source("bend-corridor-10", "bend", ("-0.10",), bends="synth_corridor_walkers"),
    Source("bend-fox-10", "bend", ("-0.10",), bends="comp_fox_dancer"),
    Source("bend-plaza-15", "bend", ("-0.15",), bends="synth_plaza_arc"),
    Source("bigmover", "bigmover"),
    Source("cut", "cut", films=("cut.mp4",)),
    Source("exposure", "exposure", films=("drift.mp4", "flash.mp4", "flicker.mp4")),
    Source("fade", "fade", films=("fade.mp4",)),
    Source("farhill-2.5", "farhill", ("2.5",)),
    Source("farhill-6", "farhill", ("6",)),
    Source("farhill-12", "farhill", ("12",)),
    Source("follow-85", "follow", ("0.85",)),
    Source("follow-100", "follow", ("1.0",)),
    Source("freeze", "freeze", films=("doubled.mp4", "frozen.mp4", "pulldown.mp4")),
    Source("hdr", "hdr", films=("hlg.mov", "pq.mp4")),
    Source("interlaced", "interlaced", films=("interlaced.mp4",)),
    Source("lens-5", "lens", ("-0.05",)),
    Source("lens-12", "lens", ("-0.12",)),
    Source("lens-28", "lens", ("-0.28",)),
    Source("overlay", "overlay", films=("demo", "bonnet.mp4", "clock.mp4", "hud.mp4", "logo.mp4", "paint.mp4")),
    Source("rolling-0", "rolling", ("2.5", "0")),
    Source("rolling-70", "rolling", ("2.5", "0.7")),
    Source("stopgo", "stopgo"),
    Source("zoom", "zoom"),
)


@dataclass(frozen=True)
class Clip:
    """A film and its truth."""

    name: str
    video: Path
    """What the front end is given: a folder with frames/ in it, or a file."""
    truth: Path
    """Folder of its ground truth, in the layout of ``das3r demo``."""
    still: bool = False
    """Nothing moves in it: whatever is marked is a false alarm."""


def make(source: Source, field: Path, data: Path | None, folder: Path, count: int) -> list[Clip]:
    """Run a script where it has not been run, and say which clips there are then.

    Args:
        source: The script.
        field: Folder of the scripts.
        data: Folder of the sets; None leaves out what bends one.
        folder: Folder in which every source gets its own.
        count: Frames of a bent set that are used, the first ones.

    Raises:
        SystemExit: The script fails.
    """
    place = folder / source.name
    if source.bends and data is None:
        return []
    if not (place / MADE).is_file():
        place.mkdir(parents=True, exist_ok=True)
        what = [str(data / source.bends)] if source.bends and data else []
        command = [sys.executable, str((field / f"{source.script}.py").resolve()), *what, str(place.resolve())]
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
        done = subprocess.run([*command, *source.arguments], capture_output=True, text=True, env=environment)
        if done.returncode:
            raise SystemExit(f"{source.script}.py failed: {done.stderr.strip().splitlines()[-1:]}")
        (place / MADE).touch()
    if source.bends:
        return [Clip(source.name, _first_frames(place, place / f"film-{count}", count), place)]
    if not source.films:
        return [Clip(source.name, _first_frames(place / "truth", place / "film"), place / "truth")]
    return [Clip(f"{source.name}-{Path(film).stem}", place / film, _truth_of(place, film)) for film in source.films]


def clips_of_sets(data: Path, folder: Path, count: int) -> list[Clip]:
    """The first frames of the sets that have true cameras, and of their clean plates: films in which nothing moves."""
    clips = []
    for name in find_sets(data):
        if (data / name / "poses.txt").is_file():
            clips.append(Clip(name, _first_frames(data / name, folder / name, count), data / name))
            if (data / name / "clean").is_dir():
                still = f"{name}-still"
                clips.append(Clip(still, _first_frames(data / name, folder / still, count, "clean"), data / name, True))
    return clips


def _first_frames(source: Path, target: Path, count: int | None = None, part: str = "frames") -> Path:
    """A folder of links to the first pictures of a folder, beside which the cache may lie."""
    link_files(sorted(path for path in (source / part).iterdir() if path.is_file())[:count], target / "frames")
    return target


def _order(place: Path, film: str) -> list[int | None]:
    """Which frame of the demo every frame of a film shows; None = one that has no truth."""
    number = len(list((place / "demo/frames").glob("*.png")))  # the cache lies beside them
    listed = place / f"{Path(film).stem}.txt"
    if listed.is_file():
        return [int(i) for i in listed.read_text().split(",")]
    if film == "interlaced.mp4":
        return list(range(0, number, 2))
    if film == "cut.mp4":
        return [*range(18), *[None] * 12]
    return list(range(number))


def _truth_of(place: Path, film: str) -> Path:
    """The truth of a film that shows the frames of the demo in an order of its own, as a folder.

    Where something is drawn over the picture (FILM_where/), nothing moves that could be seen.
    """
    target = place / "truths" / Path(film).stem
    if target.is_dir():
        return target
    demo, order = place.resolve() / "demo", _order(place, film)
    hidden = place / f"{Path(film).stem}_where"
    poses = np.loadtxt(demo / "poses.txt", ndmin=2)
    with temporary_directory(target) as temporary:
        for part in ("frames", "masks"):
            (temporary / part).mkdir()
            for number, shown in enumerate(order):
                if shown is None and part == "masks":
                    continue
                source, copy = demo / part / f"{shown or 0:05d}.png", temporary / part / f"{number:05d}.png"
                if part == "masks" and hidden.is_dir():
                    mask, over = (cv2.imread(str(p), cv2.IMREAD_GRAYSCALE) for p in (source, hidden / source.name))
                    cv2.imwrite(str(copy), np.where(over > 127, 0, mask))
                else:
                    copy.symlink_to(source)
        rows = np.array([np.full(12, np.nan) if shown is None else poses[shown] for shown in order])
        np.savetxt(temporary / "poses.txt", rows)
        shutil.copy(demo / "intrinsics.json", temporary)
        replace_directory(temporary, target)
    return target
