"""The terminal while a batch runs: a line for each video at work, its step, progress and remaining time."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table

if TYPE_CHECKING:
    from das3r_ns.batch.plan import Plan
    from das3r_ns.batch.report import Report
    from das3r_ns.batch.steps import Step

LINES = 25
"""Most videos that are shown at a time."""
TAIL_BYTES = 4096
"""Of a log that are read to find out how far a step is."""
PERCENT = re.compile(r"\((\d+(?:\.\d+)?)%\)")
"""What nerfstudio prints of a training."""
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class LiveTable:
    """What is drawn of a run: the videos at work, and of all of them how many are done.

    Args:
        plans: The videos that there is something to do for.
        report: Knows what is finished.
    """

    def __init__(self, plans: Sequence[Plan], report: Report) -> None:
        self.plans, self.report = plans, report
        self.started = time.time()
        self.begun: dict[str, Plan] = {}
        """Those handed to the cluster and not yet through, by name: logs of others are not looked for."""
        self.done = self.failed = 0

    def begin(self, plan: Plan) -> Plan:
        """A video goes to the cluster; gives it back."""
        self.begun[plan.video.name] = plan
        return plan

    def end(self, plan: Plan) -> None:
        """A step of a video has ended: the video is through where nothing is left that could run."""
        records = self.report.records(plan.video.name)
        failed = self._failed(plan) is not None
        through = failed or all(step.name in records for step in plan.steps)
        if through and self.begun.pop(plan.video.name, None) is not None:
            self.done += 1
            self.failed += failed

    def draw(self) -> RenderableType:
        """The table as things stand."""
        table = Table("Video", "Steps", "Step", "Progress", "Seconds", "Left", expand=True)
        for column in (4, 5):
            table.columns[column].justify = "right"
        at_work = list(self.begun.values())
        for plan in at_work[:LINES]:
            table.add_row(*self._row(plan))
        waiting = len(self.plans) - self.done - len(at_work)
        left = self._left(at_work)
        left += waiting * sum(self.report.seconds_per_frame().values()) * self._mean_frames()
        left /= max(self.report.work_seconds / max(time.time() - self.started, 1.0), 1.0)  # so many steps at a time
        caption = f"{self.done} of {len(self.plans)} videos through"
        caption += f", {self.failed} failed" if self.failed else ""
        table.caption = f"{caption}; about {duration(left)} left" if left else caption
        return table

    def _mean_frames(self) -> float:
        return sum(plan.look.frames for plan in self.plans) / max(len(self.plans), 1)

    def _failed(self, plan: Plan) -> str | None:
        records = self.report.records(plan.video.name)
        return next((step.name for step in plan.steps if "failed" in records.get(step.name, {})), None)

    def _row(self, plan: Plan) -> tuple[str, ...]:
        records = self.report.records(plan.video.name)
        steps = f"{sum(step.name in records for step in plan.steps)}/{len(plan.steps)}"
        at_work = next((s for s in plan.steps if s.name not in records and _begun(s)), None)
        left = duration(self._left([plan]))
        if at_work is not None:
            seconds = f"{time.time() - _begun(at_work):.0f}"
            return plan.video.name, steps, at_work.name, how_far(at_work), seconds, left
        if failed := self._failed(plan):
            return plan.video.name, steps, failed, "[red]failed", "", ""
        missing = next((step.name for step in plan.steps if step.name not in records), None)
        if missing is None:
            return plan.video.name, steps, "", "done", "", ""
        return plan.video.name, steps, missing, "waiting", "", left

    def _left(self, plans: Sequence[Plan]) -> float:
        """Seconds of work that is left, from what the same steps took per frame; 0 where that is not known."""
        per_frame = self.report.seconds_per_frame()
        total = 0.0
        for plan in plans:
            records = self.report.records(plan.video.name)
            if not self._failed(plan):
                for step in plan.steps:
                    if step.name not in records:
                        whole = per_frame.get(step.name, 0.0) * plan.look.frames
                        begun = _begun(step)
                        total += max(whole - (time.time() - begun if begun else 0.0), 0.0)
        return total


def _begun(step: Step) -> float:
    """When a step began; 0 if it has not."""
    try:
        status = step.log.stat()
    except OSError:
        return 0.0
    return getattr(status, "st_birthtime", None) or min(status.st_ctime, status.st_mtime)


def how_far(step: Step) -> str:
    """What the log of a step says last: per cent of a training, else its last line."""
    try:
        with step.log.open("rb") as file:
            file.seek(max(file.seek(0, 2) - TAIL_BYTES, 0))
            text = ESCAPES.sub("", file.read().decode(errors="replace"))
    except OSError:
        return ""
    if found := PERCENT.findall(text):
        return f"{float(found[-1]):.0f} %"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:48] if lines else ""


def duration(seconds: float) -> str:
    """Seconds for a person; nothing where it is not known."""
    if seconds <= 0:
        return ""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
