"""J of the network on clips that it was not trained on, by the way the front end takes its masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8
from rich.console import Console

from das3r_ns.evaluation.metrics import mask_iou
from das3r_ns.frontend.network.alignment.depth_fusion import fuse_dynamic
from das3r_ns.frontend.network.monst3r.compute import Compute
from das3r_ns.frontend.network.monst3r.inference import predict_pairs
from das3r_ns.frontend.network.monst3r.network import PairNetwork
from das3r_ns.frontend.pairs import graph_for, make_pairs
from das3r_ns.progress import Progress
from das3r_ns.training.clips import TrainingClip

GRAPH = "swinstride-2-noncyclic"
"""Each frame with its neighbours and those three away: a third of the pairs of the front end."""
SHOWN = 4
"""Clips of which a frame is drawn."""


@dataclass
class Scores:
    """What was measured."""

    j: float
    """Mean over the frames in which something moves."""
    j_everything: float
    """What marking the whole picture would give: the best that can be had without looking at it."""
    false_alarms: float
    """Share of the picture that is marked in frames in which nothing moves; 0 where there are none."""
    shown: list[UInt8[np.ndarray, "H W 3"]]
    """Frames beside their true and their predicted mask."""


def evaluate(network: PairNetwork, clips: Sequence[TrainingClip], compute: Compute) -> Scores:
    """Masks of clips as the front end would have them: the mean over the pairs with the frame as view 1, above 0.5.

    Args:
        network: With mask heads, in evaluation mode.
        clips: Held out.
        compute: Device and precision.

    Raises:
        Das3rError: Too little memory, or values that are not finite.
    """
    found, everything, alarms, shown = [], [], [], []
    quiet = Progress(Console(quiet=True))
    for clip in clips:
        images = [clip.image(number) for number in range(len(clip.frames))]
        pairs = make_pairs(len(images), graph_for(len(images), GRAPH))
        fused = fuse_dynamic(predict_pairs(network, images, pairs, quiet, compute=compute))
        assert fused is not None
        predicted = fused[0] > 0.5
        truth = np.stack([clip.mask(number) for number in range(len(images))])
        moves = truth.any(axis=(1, 2))
        found.append(mask_iou(predicted, truth)[moves])
        everything.append(truth[moves].mean(axis=(1, 2)))
        alarms.append(predicted[~moves].mean(axis=(1, 2)))
        if len(shown) < SHOWN:
            middle = len(images) // 2
            shown.append(_side_by_side(images[middle], truth[middle], predicted[middle]))
    return Scores(_mean(found), _mean(everything), _mean(alarms), shown)


def _mean(values: list[np.ndarray]) -> float:
    together = np.concatenate(values)
    return float(together.mean()) if len(together) else 0.0


def _side_by_side(
    image: UInt8[np.ndarray, "H W 3"], truth: Bool[np.ndarray, "H W"], predicted: Bool[np.ndarray, "H W"]
) -> UInt8[np.ndarray, "H W3 3"]:
    masks = [np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=-1) for mask in (truth, predicted)]
    return np.hstack([image, *masks])
