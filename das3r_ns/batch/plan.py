"""What is known of a video before its steps run, and which of them are missing."""

from __future__ import annotations

from dataclasses import dataclass, field

from das3r_ns.batch.cluster import Needs
from das3r_ns.batch.look import Look
from das3r_ns.batch.steps import FOLLOWS, Step
from das3r_ns.batch.videos import Video
from das3r_ns.batch.work import Record


@dataclass
class Plan:
    """What is known of a video before its steps run."""

    video: Video
    look: Look
    steps: list[Step] = field(default_factory=list)
    needs: dict[str, Needs] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)
    """Of the steps that need not be done."""

    @property
    def missing(self) -> list[Step]:
        """The steps to do: those without a record, unless what they wait for has failed and stays so."""
        found: list[Step] = []
        barred = {name for name, record in self.records.items() if "failed" in record}
        for step in self.steps:
            if step.name not in self.records:
                if FOLLOWS.get(step.name) in barred:
                    barred.add(step.name)
                else:
                    found.append(step)
        return found
