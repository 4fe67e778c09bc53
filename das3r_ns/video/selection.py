"""Which frames of a video are used: those of one shot, no faded ones, no picture twice, and no more than the budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float

from das3r_ns.errors import Das3rError
from das3r_ns.video.timeline import ALMOST, UNCHANGED, UNMOVED, Timeline

EVERY_SHOT = -1
"""For the option ``shot``: no cuts."""
MIN_FRAMES = 2
PLAIN = 3.0
"""Contrast, in grey levels, under which a picture is black, white or of one colour."""
FAINT = 0.4
"""Share of the contrast that a shot has in full light under which frames of a fade are set aside."""
NEAR = 30
"""Frames on either side that a repeated one is compared with."""
FLASH, FLASH_FRAMES = 1.25, 3
"""Brightness over that of the frames around from which a frame is lit by a flash, and most frames that it lasts."""
STEADY = 0.08
"""Relative difference of brightness between the frames around a flash."""
BY_TIME = 0.3
"""Share of time in what the frames of a long video are spread by; the rest is how far the picture has moved."""
REACH = 0.35
"""Share of the way to the next frame used within which the sharpest one is taken."""
LEAP = 5.0
"""A step between frames counts as so many median ones at most."""


@dataclass(frozen=True)
class Selection:
    """The frames that are used, by their positions in the video."""

    indices: list[int]
    """Positions of the frames used."""
    repeats: dict[int, list[int]] = field(default_factory=dict)
    """Positions at which the picture of a frame used is shown again, by the position of that frame."""
    remarks: list[str] = field(default_factory=list)
    """What the user is told, a line each."""


def spread(count: int, budget: int) -> list[int]:
    """At most ``budget`` of ``count`` positions, evenly spread from the first to the last."""
    if count <= budget:
        return list(range(count))
    return [round(i * (count - 1) / (budget - 1)) for i in range(budget)]


def listed(numbers: Sequence[int]) -> str:
    """Sorted numbers for a person, runs of them shortened: ``3, 7-12``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs)


def select(
    timeline: Timeline, times: Float[np.ndarray, " N"], name: str, shot: int = 0, budget: int = 150
) -> Selection:
    """Choose the frames of a video.

    Args:
        timeline: What was seen of it.
        times: Seconds at which its frames are shown.
        name: What to call the video.
        shot: Number of the shot, from 1; 0 is the longest, EVERY_SHOT all frames as if they were one.
        budget: Most frames.

    Raises:
        Das3rError: There is no such shot, or nothing but black frames, or one still picture.
    """
    dark, flash = plain_frames(timeline) | faded_frames(timeline), flashed_frames(timeline)
    repeated = repeated_frames(timeline) & ~dark
    strange, damaged = np.zeros_like(dark), np.zeros_like(dark)
    strange[list(timeline.strange)] = True
    damaged[list(timeline.damaged)] = True
    bounds = [0, *(timeline.cuts if shot != EVERY_SHOT else ()), timeline.num_frames]
    shots = [np.arange(start, stop) for start, stop in pairwise(bounds)]
    aside = dark | flash | strange | damaged
    usable = [part[~(aside | repeated)[part]] for part in shots]
    number = _shot_number(shot, [len(part) for part in usable], name)
    here, used = shots[number - 1], usable[number - 1]
    remarks = [] if len(shots) == 1 else [_about_shots(name, shots, usable, number)]
    for which, what in (
        (damaged, "damaged, or predicted from damaged ones,"),
        (dark & ~damaged, "black, of one colour, or faded to a trace"),
        (flash & ~dark & ~damaged, "lit by a flash"),
        (strange & ~dark & ~flash & ~damaged, "of something else than those around them, or of two shots at once"),
    ):
        numbers = here[which[here]].tolist()
        if numbers:
            remarks.append(f"Frames of {name} that are {what} are set aside ({listed(numbers)}).")
    if len(used) < MIN_FRAMES:
        raise _nothing_to_see(name, here, dark, repeated)
    again = _shown_again(here, used.tolist(), repeated, aside)
    count = sum(map(len, again.values()))
    if count:
        remarks.append(
            f"{name} shows the same picture several times: of {len(used) + count} frames {len(used)} differ. Each is "
            "used once; clean plates have them as often as the video."
        )
    if len(used) > budget:
        remarks.append(
            f"{name} has {len(used)} frames{'' if len(used) == timeline.num_frames else ' to use'}; {budget} of them, "
            "chosen by how far the picture has moved and by sharpness, are used (--max-frames)."
        )
        return Selection(thinned(timeline, times, used, budget), {}, remarks)
    return Selection(used.tolist(), again, remarks)


