"""What one pass over a video sees of each frame: enough to tell shots, fades, repeats and flashes, and to thin it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

VERSION = 1
"""Raised whenever what is measured, or what is made of it, changes: an older timeline is then measured again."""

UNCHANGED = 1.0
"""Change, in grey levels, that is nothing but rounding."""
UNMOVED = 0.12 / 160
"""Shift under which the picture stands still: a repeated frame has up to 0.03 of 160 pixels in a good encoding and 0.08
in a poor one, a slow pan 0.16 and more."""
ALMOST = 0.25
"""Share of the change in frames near by under which a change is the noise of the encoding."""


@dataclass(frozen=True)
class Timeline:
    """Measures of the N frames of a video, all of the small grey pictures of :meth:`das3r_ns.video.clip.Clip.glance`.

    Frames that do not decode have NaN.
    """

    brightness: Float[np.ndarray, " N"]
    """Mean grey level."""
    contrast: Float[np.ndarray, " N"]
    """Standard deviation of the grey levels."""
    sharpness: Float[np.ndarray, " N"]
    """Mean Laplacian, in grey levels."""
    motion: Float[np.ndarray, " N"]
    """Mean displacement of the picture since the frame before, as a share of its longer side."""
    change: Float[np.ndarray, " N"]
    """Largest mean difference of a block of pixels to the last frame that was another picture, in grey levels; NaN
    where there is none."""
    shift: Float[np.ndarray, " N"]
    """Displacement since then that all but a tenth of the picture stays under, as a share of its longer side."""
    cuts: tuple[int, ...] = ()
    """Positions at which another shot begins."""
    strange: tuple[int, ...] = ()
    """Frames that show nothing of what is before and after them, which do show the same."""
    damaged: tuple[int, ...] = ()
    """Frames that a damaged file has spoilt or lost; not all of them have NaN."""

    @property
    def num_frames(self) -> int:
        """Number of frames N."""
        return len(self.brightness)

    def to_json(self) -> str:
        """As text."""
        values = {name: _listed(value) for name, value in asdict(self).items()}
        return json.dumps({"version": VERSION, **values})

    @classmethod
    def from_json(cls, text: str) -> Timeline | None:
        """From text; None where that is damaged or of another version."""
        try:
            values: dict[str, Any] = json.loads(text)
            if values.pop("version") != VERSION:
                return None
            values.setdefault("damaged", [])  # older ones do not say
            cuts, strange, damaged = (tuple(map(int, values.pop(name))) for name in ("cuts", "strange", "damaged"))
            measures = {name: np.array(value, np.float32) for name, value in values.items()}
            timeline = cls(**measures, cuts=cuts, strange=strange, damaged=damaged)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None
        lengths = {value.shape for value in vars(timeline).values() if isinstance(value, np.ndarray)}
        return timeline if lengths == {(timeline.num_frames,)} else None


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, np.ndarray):
        return list(value)
    return [float(f"{number:.5g}") for number in value.tolist()]  # NaN and Infinity: JSON as Python reads it
