"""Benchmark protocols: which sequences, which of their frames, and what others have published. They are data, in
``configs/protocols``.

The front end is measured on one selection of frames (``front_end``) and the splats on another (``splats``): on DAVIS
masks are judged over whole sequences, and renders over the first 50 frames of eight of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from das3r_ns.errors import Das3rError
from das3r_ns.presets import apply_overrides, configs_dir

Layout = Literal["davis", "sintel", "tum", "folder"]


@dataclass
class Track:
    """The frames that something is measured on."""

    sequences: tuple[str, ...] = ()
    """Names, in the order of the tables; empty: every sequence there is."""
    num_frames: int | None = None
    """Only so many frames from the first on; None for all."""
    stride: int = 1
    """Every how manieth frame is taken."""

    def take(self, count: int) -> list[int]:
        """Numbers of the frames to use of a sequence of ``count``."""
        return list(range(0, count, self.stride))[: self.num_frames]


@dataclass(frozen=True)
class PublishedRow:
    """Figures of one metric that somebody else published for one method."""

    name: str
    values: Mapping[str, float] = field(default_factory=dict)
    """Sequence -> figure, as far as they were published."""
    mean: float | None = None
    """Mean over all sequences of the protocol."""


@dataclass(frozen=True)
class Protocol:
    """One benchmark protocol."""

    name: str
    description: str
    layout: Layout
    front_end: Track
    splats: Track
    published: Mapping[str, list[PublishedRow]]
    """Key of a metric -> rows."""
    same_as: Mapping[str, str]
    """Prefix of a sequence's name -> the protocol whose sequence it is without the prefix."""

    def track(self, part: Literal["front_end", "splats"], sequence: str) -> Track:
        """Which frames of a sequence a part is measured on."""
        original = self.original(sequence)
        return getattr(self, part) if original is None else getattr(original[0], part)

    def original(self, sequence: str) -> tuple[Protocol, str] | None:
        """The protocol that a sequence really belongs to and its name there; None if it is this one."""
        for prefix, name in self.same_as.items():
            if sequence.startswith(prefix):
                return load_protocol(name), sequence.removeprefix(prefix)
        return None

    def published_rows(self, metric: str, sequences: list[str]) -> list[PublishedRow]:
        """Rows of a metric under the names of ``sequences``; the mean is one over all of the published sequences."""
        rows = {row.name: row for row in self.published.get(metric, [])}
        for sequence in sequences:
            if (original := self.original(sequence)) is not None:
                protocol, name = original
                for row in protocol.published.get(metric, []):
                    label = f"{row.name} ({protocol.name})"
                    mine = rows.get(label, PublishedRow(label, {}, row.mean))
                    here = {sequence: row.values[name]} if name in row.values else {}
                    rows[label] = PublishedRow(label, {**mine.values, **here}, row.mean)
        return list(rows.values())


def protocol_names() -> list[str]:
    """Names of all protocols."""
    return sorted(path.stem for path in (configs_dir() / "protocols").glob("*.yaml"))


def load_protocol(name: str) -> Protocol:
    """Read ``configs/protocols/NAME.yaml``.

    Raises:
        Das3rError: There is no such protocol, or the file is not one.
    """
    if name not in protocol_names():
        raise Das3rError(f"There is no protocol '{name}'. There are: {', '.join(protocol_names())}.")
    path = configs_dir() / "protocols" / f"{name}.yaml"
    try:
        data = yaml.safe_load(path.read_text(encoding="utf8"))
        return _protocol(name, data, str(path))
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise Das3rError(f"The protocol {path} cannot be read ({type(error).__name__}: {error}).") from error


def _protocol(name: str, data: Any, source: str) -> Protocol:
    known = {"description", "layout", "front_end", "splats", "published", "same_as"}
    if not isinstance(data, dict) or not {"description", "layout"} <= set(data) <= known:
        raise ValueError(f"it must have a description and a layout, and of the rest only {', '.join(sorted(known))}")
    if data["layout"] not in ("davis", "sintel", "tum", "folder"):
        raise ValueError(f"the layout '{data['layout']}' is unknown")
    tracks = [apply_overrides(Track(), data.get(part, {}), f"{source}, {part},") for part in ("front_end", "splats")]
    published = {key: [PublishedRow(**row) for row in rows] for key, rows in data.get("published", {}).items()}
    return Protocol(name, data["description"], data["layout"], tracks[0], tracks[1], published, data.get("same_as", {}))
