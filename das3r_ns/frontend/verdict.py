"""Whether the cameras of a clip are to be relied on: sound, doubtful or not solved, why, and what to do about it.

The rules are few, and each compares one sign with one or two thresholds that stand here and nowhere else.
``benchmarks/field.py --judge-again`` shows what they say of many clips whose truth is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from das3r_ns.frontend.signs import Signs
from das3r_ns.video.selection import listed

Word = Literal["sound", "doubtful", "not solved", "none"]

FEW_MATCHES = 20
"""Matches held back, of all points of a frame in other frames or across the gap before it, below which nothing can be
said of that frame: a place in space has seven unknowns with its unit, and some matches are wrong."""

POOR_SHARE, LOST_SHARE = 0.6, 0.3
"""Share of the matches held back that must be explained to a pixel; below the second, the world found is not there."""

APART = 0.006
"""Share of the path's length by which the halves of the picture may disagree on the cameras. Either half errs by more
than all of them do, so what they differ by is no less than the error to expect. However far apart they are, it is no
proof that the clip is not solved: before far ground the path's length itself is hardly measured."""

OUTLYING, OUTLYING_PIXELS = 3.0, 0.5
"""A frame stands out where its matches are so many times, and so many pixels, further off than those of most."""

UNSURE_FOCAL, FOCALS_APART = 0.075, 0.1
"""Standard error of log focal, and difference of log focal between halves of the picture, from which it is a guess. Of
71 clips whose focal is known the 67 with a smaller error than the first err by less than 4 %, the 4 with a larger one
by 17 to 26 %."""

USUAL_FOCALS = 0.4
"""Standard deviation of log focal over the lenses that people film with, which bounds a guess."""

AHEAD = 0.8
"""Share of its way that a camera goes where it looks from which it drives forward: then the focal is hard to tell from
depth, and came out too long in all four of those clips."""

MOSTLY_MOVES = 0.5
"""Share of the picture that moves from which the world may be what moves."""

STILL_RESIDUAL = 0.5
"""Pixels of optical flow by which the picture of a tripod may go by in the median."""

SAID = 2
"""Reasons that are said; das3r.json has all."""

ADVICE = {
    "middle and border": "If the lens is wide or zooms, name it (--known-lens, --known-focal).",
    "upper and lower half": "If something is fixed to the camera (a bonnet, a clock), give it as a mask (--masks "
    "joined); against a rolling shutter use a stretch of the clip that is shaken less.",
    "left and right half": "Mark what moves (--masks joined).",
    "every other point": "Use a longer stretch of the clip, or one with more texture.",
}
"""What to do where halves of the picture disagree, by the way it was cut (see geometric/points/halves.py)."""


@dataclass(frozen=True)
class Doubt:
    """One thing that speaks against the cameras."""

    sign: str
    """In two or three words."""
    text: str
    """A sentence for the user."""
    advice: str
    """What to do about it, a sentence."""
    frames: tuple[int, ...] = ()
    """The frames that it is about; none = all."""
    grave: bool = False
    """Whether the clip is not solved."""


@dataclass(frozen=True)
class Verdict:
    """What to think of the cameras of a clip."""

    word: Word
    """``none`` where nothing tested them."""
    doubts: tuple[Doubt, ...] = ()
    """Why they are not sound, the gravest first."""
    note: str = ""
    """What was tested, or why nothing was."""
    signs: Signs | None = None
    """What it was judged by."""

    @property
    def message(self) -> str:
        """For the user: the word, the :data:`SAID` gravest reasons and what to do, in one paragraph."""
        head, said = f"Verdict on the cameras: {self.word}", self.doubts[:SAID]
        if self.signs is not None and self.signs.readout:
            head += f" (a rolling shutter, {abs(self.signs.readout):.2f} of the frame time, is taken off)"
        if not said:
            return f"{head}; {self.note}."
        parts = [*(doubt.text for doubt in said), *dict.fromkeys(doubt.advice for doubt in said)]
        return " ".join([f"{head}.", *parts])

    def record(self) -> dict[str, Any]:
        """As JSON values, for the provenance and das3r.json."""
        return {
            "word": self.word,
            "message": self.message,
            "doubts": [{**asdict(doubt), "frames": list(doubt.frames)} for doubt in self.doubts],
            "note": self.note,
            "signs": None if self.signs is None else self.signs.record(),
        }

    @staticmethod
    def read(record: Mapping[str, Any] | None) -> Verdict | None:
        """From what :meth:`record` gave; None stays None."""
        if record is None:
            return None
        doubts = tuple(Doubt(**{**doubt, "frames": tuple(doubt["frames"])}) for doubt in record["doubts"])
        signs = None if record["signs"] is None else Signs.read(record["signs"])
        return Verdict(record["word"], doubts, record["note"], signs)


def judge(signs: Signs) -> Verdict:
    """The verdict on the cameras of a clip."""
    doubts = sorted(_doubts(signs), key=lambda doubt: not doubt.grave)
    if doubts:
        return Verdict("not solved" if doubts[0].grave else "doubtful", tuple(doubts), signs=signs)
    if signs.untested:
        stands = signs.kind == "tripod"
        return Verdict("sound" if stands else "none", (), "it stands still" if stands else signs.untested, signs)
    apart = 100 * max((signs.apart or {}).values(), default=0)
    note = (
        f"{100 * signs.share:.0f} % of the matches held back are explained, {signs.median:.2f} pixels off in the "
        f"median, and halves of the picture agree to {apart:.1f} % of the path"
    )
    return Verdict("sound", note=note, signs=signs)


