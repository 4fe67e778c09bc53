"""What speaks for and against the cameras of a clip, as a front end leaves it; :mod:`.verdict` judges by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from das3r_ns.scene.binary_masks import MOVES
from das3r_ns.scene.estimate import CameraKind, SceneEstimate


@dataclass(frozen=True)
class Signs:
    """What speaks for and against the cameras of a clip; lengths in pixels of a picture whose longer side has 427."""

    kind: CameraKind
    """What the camera did."""
    untested: str = ""
    """Why no matches were held back from the solution; empty where some were."""
    flow_residual: float | None = None
    """Weighted median residual of the optical flow, in pixels of that."""
    focal_std: float = 0.0
    """Standard error of log focal; 0 where it is known."""
    focal: float = 0.0
    """The focal that was found, in longer sides of the picture; 0 = not written down."""
    ahead: float = 0.0
    """Share of its way that the camera goes where it looks, or the other way."""
    moves: float = 0.0
    """Share of the picture that is marked as moving."""
    matches: tuple[int, ...] = ()
    """Matches held back, by frame."""
    links: tuple[int, ...] = ()
    """Matches held back from before each frame but the first one to it or later ones."""
    steps: tuple[float | None, ...] = ()
    """Share of the matches held back between each frame but the first one and the one before it that is explained to a
    pixel; None where there are too few."""
    share: float = 0.0
    """Share of them that is explained to a pixel."""
    median: float = 0.0
    """Their weighted median distance."""
    errors: tuple[float | None, ...] = ()
    """The same by frame; None where there are none."""
    apart: Mapping[str, float] | None = None
    """Way to cut the picture in two -> distance of the cameras that the halves have, in shares of the path's length;
    None where there are too few points."""
    focals_apart: float = 0.0
    """Largest difference of log focal between two halves."""
    back: tuple[int, ...] = ()
    """Two frames far apart where the camera comes back to where it was, or may do so; empty = it does not."""
    loops: tuple[int, ...] = ()
    """Two frames far apart that see the same place; empty = none are known to."""
    loop_matches: int = 0
    """Matches held back between all frames that do so."""
    loop_share: float = 0.0
    """Share of them that is explained to a pixel."""
    gap: float = 0.0
    """Distance by which the path misses these places, in shares of the way between; 0 where it was made to meet."""
    readout: float = 0.0
    """Share of the frame time in which a rolling shutter reads a frame, which was taken off; 0 = a global shutter."""
    given: bool = False
    """Whether the cameras are those that the user gave."""

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @staticmethod
    def read(record: Mapping[str, Any]) -> Signs:
        """From what :meth:`record` gave, by this version or another."""
        known = {item.name for item in fields(Signs)}
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in record.items()}
        return Signs(**{key: value for key, value in values.items() if key in known})


def signs_of(estimate: SceneEstimate) -> Signs:
    """The signs that a front end has left in the provenance of its estimate."""
    record = estimate.provenance
    readout = 0.0 if estimate.shutter is None else round(estimate.shutter.readout, 3)
    given = "poses" in record.get("known", {})
    signs = Signs(
        kind=estimate.camera_kind,
        flow_residual=record.get("flow_residual"),
        focal_std=record.get("focal_std", 0.0),
        focal=round(float(np.median(estimate.intrinsics[:, 0, 0])) / max(estimate.width, estimate.height), 4),
        ahead=round(_ahead(estimate.c2w_cv), 4),
        moves=round(float((estimate.dynamic_probability >= MOVES).mean()), 4),
        readout=readout,
        given=given,
    )
    points = record.get("points")
    if points is None:
        return replace(signs, untested=_why_untested(estimate, given=given))
    held_back, unit, halves = points["after" if points["taken"] else "before"], points["unit"], points["halves"]
    ends = record.get("together", points).get("ends")
    return replace(
        _with_ends(signs, ends) if ends else signs,
        matches=tuple(held_back["matches"]),
        links=tuple(held_back["links"]),
        steps=tuple(held_back.get("steps", ())),
        share=held_back["share"] or 0.0,
        median=(held_back["median"] or 0.0) / unit,
        errors=tuple(None if error is None else error / unit for error in held_back["error"]),
        apart=None if halves is None else halves["path"],
        focals_apart=0.0 if halves is None else max(abs(value) for value in halves["focal"].values()),
    )


def _ahead(c2w_cv: Float[np.ndarray, "N 4 4"]) -> float:
    """Share of its way that a camera goes along its optical axis, forwards or backwards; 0 where it stays."""
    steps = np.diff(c2w_cv[:, :3, 3], axis=0)
    way = np.linalg.norm(steps, axis=1).sum()
    return float(np.abs((steps * c2w_cv[:-1, :3, 2]).sum(axis=1)).sum() / way) if way > 0 else 0.0


def _with_ends(signs: Signs, ends: Mapping[str, Any]) -> Signs:
    """With what is known of places that the camera comes back to, see ``geometric/points/ends.py``."""
    loops = ends["loops"]
    return replace(
        signs,
        back=tuple(ends["nearest"] or ()),
        loops=tuple(loops[len(loops) // 2]) if loops else (),
        loop_matches=ends["matches"],
        loop_share=ends["share"],
        gap=0.0 if ends["closed"] else ends["gap"],
    )


def _why_untested(estimate: SceneEstimate, *, given: bool) -> str:
    if given:
        return "the cameras are those that were given, and they are kept"
    if estimate.camera_kind != "general":
        return "without parallax there is nothing to test"
    if estimate.provenance.get("flow_residual") is None:
        return "this front end holds no matches back to test them by"
    return "no points were followed (--no-points)"
