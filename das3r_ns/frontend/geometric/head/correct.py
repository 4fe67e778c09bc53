"""What the head makes of a clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from das3r_ns.frontend.geometric.case import Case
from das3r_ns.frontend.geometric.dynamic_probability import Ruled
from das3r_ns.frontend.geometric.head.network import MotionHead, with_correction
from das3r_ns.frontend.geometric.head.views import Views
from das3r_ns.frontend.geometric.head.weights import load_head


def corrected(case: Case, ruled: Ruled, weights: Path | None = None) -> Float[np.ndarray, "N h w"]:
    """Relative evidence as the head corrects it.

    Args:
        case: All that is known of the clip.
        ruled: What the rules make of it.
        weights: Of the head; None = those of the package.

    Raises:
        Das3rError: The weights cannot be used.
    """
    head, views = load_head(weights), Views(case, ruled)
    return np.stack([correct_frame(head, views.maps(t), views.relative(t), views.context) for t in range(len(views))])


@torch.inference_mode()
def correct_frame(
    head: MotionHead,
    maps: Float[np.ndarray, "C h w"],
    relative: Float[np.ndarray, "h w"],
    context: Float[np.ndarray, " G"],
) -> Float[np.ndarray, "h w"]:
    """Relative evidence of one frame as the head corrects it; see :class:`MotionHead`."""
    seen = (torch.from_numpy(np.ascontiguousarray(value, np.float32))[None] for value in (maps, relative, context))
    maps_, relative_, context_ = seen
    return with_correction(relative_, head(maps_, relative_, context_))[0].numpy()
