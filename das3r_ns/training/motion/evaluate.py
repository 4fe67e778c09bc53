"""J and false alarms of the head, and of the rules that it corrects, on recorded clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float

from das3r_ns.evaluation.metrics import mask_iou
from das3r_ns.frontend.geometric.dynamic_probability import drop_specks
from das3r_ns.frontend.geometric.head.correct import correct_frame
from das3r_ns.frontend.geometric.head.network import MotionHead
from das3r_ns.training.motion.record import Record, Sample


@dataclass
class Scores:
    """What was measured."""

    j: float
    """Mean over the frames in which something moves."""
    false_alarms: float
    """Mean share of the picture that is marked and does not move, over all frames."""
    still: float
    """Share of the picture that is marked in frames in which nothing moves; 0 where there are none."""

    def as_row(self, prefix: str) -> dict[str, float]:
        """For a table."""
        return {f"{prefix}_{name}": value for name, value in asdict(self).items()}


def of_head(head: MotionHead) -> Callable[[Sample], Float[np.ndarray, "h w"]]:
    """Relative evidence of a frame as the head corrects it."""
    return lambda sample: correct_frame(
        head, sample.maps / np.float32(255), sample.relative.astype(np.float32), sample.context
    )


def of_rules(sample: Sample) -> Float[np.ndarray, "h w"]:
    """Relative evidence of a frame as the rules have it."""
    return sample.relative.astype(np.float32)


def evaluate(
    records: Sequence[Record],
    decide: Callable[[Sample], Float[np.ndarray, "h w"]],
    every: int = 1,
    on_clip: Callable[[], None] = lambda: None,
) -> Scores:
    """Masks at the resolution of the evidence against the truth.

    Args:
        records: Clips.
        decide: Gives the relative evidence of a frame.
        every: Look at every so many frames only.
        on_clip: Called after each clip, for progress bars.

    Raises:
        Das3rError: A record is damaged.
    """
    j, alarms, still = [], [], []
    for record in records:
        for t in range(0, len(record), every):
            sample = record.frame(t)
            found, truth = drop_specks(decide(sample)), sample.truth > 127
            if truth.any():
                j.append(float(mask_iou(found, truth)))
            else:
                still.append(share(found))
            alarms.append(share(found & ~truth))
        on_clip()
    return Scores(*(float(np.mean(values)) if values else 0.0 for values in (j, alarms, still)))


def share(mask: Bool[np.ndarray, "h w"]) -> float:
    """Of the picture."""
    return float(mask.mean())
