"""How the light of a video changes: exposure and white balance that follow the scene, as cameras of phones do.

What a camera makes of a point is multiplied, channel by channel, by a gain of the frame; the curve by which pictures
are stored is a power, under which a gain stays one. The gains of all frames follow from the colours of the same points
in pairs of frames, which optical flow finds whatever the light.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from das3r_ns.frontend.geometric.pair_flows import AGREEMENT, PairFlows, pixel_grid

DARKEST, BRIGHTEST = 32, 240
"""Grey levels between which a pixel tells a gain: below is noise, above it may be cut off."""

STEP = 4
"""Pixels between those that are compared."""

FEWEST = 50
"""Pixels that a pair must have to say anything."""

CHANGES = 0.05
"""Difference of log gains between frames (their middle nine tenths) from which the light is said to change: less is
what glossy things, vignetting and compression make of steady light."""

DISAGREEMENT = 0.3
"""Share of that difference by which dark and bright pixels may disagree. A gain is the same for both; haze and stray
light brighten what is dark, and are no gain."""


def frame_light(images: UInt8[np.ndarray, "N H W 3"], flows: PairFlows) -> Float[np.ndarray, "N 3"] | None:
    """Logarithm of the gain of every frame and channel against the middle of the clip.

    Every pair of frames gives the median of its pixels' log ratios, which movers and shadows leave alone; the gains are
    the least-squares solution over all pairs.

    Args:
        images: RGB frames at the resolution of ``flows``.
        flows: Optical flow both ways between frames.

    Returns:
        Log gains, of median 0 in each channel; None where the light does not change to speak of, or not by a gain.
    """
    rows, ratios, weights = [], [], []
    for i, j in flows.pairs:
        if i > j or (j, i) not in flows.fields:
            continue
        ratio, level = _log_ratio(images[i], images[j], flows, i, j)
        if len(ratio) < FEWEST:
            continue
        row = np.zeros(len(images))
        row[j], row[i] = 1.0, -1.0
        rows.append(row)
        dark = level < np.median(level)
        # Where most of the picture has one level, and nothing is darker, both halves are all of it.
        halves = (ratio[dark] if dark.any() else ratio, ratio[~dark])
        ratios.append(np.concatenate([np.median(of, axis=0) for of in (ratio, *halves)]))
        weights.append(np.sqrt(len(ratio)))
    if not rows:
        return None
    weight = np.array(weights)[:, None] / max(weights)
    # The last rows fix what pairs cannot tell, and hold frames that are in none of them.
    system = np.concatenate([weight * np.array(rows), 1e-3 * np.eye(len(images))])
    wanted = np.concatenate([weight * np.array(ratios), np.zeros((len(images), 9))])
    solution = np.linalg.lstsq(system, wanted, rcond=None)[0]
    light, of_dark, of_bright = np.split(solution - np.median(solution, axis=0), 3, axis=1)
    change = _spread(light)
    return light if change > CHANGES and _spread(of_dark - of_bright) < DISAGREEMENT * change else None


def _spread(values: Float[np.ndarray, "N 3"]) -> float:
    """Range of the middle nine tenths of the frames, of the channel where it is largest."""
    low, high = np.percentile(values, [5, 95], axis=0)
    return float((high - low).max())


def _log_ratio(
    first: UInt8[np.ndarray, "H W 3"], second: UInt8[np.ndarray, "H W 3"], flows: PairFlows, i: int, j: int
) -> tuple[Float[np.ndarray, "M 3"], Float[np.ndarray, " M"]]:
    """Logarithm of the second picture over the first, of the pixels whose flow leads there and back, and their grey
    level."""
    sample = np.s_[::STEP, ::STEP]
    flow = flows.flow(i, j)[sample]
    x, y = (axis[sample] for axis in pixel_grid(flows.height, flows.width))
    there = cv2.remap(cv2.blur(second, (3, 3)), x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR).astype(np.float32)
    here = cv2.blur(first, (3, 3))[sample].astype(np.float32)
    dark, bright = np.minimum(here, there).min(axis=-1), np.maximum(here, there).max(axis=-1)
    good = (flows.backward_error(i, j, STEP) < AGREEMENT) & (dark > DARKEST) & (bright < BRIGHTEST)
    return np.log(there[good] / here[good]), (there[good] + here[good]).mean(axis=1)


def evenly_lit(
    images: UInt8[np.ndarray, "N H W 3"], light: Float[np.ndarray, "N 3"] | None
) -> UInt8[np.ndarray, "N H W 3"]:
    """The frames in the middle light of the clip; what was cut off at white stays so.

    Args:
        images: RGB frames.
        light: From :func:`frame_light`.
    """
    if light is None:
        return images
    levels = np.arange(256)[:, None] / np.exp(light)[:, None]
    tables = np.rint(np.clip(levels, 0, 255)).astype(np.uint8)
    tables[:, 255] = 255
    return np.stack([cv2.LUT(image, table[None]) for image, table in zip(images, tables, strict=True)])


def described(light: Float[np.ndarray, "N 3"]) -> str:
    """The change of light in a line."""
    brightness = np.exp(light.mean(axis=1))
    tint = np.exp(np.ptp(light - light.mean(axis=1, keepdims=True), axis=0).max()) - 1
    return (
        f"The light changes: frames are {brightness.min():.2f} to {brightness.max():.2f} times as bright as the middle "
        f"of the clip, their colours differ by up to {100 * tint:.0f} %. It is taken off before frames are compared, "
        "and learned with the scene."
    )
