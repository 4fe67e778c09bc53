"""What one measurement of a benchmark is: a sequence, and the front end or one method of training."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from das3r_ns.errors import Das3rError
from das3r_ns.evaluation.bench.config import Base, BenchConfig, plain
from das3r_ns.evaluation.ground_truth import GroundTruth
from das3r_ns.evaluation.protocols import Protocol, load_protocol
from das3r_ns.evaluation.readers import open_sequence
from das3r_ns.files import link_files, write_json
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.presets import apply_overrides

Record = dict[str, Any]
"""What a measurement leaves: ``figures`` and what belongs to them, or ``failed``; ``problems`` says what is missing."""


@dataclass(frozen=True)
class Job:
    """What to measure."""

    config: BenchConfig
    sequence: str
    method: str | None
    """None for the front end alone."""
    base: Base

    @property
    def name(self) -> str:
        """Name in the output folder."""
        return self.method or "front-end"

    @property
    def part(self) -> str:
        """Track of the protocol."""
        return "splats" if self.method else "front_end"

    @cached_property
    def protocol(self) -> Protocol:
        """The protocol."""
        return load_protocol(self.config.protocol)

    @cached_property
    def truth(self) -> GroundTruth:
        """The sequence's frames and ground truth."""
        return open_sequence(self.protocol.layout, self.config.data, self.sequence)

    def file(self, folder: str, suffix: str) -> Path:
        """A file of this job in the output folder."""
        return self.config.output_dir / folder / self.sequence / f"{self.name}{suffix}"

    def link_clip(self) -> Path:
        """The frames of this part as a folder of links, made if need be; the front end's cache lies in there."""
        track = self.protocol.track("splats" if self.method else "front_end", self.sequence)
        paths = self.truth.frame_paths
        chosen = track.take(len(paths))[: self.config.num_frames]
        whole = len(chosen) == len(paths)
        name = self.sequence if whole else f"{self.sequence}-{len(chosen)}x{track.stride}"
        folder = self.config.output_dir.resolve() / "videos" / name
        link_files([paths[i] for i in chosen], folder)
        return folder

    def front_end(self) -> FrontEndConfig:
        """Settings that the front end's own measurement runs with: those of the base preset."""
        from das3r_ns.evaluation.methods import method_config

        parser = method_config(self.base, self.base).pipeline.datamanager.dataparser  # pyright: ignore[reportAttributeAccessIssue]
        return self.config.applied(parser.front_end)


def collect(problems: list[str], what: str, function: Any, *arguments: Any) -> Any:
    """The function's result; where ground truth fails it, None, and the reason goes to ``problems``."""
    try:
        return function(*arguments)
    except Das3rError as error:
        problems.append(f"{what}: {error}")
        return None


def write_job(job: Job, path: Path) -> None:
    """Write a job for its process."""
    config = {**plain(vars(job.config)), "front_end": plain(vars(job.config.front_end))}
    write_json(path, {"config": config, "sequence": job.sequence, "method": job.method, "base": job.base})


def read_job(path: Path) -> Job:
    """Read what :func:`write_job` wrote."""
    data = json.loads(path.read_text())
    config = apply_overrides(BenchConfig("", Path(), Path()), data["config"], str(path))
    return Job(config, data["sequence"], data["method"], data["base"])