def plain_frames(timeline: Timeline) -> Bool[np.ndarray, " N"]:
    """Frames that are black, white or of one colour."""
    return timeline.contrast < PLAIN  # not those that are lost, which are told elsewhere


def faded_frames(timeline: Timeline) -> Bool[np.ndarray, " N"]:
    """Frames of a fade with too little light of the shot in them to be matched.

    From the ends of every shot and from its black or white frames, contrast grows frame by frame up to FAINT of what is
    usual, and brightness comes from (or goes to) black or white in step with it: a wall that the camera turns away from
    does not do that.
    """
    faded, plain = np.zeros(timeline.num_frames, bool), plain_frames(timeline)
    for start, stop in zip([0, *timeline.cuts], [*timeline.cuts, timeline.num_frames], strict=True):
        rest = np.flatnonzero(~plain[start:stop] & np.isfinite(timeline.contrast[start:stop])) + start
        for run in np.split(rest, np.flatnonzero(np.diff(rest) > 1) + 1) if len(rest) else []:
            for way in (run, run[::-1]):
                faded[way[: _fade_length(timeline.contrast[way], timeline.brightness[way])]] = True
    return faded


def _fade_length(contrast: Float[np.ndarray, " M"], brightness: Float[np.ndarray, " M"]) -> int:
    """How many frames at the start of a run are a fade-in that has not got far."""
    falls = np.flatnonzero(np.diff(contrast) < 0)
    top = int(falls[0]) if len(falls) else len(contrast) - 1  # contrast grows up to here
    light = contrast[: top + 1] / contrast[top]
    low = int(np.searchsorted(light, FAINT))
    if low == 0:
        return 0
    share = light[:low]
    from_black = brightness[:low] / max(brightness[top], 1.0)
    from_white = (255 - brightness[:low]) / max(255 - brightness[top], 1.0)
    fits = [bool((np.abs(level - share) < 0.1 + 0.25 * share).all()) for level in (from_black, from_white)]
    return low if any(fits) else 0


def repeated_frames(timeline: Timeline) -> Bool[np.ndarray, " N"]:
    """Frames that show the picture of the frame before once more, but for the noise of the encoding."""
    change, shift = timeline.change, timeline.shift
    repeated = change <= UNCHANGED
    for number in np.flatnonzero((shift < UNMOVED) & ~repeated):
        around = change[max(number - NEAR, 0) : number + NEAR + 1]
        moving = np.nanpercentile(around, 90)
        repeated[number] = change[number] < ALMOST * moving
    return repeated


def flashed_frames(timeline: Timeline) -> Bool[np.ndarray, " N"]:
    """A frame or two much brighter than those around, which are of one brightness: their light is another."""
    brightness = timeline.brightness
    flashed = np.zeros(timeline.num_frames, bool)
    for number in np.flatnonzero(np.isfinite(brightness)).tolist():
        start = max(number - FLASH_FRAMES - 1, 0)
        around = brightness[start : number + FLASH_FRAMES + 2]
        usual = np.nanmedian(around)
        if brightness[number] > FLASH * usual:
            steady = np.abs(around - usual) < STEADY * usual
            sides = steady[: number - start], steady[number - start + 1 :]
            flashed[number] = all(side.sum() >= 2 for side in sides) and (~steady).sum() <= FLASH_FRAMES
    return flashed


