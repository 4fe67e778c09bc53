"""What a batch has come to: ``batch.json`` and ``batch.html``, rebuilt as videos finish."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from das3r_ns import __version__
from das3r_ns.batch.html import batch_page
from das3r_ns.batch.pictures import AFTER, BEFORE, MASK
from das3r_ns.batch.work import MARKER, Record
from das3r_ns.files import write_json, write_text

if TYPE_CHECKING:
    from das3r_ns.batch.config import StepName
    from das3r_ns.batch.plan import Plan

PAGE = "batch.html"
SHARE = 0.03
"""Of the time, at most, that goes into rebuilding the report while videos are worked on."""
CHATTER = ("Front end: ", "Verdict on the cameras: ")
"""How messages begin that the page says in other words."""


class Report:
    """Collects records and writes the report.

    Args:
        output: The output folder. Videos of earlier runs that its batch.json names stay in the report.
        steps: That are wanted.
        preset: For videos without one of their own.
        started: When the run began, seconds since the epoch.
        published: Called when the report has been written.
    """

    def __init__(
        self,
        output: Path,
        steps: Sequence[StepName],
        preset: str,
        started: float,
        published: Callable[[], None] = lambda: None,
    ) -> None:
        self.output, self.started, self.published = output, started, published
        self.head = {"das3r_version": __version__, "preset": preset, "steps": list(steps)}
        self.videos: dict[str, dict[str, Any]] = _earlier(output)
        self.work_seconds = 0.0
        self._per_frame: dict[str, list[float]] = defaultdict(list)
        self._next = 0.0

    def add(self, plans: Sequence[Plan]) -> None:
        """The videos of this run, with the records that are there."""
        for plan in plans:
            look, options = plan.look, plan.video.options
            earlier = self.videos.get(plan.video.name, {}).get("steps", {})
            # Steps that this run is not asked for stay as they are.
            others = {name: record for name, record in earlier.items() if name not in self.head["steps"]}
            self.videos[plan.video.name] = {
                "data": plan.video.url or str(plan.video.data),
                "preset": options.preset,
                "frames": look.frames,
                "size": list(look.size),
                "front_end": look.front_end,
                "steps": others | plan.records,
                **({"failed": look.failed} if look.failed else {}),
            }
            self._look_into(plan.video.name)
            for record in plan.records.values():
                self._count(look.frames, record)
        self.write()

    def records(self, video: str) -> Mapping[str, Record]:
        """The records of a video, by step."""
        return self.videos[video]["steps"]

    def seconds_per_frame(self) -> dict[str, float]:
        """Of each step, over the videos that have gone through it."""
        return {step: sum(values) / len(values) for step, values in dict(self._per_frame).items()}

    def done(self, video: str, step: str, record: Record | None) -> None:
        """A step has ended; with None it was left out."""
        if record is not None:
            self.videos[video]["steps"] = {**self.records(video), step: record}
            self._count(self.videos[video]["frames"], record)
            self.work_seconds += record.get("seconds", 0.0)
            self._look_into(video)
        if time.monotonic() >= self._next:
            begun = time.monotonic()
            self.write()
            self._next = time.monotonic() + (time.monotonic() - begun) / SHARE

    def _look_into(self, name: str) -> None:
        """Take up what the folder of a video says of it."""
        folder = Path(name) / "batch"
        found = {title: str(folder / title) for title in (BEFORE, MASK, AFTER)}
        pictures = {title: file for title, file in found.items() if (self.output / file).is_file()}
        self.videos[name] |= {**_of_masks(self.output / name), "pictures": pictures}

    def _count(self, frames: int, record: Record) -> None:
        if "failed" not in record and "seconds" in record:
            self._per_frame[record["step"]].append(record["seconds"] / max(frames, 1))

    def write(self) -> dict[str, Any]:
        """Write both files; returns what ``batch.json`` holds."""
        results = {
            **self.head,
            "seconds": round(time.time() - self.started, 1),
            "work_seconds": round(self.work_seconds, 1),
            "videos": self.videos,
        }
        write_json(self.output / MARKER, results)
        write_text(self.output / PAGE, batch_page(results, self.output))
        self.published()
        return results


def _earlier(output: Path) -> dict[str, dict[str, Any]]:
    try:
        videos = json.loads((output / MARKER).read_text(encoding="utf-8"))["videos"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {name: video for name, video in videos.items() if (output / name).is_dir() and "steps" in video}


def _of_masks(folder: Path) -> dict[str, Any]:
    """Camera kind, verdict on the cameras and warnings, as das3r masks has written them."""
    try:
        summary = json.loads((folder / "masks" / "das3r.json").read_text(encoding="utf-8"))
        messages = [text for text in summary["provenance"].get("messages", []) if not text.startswith(CHATTER)]
        verdict = summary.get("verdict") or {}
        return {
            "camera_kind": summary["camera_kind"],
            "verdict": verdict.get("word"),
            "messages": [*filter(None, [verdict.get("message")]), *messages],
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
