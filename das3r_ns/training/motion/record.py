"""What the front end sees of a clip when it decides, kept in one file: the head learns from its real errors."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from rich.console import Console

from das3r_ns.errors import Das3rError
from das3r_ns.evaluation.machine import commit
from das3r_ns.files import DAMAGED_ARRAYS
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.geometric.case import Case
from das3r_ns.frontend.geometric.decision import watched
from das3r_ns.frontend.geometric.dynamic_probability import Ruled
from das3r_ns.frontend.geometric.estimate import estimate
from das3r_ns.frontend.geometric.head.views import Views
from das3r_ns.frontend.geometric.head.weights import FORMAT
from das3r_ns.frontend.known.knowledge import Known
from das3r_ns.progress import Progress

VERSION = f"{FORMAT}.1"
"""Of a record: what the head sees, and how it is kept."""
AS_DRAWN = Known(readout=0.0, undistorted=True)
"""What the front end is told of a clip. Looking for a rolling shutter and a lens that bends would double its cost; a
drawn shutter is global, and a little bend is one of the faults to learn from."""


@dataclass(frozen=True)
class Sample:
    """One frame of a record."""

    maps: UInt8[np.ndarray, "C h w"]
    """What the head sees of it, 255 = 1."""
    relative: Float[np.ndarray, "h w"]
    """What the rules make of it."""
    truth: UInt8[np.ndarray, "h w"]
    """Share of the pixel that moves, 255 = all."""
    context: Float[np.ndarray, " G"]
    """What the head sees of the clip."""


class Record:
    """A file of :func:`write_record`; frames are read one by one. ``commit`` is that of das3r when it was made."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            with np.load(file) as opened:
                self.version, self.count = str(opened["version"]), int(opened["count"])
                self.commit = str(opened["commit"])
        except DAMAGED_ARRAYS as error:
            raise self._damaged(error) from error
        if self.version != VERSION:
            raise Das3rError(
                f"{file} was recorded by another version of das3r ({self.version}, not {VERSION}). Delete its folder, "
                "so that the clips are recorded anew."
            )

    def __len__(self) -> int:
        return self.count

    def frame(self, t: int) -> Sample:
        """One frame.

        Raises:
            Das3rError: The file is damaged.
        """
        try:
            with np.load(self.file) as opened:
                maps, relative, truth = (opened[f"{part}{t:04d}"] for part in ("maps", "relative", "truth"))
                return Sample(maps, relative, truth, opened["context"])
        except DAMAGED_ARRAYS as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> Das3rError:
        return Das3rError(f"{self.file} is no record of a clip, or damaged ({error}). Delete it; it is made anew.")


def record_clip(
    images: UInt8[np.ndarray, "N H W 3"],
    masks: Bool[np.ndarray, "N H W"],
    file: Path,
    config: FrontEndConfig | None = None,
) -> None:
    """Run the front end on a clip and keep what it decided by.

    Args:
        images: RGB frames at the working resolution.
        masks: What moves in them.
        file: To write, completely or not at all.
        config: Of the front end.

    Raises:
        Das3rError: The file cannot be written, or nothing was decided.
    """
    last: deque[tuple[Case, Ruled]] = deque(maxlen=1)
    names = [f"{t:05d}" for t in range(len(images))]
    with watched(lambda case, ruled: last.append((case, ruled))):
        quiet = Progress(Console(quiet=True))
        config = config or FrontEndConfig(front_end="geometric")
        estimate(images, names, config, quiet, AS_DRAWN)
    if not last:
        raise Das3rError("The front end has decided nothing: masks of the user's own leave it nothing to record.")
    write_record(*last[0], masks.astype(np.float32), file)


def write_record(case: Case, ruled: Ruled, truth: Float[np.ndarray, "N H W"], file: Path) -> None:
    """Keep what the front end decided by.

    Args:
        case: Of the clip.
        ruled: What the rules make of it.
        truth: What moves, 0 to 1, at any resolution.
        file: To write, completely or not at all.

    Raises:
        Das3rError: It cannot be written.
    """
    views = Views(case, ruled)
    size = (case.small.shape[2], case.small.shape[1])
    samples = []
    for t in range(len(views)):
        share = cv2.resize(truth[t].astype(np.float32), size, interpolation=cv2.INTER_AREA)
        maps, moves = (np.rint(255.0 * part).astype(np.uint8) for part in (views.maps(t), share))
        samples.append(Sample(maps, views.relative(t).astype(np.float16), moves, views.context))
    save_samples(samples, file)


def save_samples(samples: Sequence[Sample], file: Path) -> None:
    """Write a record, completely or not at all.

    Args:
        samples: Of all frames of a clip.
        file: To write.

    Raises:
        Das3rError: It cannot be written.
    """
    parts: dict[str, np.ndarray] = {"version": np.array(VERSION), "count": np.array(len(samples))}
    parts |= {"commit": np.array(commit()), "context": samples[0].context}
    for t, sample in enumerate(samples):
        parts |= {f"{part}{t:04d}": getattr(sample, part) for part in ("maps", "relative", "truth")}
    temporary = file.with_name(f".{file.stem}.tmp.npz")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(temporary, **parts)  # pyright: ignore[reportArgumentType]
        temporary.replace(file)
    except OSError as error:
        raise Das3rError(f"What the front end saw cannot be written to {file}: {error}.") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