def thinned(timeline: Timeline, times: Float[np.ndarray, " N"], used: np.ndarray, budget: int) -> list[int]:
    """So many of the frames, a like way apart, and of those near by the sharpest.

    The way is how far the picture has moved, and to a part the time, so that a camera that stands still is seen too.

    Args:
        timeline: What was seen of the video.
        times: Seconds at which its frames are shown.
        used: Positions to choose from.
        budget: How many, fewer than there are.
    """
    moved = np.diff(np.nancumsum(timeline.motion)[used])
    lasted = np.diff(times[used]).astype(np.float64)
    steps = BY_TIME * _shares(lasted) + (1 - BY_TIME) * _shares(moved)
    way = np.concatenate([[0.0], np.cumsum(steps)]) * (budget - 1) / steps.sum()
    sharpness = np.nan_to_num(timeline.sharpness[used], nan=0.0)
    chosen, lowest = [], 0
    for stop in range(budget):
        last = len(used) - (budget - stop)  # leaves a frame for each one to come
        near = np.flatnonzero(np.abs(way - stop) <= REACH)
        near = near[(near >= lowest) & (near <= last)]
        if not len(near):
            near = np.array([np.clip(np.abs(way - stop).argmin(), lowest, last)])
        # The exact place decides between frames that are as sharp.
        best = near[np.argmax(sharpness[near] * (1 - 0.05 * np.abs(way[near] - stop) / REACH))]
        chosen.append(int(used[best]))
        lowest = best + 1
    return chosen


def _shares(lengths: Float[np.ndarray, " M"]) -> Float[np.ndarray, " M"]:
    """Parts of the whole; single leaps, which are errors or cuts, count a few median steps at most."""
    positive = lengths[lengths > 0]
    if not len(positive):
        return np.full(len(lengths), 1 / len(lengths))
    bounded = np.clip(lengths, 0, LEAP * np.median(positive))
    return bounded / bounded.sum()


def _shot_number(shot: int, lengths: list[int], name: str) -> int:
    if shot in (0, EVERY_SHOT):
        return int(np.argmax(lengths)) + 1
    if not 1 <= shot <= len(lengths):
        only = "a single shot" if len(lengths) == 1 else f"{len(lengths)} shots"
        raise Das3rError(
            f"There is no shot {shot} in {name}, which has {only} (--shot): they count from 1, 0 is the longest, and "
            f"{EVERY_SHOT} takes everything as one shot."
        )
    return shot


def _about_shots(name: str, shots: list[np.ndarray], usable: list[np.ndarray], number: int) -> str:
    def span(part: np.ndarray) -> str:
        return f"frames {part[0]}-{part[-1]}" if len(part) > 1 else f"frame {part[0]}"

    others = [f"--shot {i}: {span(part)}" for i, part in enumerate(shots, 1) if i != number]
    more = f", and {len(others) - 8} more" if len(others) > 8 else ""
    longest = "the longest, " if len(usable[number - 1]) == max(map(len, usable)) else ""
    return (
        f"{name} has {len(shots)} shots; {longest}number {number} ({span(shots[number - 1])}), is used. The others: "
        f"{', '.join(others[:8])}{more}. All as one: --shot {EVERY_SHOT}."
    )


def _shown_again(
    here: np.ndarray, used: list[int], repeated: Bool[np.ndarray, " N"], aside: Bool[np.ndarray, " N"]
) -> dict[int, list[int]]:
    again: dict[int, list[int]] = {}
    taken, last = set(used), None
    for position in here.tolist():
        if position in taken:
            last = position
        elif aside[position]:
            last = None  # what repeats a frame set aside is not shown
        elif repeated[position] and last is not None:
            again.setdefault(last, []).append(position)
    return again


def _nothing_to_see(
    name: str, here: np.ndarray, dark: Bool[np.ndarray, " N"], repeated: Bool[np.ndarray, " N"]
) -> Das3rError:
    if dark[here].sum() >= len(here) - 1:
        return Das3rError(
            f"The {len(here)} frames of {name} are black, of one colour, or faded to a trace: there is nothing in them "
            "to find a scene by. Name a video with a picture."
        )
    if repeated[here].any():
        return Das3rError(
            f"{name} is one still picture: its {len(here)} frames are all the same. Depth and motion show only between "
            "frames that differ: name a video in which the camera or something in the picture moves."
        )
    return Das3rError(
        f"Only one of the {len(here)} frames of {name} can be used: the others are black, damaged, lit by a flash or "
        "of something else. Take another shot (--shot), or name another video."
    )
