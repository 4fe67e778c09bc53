"""Frames of a video that see the same place again: by appearance first, then by geometry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float

from das3r_ns.frontend.similarity import Sim3, fit_similarity
from das3r_ns.scene import geometry as geo
from das3r_ns.video.same_place import CONSISTENT, Look, agreeing_matches

WORDS = 32
"""Kinds of features that the appearance of a frame is told by."""

SAMPLED = 20_000
"""Features that these are found from."""

CANDIDATES = 3
"""Frames that look most like one and are compared with it."""

NEAR = 0.1
"""Share of the distance of a point by which two frames may disagree on where it lies."""

AGREE = 0.5
"""Share of the matches that must not disagree more."""

LARGEST_CHANGE = 4.0
"""Factor between the units of length of two frames, at most."""


@dataclass(frozen=True)
class View:
    """What geometry needs of a frame."""

    intrinsics: Float[np.ndarray, "3 3"]
    depth: Float[np.ndarray, "H W"]
    trust: Float[np.ndarray, "H W"]
    """How far the depth is believed, 0 to 1; 0 where something moves."""


@dataclass(frozen=True)
class Loop:
    """Two frames, by their number among those looked at, that see the same place."""

    first: int
    second: int
    motion: Sim3
    """From the camera of the second to that of the first."""


def find_loops(
    looks: list[Look],
    view: Callable[[int], View],
    apart: int,
    on_frame: Callable[[], None] = lambda: None,
    may: Bool[np.ndarray, "N N"] | None = None,
) -> list[Loop]:
    """Pairs of frames that see the same place, far apart in time.

    Args:
        looks: The frames, small.
        view: The frame of a number among them, at the working resolution.
        apart: How many of them must lie between two at least: nearer ones are tied to each other anyway.
        on_frame: Called once for each, for progress bars.
        may: Which pairs (first, second) may see the same place at all; None = any.
    """
    alike, loops = appearance(looks), []
    for first in range(len(looks)):
        later = np.arange(first + apart + 1, len(looks))
        if may is not None:
            later = later[may[first, later]]
        for second in later[np.argsort(-alike[first, later])[:CANDIDATES]].tolist():
            motion = _motion(looks[first], looks[second], view, first, second)
            if motion is not None:
                loops.append(Loop(first, second, motion))
        on_frame()
    return loops


def appearance(looks: list[Look]) -> Float[np.ndarray, "N N"]:
    """How much frames look alike, -1 to 1, wherever in the picture things are.

    Vectors of locally aggregated descriptors (Jegou et al., CVPR 2010) of the frames' SIFT features.
    """
    rng = np.random.default_rng(0)
    described = [look.features[1] for look in looks]
    if sum(map(len, described)) < WORDS:
        return np.zeros((len(looks), len(looks)), np.float32)
    every = np.concatenate(described)
    sample = every[rng.permutation(len(every))[:SAMPLED]]
    cv2.setRNGSeed(0)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 15, 1e-3)
    labels = np.empty((0,), np.int32)
    words = cv2.kmeans(sample, WORDS, labels, stop, 1, cv2.KMEANS_PP_CENTERS)[2]
    vectors = np.stack([_vector(one, words) for one in described])
    return vectors @ vectors.T


def _vector(descriptors: Float[np.ndarray, "K 128"], words: Float[np.ndarray, "W 128"]) -> np.ndarray:
    vector = np.zeros_like(words)
    if len(descriptors):
        nearest = ((words**2).sum(axis=1) - 2 * descriptors @ words.T).argmin(axis=1)
        np.add.at(vector, nearest, descriptors - words[nearest])
        vector /= np.maximum(np.linalg.norm(vector, axis=1, keepdims=True), 1e-6)  # no word has more to say than others
    return vector.ravel() / max(float(np.linalg.norm(vector)), 1e-6)


def _motion(first: Look, second: Look, view: Callable[[int], View], i: int, j: int) -> Sim3 | None:
    """Similarity from the camera of the second frame to that of the first; None where they share no place."""
    here, there = agreeing_matches(first, second)
    if len(here) < CONSISTENT:
        return None
    goals, trust_here = _points(view(i), here, first.grey.shape)
    points, trust_there = _points(view(j), there, second.grey.shape)
    distance = np.linalg.norm(goals, axis=1)
    weights = np.sqrt(trust_here * trust_there) / distance
    if (weights > 0).sum() < CONSISTENT:
        return None
    motion, error = fit_similarity(points, goals, weights)
    fits = (error < NEAR * distance) & (weights > 0)
    scale = float(motion.scale)
    if fits.sum() < max(CONSISTENT, AGREE * (weights > 0).sum()) or not 1 / LARGEST_CHANGE < scale < LARGEST_CHANGE:
        return None
    return motion


def _points(
    view: View, pixels: Float[np.ndarray, "M 2"], shape: tuple[int, ...]
) -> tuple[Float[np.ndarray, "M 3"], Float[np.ndarray, " M"]]:
    """Points in axes of a camera that its picture, at another size, shows at some pixels; and how far to trust them."""
    height, width = view.depth.shape
    # OpenCV counts pixels from the centre of the first one.
    places = (pixels.astype(np.float64) + 0.5) * [width / shape[1], height / shape[0]]
    column, row = (places.astype(int).clip(0, [width - 1, height - 1])).T
    depth = view.depth[row, column].astype(np.float64)
    return geo.unproject(places, depth, view.intrinsics), view.trust[row, column].astype(np.float64)
