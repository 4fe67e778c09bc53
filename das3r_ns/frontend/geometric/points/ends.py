"""Whether matches tie the places that a camera comes back to, and whether a solution explains them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from das3r_ns.frontend.geometric.bundle.flow_samples import Samples
from das3r_ns.frontend.geometric.points.held_back import EXPLAINED, is_better
from das3r_ns.frontend.pairs import Pair
from das3r_ns.frontend.weighted_median import weighted_median

NO_WORSE = 1.05
"""Factor by which the median distance of the other matches held back may grow where loops are closed. Where a place is
taken for another one like it, the cameras must bend for it everywhere."""


@dataclass(frozen=True)
class Ends:
    """What is known of places that the camera comes back to."""

    nearest: Pair | None = None
    """Two frames where the path comes back, or may do so; None = nowhere."""
    loops: tuple[Pair, ...] = ()
    """Pairs of frames that see the same place."""
    left_out: int = 0
    """Further pairs, which contradict these."""
    gap: float = 0.0
    """Distance by which the path missed these places before they were made to meet, in shares of the way between."""
    closed: bool = False
    """Whether the cameras were made to meet there."""
    matches: int = 0
    """Matches held back across the loops."""
    share: float = 0.0
    """Share of them that the cameras explain to a pixel."""
    median: float = 0.0
    """Their weighted median distance, in pixels of the video."""

    @property
    def message(self) -> str:
        """A sentence for the user."""
        if self.nearest is None:
            return ""
        if not self.loops:
            first, second = self.nearest
            return f"The camera may be back at frame {second} near where it was at frame {first}; no picture shows it."
        what = f"{len(self.loops)} pairs of frames far apart see the same place"
        if self.closed:
            return f"{what}; the path missed it by {100 * self.gap:.1f} % of the way and closes there now."
        return f"{what}; {100 * self.share:.0f} % of the matches between them are explained as it is."

    def of(self, numbers: Int[np.ndarray, " K"]) -> Ends:
        """With frames called by these numbers."""
        nearest, *loops = (
            None if pair is None else (int(numbers[pair[0]]), int(numbers[pair[1]]))
            for pair in (self.nearest, *self.loops)
        )
        return replace(self, nearest=nearest, loops=tuple(loops))

    def provenance(self) -> dict[str, Any]:
        """For the record."""
        return {
            "nearest": None if self.nearest is None else list(self.nearest),
            "loops": [list(pair) for pair in self.loops],
            "left_out": self.left_out,
            "gap": round(self.gap, 5),
            "closed": self.closed,
            "matches": self.matches,
            "share": round(self.share, 4),
            "median": round(self.median, 4),
        }

    def seen(self, samples: Samples, distance: Float[np.ndarray, "E K"], closed: bool) -> Ends:
        """With what the matches held back across the loops say of the cameras to go on with.

        Args:
            samples: All tracks; their frames are numbered as the loops are.
            distance: Of the matches held back under these cameras, see ``judge``.
            closed: Whether they were made to meet.
        """
        across = across_loops(samples, self.loops)
        counts = (distance >= 0) & across[:, None]
        weights = np.where(counts, samples.weights, 0.0)
        total = float(weights.sum())
        share = float(weights[distance <= EXPLAINED * samples.unit].sum()) / total if total > 0 else 0.0
        median = _median(samples, distance, across)
        return replace(self, closed=closed, matches=int(counts.sum()), share=share, median=median)


def meets_better(
    samples: Samples,
    before: Float[np.ndarray, "E K"],
    after: Float[np.ndarray, "E K"],
    loops: Collection[Pair],
) -> bool:
    """Whether cameras with loops closed are to be taken: they explain matches held back across the loops that those
    before do not, and the others as well as those.

    Args:
        samples: All tracks.
        before: Distances of the matches held back under the cameras as they were, see ``judge``.
        after: The same with the loops closed.
        loops: Pairs of frames that see the same place.
    """
    across = across_loops(samples, loops)
    ends = np.unique(samples.sources[across])
    local = [_median(samples, distance, ~across) for distance in (before, after)]
    if not local[1] <= NO_WORSE * local[0]:
        return False
    return is_better(samples, before, after, ends.tolist(), EXPLAINED * samples.unit)


def across_loops(samples: Samples, loops: Collection[Pair]) -> Bool[np.ndarray, " E"]:
    """The edges between the two frames of a loop, either way."""
    either = {pair for i, j in loops for pair in ((i, j), (j, i))}
    pairs = zip(samples.sources.tolist(), samples.sinks.tolist(), strict=True)
    return np.array([pair in either for pair in pairs], dtype=bool)


def _median(samples: Samples, distance: Float[np.ndarray, "E K"], edges: Bool[np.ndarray, " E"]) -> float:
    weights = np.where((distance >= 0) & edges[:, None], samples.weights, 0.0)
    return float(weighted_median(distance.ravel(), weights.ravel())) if weights.any() else 0.0
