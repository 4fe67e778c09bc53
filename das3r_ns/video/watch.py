"""Watches a video go by, small and grey, and measures what its timeline holds; memory does not grow with its length.

Cuts are told by what two frames have in common, not by how they differ: a fast pan, a flash, a jump of the exposure, a
shaken camera or something that passes right before the lens change every pixel, and yet some frame soon after still
shows what was there before. Where optical flow does not carry a frame into the next one, features that agree with one
motion of a camera are looked for between several frames on either side; none at all is a cut. What comes back within a
second was no cut: the frames between show something else, and are named.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from das3r_ns.video.same_place import (
    CONSISTENT,
    HALVES,
    LEAST_CONTRAST,
    Look,
    common_matches,
    correlation,
    flow_between,
    parts_of,
)
from das3r_ns.video.timeline import ALMOST, UNCHANGED, UNMOVED, Timeline

BLOCK = 8
"""Pixels of such a picture across a block in which a change is measured: things that move may be small."""
CARRIED = 0.4
"""Share of its texture under which optical flow does not carry a frame into the next: it may be a cut. Frames of one
shot are carried to 0.5 or more, unrelated ones to 0.1 or so."""
BEFORE, AFTER = (0, 1, 3), (0, 1, 3, 7, 15, 23)
"""Frames that are compared across a cut, counted from it. What shows the old place again within the last is none."""
SPANS = (2, 4, 8, 16, 32)
"""Frames that a cross-fade, or the mixed frame that a converter leaves at a cut, may take."""
MIXED, MIXTURE, EXPLAINED = 0.15, (0.9, 1.1), 0.75
"""Least weight of either shot in a mixed frame, range of the sum of both, and share of its variance that they explain.
In a pan over smooth ground the middle frame is nearly a sum of the others too, but its weights add up to more."""
SETTLED, PURE = 4, 0.1
"""Frames on either side of a cross-fade that have none of the other shot in them, and most that counts as none."""
DIFFERENT = 0.6
"""Correlation under which two pictures may be of two shots."""
MOST_KEPT = 256
"""Pictures of a folder that are kept until its end."""
SAMPLES = 12
"""Pictures of a folder on either side of a cut that are compared before it is believed."""


@dataclass
class _Link:
    """A frame of the chain and how it follows the one before."""

    look: Look
    carried: float


class Watcher:
    """Takes the frames of a video one after the other.

    Args:
        num_frames: Length N of the video.
        careful: It may be a collection of photographs rather than a film: cuts are only found between frames that
            otherwise follow each other closely, and where nothing before it shows what anything after it does.
    """

    def __init__(self, num_frames: int, careful: bool = False) -> None:
        names = ("brightness", "contrast", "sharpness", "motion", "change", "shift")
        self._measures = {name: np.full(num_frames, np.nan, np.float32) for name in names}
        self._careful = careful
        self._changes: deque[float] = deque(maxlen=12)
        self._chain: deque[_Link] = deque()
        self._candidates: deque[int] = deque()
        """Positions in the chain that may begin a shot."""
        self._mixed_until = 0
        self._passed = 0
        """Links that have left the chain."""
        self._all: list[Look] = []
        """Everything in the chain, for a folder."""
        self._cuts: list[int] = []
        self._strange: list[int] = []

    def add(self, number: int, grey: UInt8[np.ndarray, "H W"]) -> None:
        """The next frame.

        Args:
            number: Its position; those that do not decode are left out.
            grey: The frame as :meth:`das3r_ns.video.clip.Clip.glance` gives it.
        """
        values = self._measures
        mean, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(grey))
        values["brightness"][number], values["contrast"][number] = mean, deviation
        values["sharpness"][number] = cv2.convertScaleAbs(cv2.Laplacian(grey, cv2.CV_16S)).mean()
        values["motion"][number] = 0.0
        if deviation < LEAST_CONTRAST:
            return
        look, carried = Look(number, grey), 1.0
        if self._chain and self._chain[-1].look.grey.shape == grey.shape:
            # Compared with the last frame that was another picture, so that a slow drift is not lost step by step.
            last = self._chain[-1].look
            change = _change(last.grey, grey)
            flow, carried = flow_between(last, look)
            lengths = cv2.magnitude(*cv2.split(flow)) / max(flow.shape)
            shift = float(np.percentile(lengths, 90))
            values["change"][number], values["shift"][number] = change, shift
            recent = max(self._changes, default=0.0)
            if change <= UNCHANGED or (shift < UNMOVED and change < ALMOST * recent):
                return
            self._changes.append(change)
            values["motion"][number] = min(float(lengths.mean()), 0.5)  # beyond a half it is certainly wrong
        self._append(_Link(look, carried))

    def finish(self) -> Timeline:
        """All that was seen."""
        while self._candidates:
            self._decide(self._candidates.popleft())
        cuts = [cut for cut in self._cuts if self._nowhere_else(cut)] if self._careful else self._cuts
        measures: dict[str, Any] = self._measures
        return Timeline(**measures, cuts=tuple(sorted(set(cuts))), strange=tuple(sorted(set(self._strange))))

    def _append(self, link: _Link) -> None:
        self._chain.append(link)
        if self._careful:
            self._all.append(link.look)
            if len(self._all) > MOST_KEPT:
                del self._all[1::2]
        else:
            self._mixed()
        if link.carried < CARRIED:
            self._candidates.append(self._passed + len(self._chain) - 1)
        while self._candidates and self._candidates[0] + AFTER[-1] < self._passed + len(self._chain):
            self._decide(self._candidates.popleft())
        while len(self._chain) > 2 * AFTER[-1] + BEFORE[-1] + 2:
            self._chain.popleft()
            self._passed += 1

    def _mixed(self) -> None:
        """Find a cross-fade that ended just now: frames that are sums of two which have nothing in common."""
        chain = list(self._chain)
        for span in SPANS:
            if len(chain) <= span + 2 * SETTLED:
                return
            whole = [link.look for link in chain[-span - 2 * SETTLED - 1 :]]
            part = whole[SETTLED:-SETTLED]
            first, middle, last = part[0], part[span // 2], part[-1]
            if first.number < self._mixed_until or correlation(first, last) > DIFFERENT:
                continue
            *weights, explained = parts_of(first, last, middle)
            mixed = min(weights) > MIXED and MIXTURE[0] < sum(weights) < MIXTURE[1] and explained > EXPLAINED
            # In every part alike: else something passes before the lens, and wipes the picture away.
            mixed = mixed and all(min(parts_of(first, last, middle, half)[:2]) > MIXED for half in HALVES)
            if (
                not mixed
                or abs(parts_of(first, last, whole[0])[1]) > PURE
                or abs(parts_of(first, last, whole[-1])[0]) > PURE
            ):
                continue
            if common_matches(whole[0], first) < 2 * CONSISTENT or _any_common(whole[:1], [last, whole[-1]]):
                continue
            shares = {look.number: parts_of(first, last, look)[1] for look in part[1:-1]}
            cut = next(number for number in [*shares, last.number] if shares.get(number, 1.0) > 0.5)
            self._cuts.append(cut)
            self._strange += [number for number, share in shares.items() if MIXED / 2 < share < 1 - MIXED / 2]
            self._mixed_until = last.number
            settled = {look.number for look in part}
            self._candidates = deque(c for c in self._candidates if chain[c - self._passed].look.number not in settled)
            return

    def _decide(self, candidate: int) -> None:
        """Whether the chain is cut before a link."""
        chain, at = list(self._chain), candidate - self._passed
        number = chain[at].look.number
        if number in self._strange:
            return
        start = max((i for i, link in enumerate(chain[:at]) if link.look.number in self._cuts), default=0)
        known = [link for link in chain[start:at] if link.look.number not in self._strange]
        before = [known[-1 - step].look for step in BEFORE if step < len(known)]
        after = [link.look for link in chain[at : at + AFTER[-1] + 1]]
        if _any_common(before, after[:2]) or not self._followed(known, chain[at:]):
            return
        if not _any_common(before, [after[step] for step in AFTER[2:] if step < len(after)]):
            self._cuts.append(number)
        elif not self._careful:
            back = next(look for look in after[2:] if _any_common(before, [look]))
            self._strange += range(number, back.number)

    def _followed(self, before: list[_Link], after: list[_Link]) -> bool:
        """Whether the frames on either side of a cut follow each other: in a whip pan nothing can be matched."""
        reach = 3 if self._careful else 1
        for side in (before[-1 - reach :], after[: 1 + reach]):
            if self._careful and len(side) <= reach:
                return False
            for one, following in pairwise(side):
                if following.carried >= CARRIED:
                    continue
                if self._careful or common_matches(one.look, following.look) < 2 * CONSISTENT:
                    return False
        return True

    def _nowhere_else(self, cut: int) -> bool:
        before = [look for look in self._all if look.number < cut]
        after = [look for look in self._all if look.number >= cut]
        return not _any_common(_sampled(before), _sampled(after))


def _change(one: UInt8[np.ndarray, "H W"], other: UInt8[np.ndarray, "H W"]) -> float:
    blocks = max(one.shape[1] // BLOCK, 1), max(one.shape[0] // BLOCK, 1)
    return float(cv2.resize(cv2.absdiff(one, other), blocks, interpolation=cv2.INTER_AREA).max())


def _any_common(these: Iterable[Look], those: Iterable[Look]) -> bool:
    return any(common_matches(one, other) >= CONSISTENT for one in these for other in those)


def _sampled(looks: list[Look]) -> list[Look]:
    return [looks[i] for i in sorted({round(i) for i in np.linspace(0, len(looks) - 1, min(SAMPLES, len(looks)))})]