def _doubts(signs: Signs) -> Iterator[Doubt]:
    if signs.kind == "rotation" and not signs.given:
        yield Doubt(
            "no parallax",
            "The camera was taken to turn on the spot, so neither its path nor depth is measured.",
            "If the camera did move, name the focal (--known-focal) or mark what moves (--masks joined).",
        )
    if signs.kind == "tripod" and (signs.flow_residual or 0.0) > STILL_RESIDUAL:
        yield Doubt(
            "restless tripod",
            f"The camera was {'given' if signs.given else 'taken'} to stand, but the picture goes by, "
            f"{signs.flow_residual:.1f} pixels off.",
            "Give poses of these very frames (--known-poses)." if signs.given else "Mark what moves (--masks joined).",
        )
    if signs.moves > MOSTLY_MOVES:
        yield Doubt(
            "mostly moves",
            f"{100 * signs.moves:.0f} % of the picture is marked as moving; the world may be what moves.",
            "Mark what moves (--masks given).",
        )
    if signs.untested or signs.kind != "general":
        return
    if signs.apart is None:
        yield Doubt(
            "few points",
            f"Too few points are found again ({sum(signs.matches)} matches) to test the cameras by.",
            "Use a third frame: points have to be found again in two others."
            if len(signs.matches) == 2
            else "Fog, a plain wall or water has nothing to hold on to: use a part of the clip with more texture.",
        )
        return
    yield from _misfit(signs)
    yield from _disagreement(signs, signs.apart)
    yield from _drift(signs)
    if signs.focal_std > UNSURE_FOCAL or signs.focals_apart > FOCALS_APART:
        yield Doubt("focal unsure", _guess(signs), "Name the focal if you know it (--known-focal, in pixels).")


def _guess(signs: Signs) -> str:
    """What is said of a focal that is hardly measured: why, and how far off it may be."""
    drives = signs.ahead > AHEAD
    why = "the camera goes where it looks" if drives else "the path of the camera says little of it"
    text = f"The focal is a guess: {why}, or halves of the picture want others."
    if not signs.focal:
        return text
    off = np.exp(
        2.0 * max(np.hypot(1.0 / max(signs.focal_std, 1e-6), 1.0 / USUAL_FOCALS) ** -1, signs.focals_apart / 2)
    )
    low, high = (f"{focal:.2f}" for focal in (signs.focal / off, signs.focal * off))
    rather = ", and it is too long rather than too short" if drives else ""
    return f"{text} {signs.focal:.2f} longer sides were found; anything from {low} to {high} may be true{rather}."


def _misfit(signs: Signs) -> Iterator[Doubt]:
    """What the matches held back say."""
    if signs.share < POOR_SHARE:
        yield Doubt(
            "misfit",
            f"Only {100 * signs.share:.0f} % of the matches held back are explained to a pixel ({signs.median:.2f} "
            "pixels off in the median).",
            "Use a part of the clip without cuts and blur, or mark what moves (--masks joined).",
            grave=signs.share < LOST_SHARE,
        )
    if signs.share < LOST_SHARE:
        return  # then no frame stands out any more
    cuts = tuple(i for i, count in enumerate(signs.links, 1) if count < FEW_MATCHES)
    if cuts:
        yield Doubt(
            "cut",
            f"Hardly anything is found on both sides of the gap before frame {listed(cuts)}, so nothing ties the "
            "cameras there together.",
            "Cut the clip there.",
            cuts,
        )
    torn = tuple(i for i, share in enumerate(signs.steps, 1) if share is not None and share < LOST_SHARE)
    if torn:
        yield Doubt(
            "torn",
            f"What is found in frame {listed(torn)} and in the one before is not where the cameras say: the path tears "
            "there, as it does where a picture repeats itself (tiles, bricks, a fence).",
            "Cut the clip there, or mark what repeats itself (--masks joined).",
            torn,
        )
    known = [error for error, count in zip(signs.errors, signs.matches, strict=True) if error and count >= FEW_MATCHES]
    limit = max(OUTLYING * float(np.median(known)), OUTLYING_PIXELS) if known else OUTLYING_PIXELS
    by_frame = enumerate(zip(signs.errors, signs.matches, strict=True))
    frames = tuple(i for i, (error, count) in by_frame if count < FEW_MATCHES or (error or 0.0) > limit)
    if frames:
        yield Doubt(
            "frames stand out",
            f"Hardly anything fits or is found again at frame {listed(frames)}.",
            "Cut the clip there.",
            frames,
        )


def _disagreement(signs: Signs, apart: Mapping[str, float]) -> Iterator[Doubt]:
    """What the halves of the picture say."""
    worst = max(apart, key=lambda name: apart[name])
    if apart[worst] > APART:
        yield Doubt(
            "halves disagree",
            f"The cameras that either half of the picture would have ({worst}) are {100 * apart[worst]:.1f} % of the "
            "path apart.",
            ADVICE[worst],
        )


def _drift(signs: Signs) -> Iterator[Doubt]:
    """What is known of places that the camera comes back to."""
    if not signs.back:
        return
    if not signs.loops or signs.loop_matches < FEW_MATCHES:
        first, second = signs.back
        yield Doubt(
            "ends untied",
            f"At frame {second} the camera is back, or nearly, where it was at frame {first}, but no matches tie the "
            "two: what the path has drifted by on the way does not show.",
            "Use a stretch that ends before, or one that sees the place again for longer.",
            (first, second),
        )
    elif signs.loop_share < POOR_SHARE:
        first, second = signs.loops
        where = f", which the cameras miss by {100 * signs.gap:.1f} % of the way between" if signs.gap else ""
        yield Doubt(
            "drift",
            f"Frames {first} and {second} see the same place{where}; only {100 * signs.loop_share:.0f} % of the "
            "matches between frames so far apart are explained to a pixel.",
            "Use a shorter stretch, or name the focal if you know it (--known-focal).",
            (first, second),
        )
