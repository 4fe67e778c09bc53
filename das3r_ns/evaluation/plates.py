"""Clean plates against the true background: which pixels count, and the PSNR over them.

Figures are taken at the size of the training images; ground truth is brought to that size (areas averaged). ``hidden``
are the pixels under the ground-truth mask that some frame sees static, ``static`` those at least EDGE pixels away from
the mask. Which hidden pixels some frame sees is told in observed.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float

from das3r_ns.evaluation.ground_truth import GroundTruth
from das3r_ns.evaluation.metrics import psnr_over

EDGE = 3
"""Pixels round the ground-truth mask that count as neither: anti-aliasing mixes the mover's colour into them."""


def to_size(picture: Float[np.ndarray, "H W *c"], size: tuple[int, int]) -> Float[np.ndarray, "h w *c"]:
    """The picture at (width, height), areas averaged; untouched where it has that size."""
    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def masks_at(truth: GroundTruth, indices: Sequence[int], size: tuple[int, int]) -> Float[np.ndarray, "N H W"]:
    """Covered share of each pixel in the ground-truth masks."""
    return np.stack([to_size(truth.mask(i).astype(np.float32), size) for i in indices])


def observed_at(truth: GroundTruth, indices: Sequence[int], size: tuple[int, int]) -> Bool[np.ndarray, "N H W"]:
    """Which pixels' static points some frame sees unmasked, by the set's own pictures."""
    return np.stack([to_size((truth.observed(i) > 0).astype(np.float32), size) > 0.5 for i in indices])


def score_plates(
    renders: Sequence[Float[np.ndarray, "H W 3"]],
    clean: Sequence[Float[np.ndarray, "H W 3"]],
    covered: Float[np.ndarray, "N H W"],
    observed: Bool[np.ndarray, "N H W"],
) -> dict[str, float]:
    """PSNR over the hidden and over the static pixels: mean over frames, and of all frames' pixels together."""
    hidden = (covered > 0.5) & observed
    near = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * EDGE + 1, 2 * EDGE + 1))
    static = np.stack([cv2.dilate((c > 0).astype(np.uint8), near) == 0 for c in covered])
    figures: dict[str, float] = {}
    for name, pixels in (("hidden", hidden), ("static", static)):
        values = [psnr_over(r, c, p) for r, c, p in zip(renders, clean, pixels, strict=True)]
        figures[f"psnr_{name}"] = float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")
        # One picture of all pixels in a row.
        figures[f"psnr_{name}_pooled"] = psnr_over(
            np.concatenate(renders), np.concatenate(clean), np.concatenate(list(pixels))
        )
        figures[f"{name}_percent"] = round(100 * float(pixels.mean()), 2)
    never = (covered > 0.5) & ~observed
    figures["never_seen_percent"] = round(100 * float(never.mean()), 2)
    return figures
