"""What the windows of a long video have left of how they were found, as one front end leaves it of all frames."""

from __future__ import annotations

from typing import Any

import numpy as np

from das3r_ns.frontend.weighted_median import weighted_median


def joined_records(windows: list[range], records: list[dict[str, Any]]) -> dict[str, Any]:
    """Provenance of all frames.

    Args:
        windows: The frames of each window; a frame that two of them share is told of by the earlier one.
        records: Provenance of each.
    """
    sizes = np.array([len(window) for window in windows], dtype=float)
    joined: dict[str, Any] = {
        name: float(weighted_median(np.array([record[name] for record in records]), sizes))
        for name in ("flow_residual", "focal_std")
    }
    joined["refined"] = all(record["refined"] for record in records)
    joined["windows"] = [[window.start, window.stop - 1] for window in windows]
    if "kernels" in records[0]:
        joined["kernels"] = records[0]["kernels"]
    if any("points" in record for record in records):
        joined["points"] = _joined_points(windows, [record.get("points") for record in records])
    return joined


def _joined_points(windows: list[range], records: list[dict[str, Any] | None]) -> dict[str, Any]:
    """The records of the adjustments on points, see ``OnPoints.provenance``.

    Frames of windows without one, where the camera did not move, have no matches: nothing tested them.
    """
    count = windows[-1].stop
    of_frames: dict[str, list[Any]] = {"matches": [0] * count, "explained": [None] * count, "error": [None] * count}
    links: list[int] = [0] * (count - 1)
    steps: list[float | None] = [None] * (count - 1)
    judged = [None if record is None else record["after" if record["taken"] else "before"] for record in records]
    for window, record in zip(reversed(windows), reversed(judged), strict=True):
        if record is None:
            continue
        for name, values in of_frames.items():
            values[window.start : window.stop] = record[name]
        for gap, share in enumerate(record["steps"], window.start):
            known = [value for value in (steps[gap], share) if value is not None]
            steps[gap] = min(known, default=None)
        for gap, number in enumerate(record["links"], window.start):
            # Near the end of a window a gap has few matches over it, and many in the next one.
            links[gap] = max(number, links[gap])
    told = [record for record in judged if record is not None and record["share"] is not None]
    weights = [float(sum(record["matches"])) for record in told]
    held_back = {
        **of_frames,
        **{n: round(float(np.average([r[n] for r in told], weights=weights)), 4) if told else None for n in TOLD},
        "links": links,
        "steps": steps,
    }
    there = [record for record in records if record is not None]
    halves = [record["halves"] for record in there if record["halves"] is not None]
    return {
        "taken": True,
        "tracks": sum(record["tracks"] for record in there),
        "before": held_back,
        "after": held_back,
        "halves": _worst_halves(halves) if halves else None,
        "unit": there[0]["unit"],
    }


TOLD = ("share", "median")
"""Figures of matches held back that are averaged over the windows, each by how many it has."""


def _worst_halves(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each way to cut the picture in two, what that window says whose halves are furthest apart."""
    return {
        name: {way: max((record[name][way] for record in records), key=abs) for way in records[0][name]}
        for name in ("path", "focal")
    }
