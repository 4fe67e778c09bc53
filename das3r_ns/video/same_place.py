"""Whether two small pictures show the same place, however the camera or the light has changed between them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from das3r_ns.video.sift import distinct_matches, find_keypoints

FLOW_SIDE = 160
"""Longer side, in pixels, at which pictures are laid over each other by optical flow."""
LEAST_SIDE = 32
"""Shorter side at least, whatever the shape: OpenCV's flow searches a quarter of the size with patches of 8 pixels, and
ends the process where they do not fit."""
WINDOW = 9
"""Pixels across a neighbourhood that is compared."""
ALIKE = 0.7
"""Correlation from which two neighbourhoods are the same thing; unlike a difference it knows no exposure."""
LEAST_CONTRAST = 3.0
"""Standard deviation, in grey levels, under which there is nothing in a neighbourhood, or a picture, to compare."""
LEAST_TEXTURE = 0.1
"""Share of a picture that must have texture for the whole of it to be followed."""
COARSE = (16, 9)
"""Width and height at which pictures laid over each other are taken apart: cameras may move meanwhile."""
WHOLE = np.s_[:, :]
HALVES = (np.s_[:, :8], np.s_[:, 8:], np.s_[:4, :], np.s_[5:, :])
"""Regions of such a picture."""
FEATURES = 600
CONSISTENT = 15
"""Matches on one epipolar geometry from which two pictures have a place in common. Chance gives no more than about ten
between unrelated ones, for seven suffice to define a geometry."""


@dataclass(frozen=True)
class Look:
    """One frame, small and grey, and what is computed of it once something asks."""

    number: int
    """Its position in the video."""
    grey: UInt8[np.ndarray, "H W"]

    @cached_property
    def for_flow(self) -> UInt8[np.ndarray, "h w"]:
        """The picture at FLOW_SIDE."""
        scale = min(1.0, FLOW_SIDE / max(self.grey.shape))
        size = tuple(max(round(side * scale), LEAST_SIDE) for side in self.grey.shape[::-1])
        return cv2.resize(self.grey, size, interpolation=cv2.INTER_AREA)

    @cached_property
    def coarse(self) -> Float[np.ndarray, "9 16"]:
        """The picture at COARSE pixels."""
        return cv2.resize(self.grey, COARSE, interpolation=cv2.INTER_AREA).astype(np.float32)

    @cached_property
    def features(self) -> tuple[Float[np.ndarray, "K 2"], Float[np.ndarray, "K 128"]]:
        """Places and descriptors of its keypoints."""
        return find_keypoints(self.grey, FEATURES, 0.02)


def flow_between(first: Look, second: Look) -> tuple[Float[np.ndarray, "h w 2"], float]:
    """Optical flow at FLOW_SIDE, and the share of the first picture's texture that is found again by it."""
    solver = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow = solver.calc(first.for_flow, second.for_flow, None)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return flow, _share_alike(first.for_flow, second.for_flow, flow)


def common_matches(first: Look, second: Look) -> int:
    """Matches of distinct features that agree with one motion of a camera."""
    return len(agreeing_matches(first, second)[0])


def agreeing_matches(first: Look, second: Look) -> tuple[Float[np.ndarray, "M 2"], Float[np.ndarray, "M 2"]]:
    """Places, in pixels of either picture, of distinct features that agree with one motion of a camera."""
    (here, these), (there, those) = first.features, second.features
    none = np.empty((0, 2), np.float32), np.empty((0, 2), np.float32)
    start, to = distinct_matches(these, those)
    kept = dict(zip(to.tolist(), start.tolist(), strict=True))
    if len(kept) < 8:
        return none
    to, start = list(kept), list(kept.values())
    _, agree = cv2.findFundamentalMat(here[start], there[to], cv2.FM_RANSAC, 1.0, 0.99, 300)
    if agree is None:
        return none
    inside = agree.ravel() > 0
    return here[start][inside], there[to][inside]


def parts_of(
    first: Look, second: Look, between: Look, region: tuple[slice, slice] = WHOLE
) -> tuple[float, float, float]:
    """A picture as the weighted sum of two others: their weights, and how much of its variance that explains."""
    a, b, m = (_centred(look, region) for look in (first, second, between))
    weights, *_ = np.linalg.lstsq(np.stack([a, b], axis=1), m, rcond=None)
    rest = m - weights[0] * a - weights[1] * b
    return float(weights[0]), float(weights[1]), 1 - float(rest @ rest) / max(float(m @ m), 1e-6)


def correlation(first: Look, second: Look) -> float:
    """Of two pictures at COARSE."""
    a, b = (_centred(look, WHOLE) for look in (first, second))
    return float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-6)


def _centred(look: Look, region: tuple[slice, slice]) -> Float[np.ndarray, " M"]:
    values = look.coarse[region].ravel()
    return values - values.mean()


def _share_alike(
    first: UInt8[np.ndarray, "h w"], second: UInt8[np.ndarray, "h w"], flow: Float[np.ndarray, "h w 2"]
) -> float:
    height, width = first.shape
    y, x = np.indices((height, width), dtype=np.float32)
    to_x, to_y = np.asarray(x + flow[..., 0]), np.asarray(y + flow[..., 1])
    inside = (to_x >= 0) & (to_y >= 0) & (to_x <= width - 1) & (to_y <= height - 1)
    warped = cv2.remap(second, to_x, to_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    alike, textured = _alike(first.astype(np.float32), warped.astype(np.float32))
    return float((alike & inside & textured).sum() / max(textured.sum(), LEAST_TEXTURE * textured.size))


def _alike(
    a: Float[np.ndarray, "h w"], b: Float[np.ndarray, "h w"]
) -> tuple[Bool[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """Where two pictures correlate, and where the first one has texture."""

    def mean(picture: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
        return cv2.blur(picture, (WINDOW, WINDOW))

    mean_a, mean_b = mean(a), mean(b)
    variance_a, variance_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    correlation = covariance / np.sqrt(np.maximum(variance_a * variance_b, 1e-6))
    return correlation > ALIKE, variance_a > LEAST_CONTRAST**2
