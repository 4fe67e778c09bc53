"""What the user knows of a video, as the alignment of the network's predictions takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from das3r_ns.frontend.known.knowledge import Known
from das3r_ns.frontend.network.monst3r.preprocessing import Framing, frame_intrinsics, frame_maps


@dataclass(frozen=True)
class Held:
    """What is known and kept, in pixels of the network."""

    c2w_cv: Float[np.ndarray, "N 4 4"] | None
    focals: Float[np.ndarray, " N"] | None
    static_weight: Float[np.ndarray, "N h w"] | None

    @classmethod
    def of(cls, known: Known, how: Framing, size: tuple[int, int]) -> Held:
        """What the user knows of frames of ``size`` (width, height)."""
        focals = None
        if known.intrinsics is not None:
            framed = frame_intrinsics(known.intrinsics, how, size)
            # The alignment has one focal for both axes; a squeezed frame has two, 2 % apart at most.
            focals = np.sqrt(framed[:, 0, 0] * framed[:, 1, 1])
        static = None if known.masks is None else known.static_weight(size, len(known.masks))
        return cls(known.c2w_cv, focals, None if static is None else frame_maps(static, how))

    def section(self, window: range) -> dict[str, Any]:
        """Keyword arguments of ``global_align`` for the frames of a window."""
        parts = {"known_c2w_cv": self.c2w_cv, "known_focal": self.focals, "static_weight": self.static_weight}
        return {name: None if part is None else part[window.start : window.stop] for name, part in parts.items()}
