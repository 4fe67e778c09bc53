"""Points that are found again in other frames, to a fraction of a pixel, at the video's own size."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int

from das3r_ns.frontend.geometric.bundle.flow_samples import Samples, best_points, grid_shape, texture_weight
from das3r_ns.frontend.geometric.bundle.state import State
from das3r_ns.frontend.geometric.pair_flows import PairFlows, picture_texture
from das3r_ns.frontend.geometric.points.patch_kernels import RADIUS, align_patches
from das3r_ns.frontend.geometric.points.pyramids import Pyramids, sample_map
from das3r_ns.frontend.pairs import Pair
from das3r_ns.scene import geometry as geo
from das3r_ns.workers import workers

GRID = 32
"""Cells along the longer side of the picture, each of which has one point in every frame."""

REACH = 3.0
"""Pixels of one level of the pyramid by which a point may lie off the place where that level expects it."""

GUIDES = 0.7
"""Correlation of two patches from which a coarse level says where the next one looks."""

MATCHES = 0.8
"""Correlation of two patches from which they show the same thing, at the full size."""

LARGEST_CHANGE = 2.5
"""Factor by which a patch may grow or shrink on its way to another frame."""

SLOPE_STEP = 0.01
"""Share of the longer side over which the slope of the ground under a patch is taken into account."""

STEEPEST = 0.3
"""Relative change of the inverse depth over that way, at most: beyond it lies an edge."""

ENOUGH = 20
"""Points that two neighbouring frames must have in common to be held together by them. Where there are fewer, points
that were not found again are expected where the cameras of the start have them."""

FALLBACK = 0.01
"""Weight of such a point against 1 for a perfect match."""

TRUSTED = 0.1
"""Trust (see ``Tracks.trust``) from which a point is worth looking for."""

CORRELATED = 2.5
"""How many residuals of points say as much of the focal as one independent measurement would. Each errs for itself, but
the ten or so of a point share its patch; and under a robust scale of twice the noise each costs a quarter of what it
would by the noise. A prior that counts as against those of optical flow would draw a focal that points tell."""

SHARES = 8
"""Runs of pairs for each thread: pairs with nothing in common take next to no time,
so that runs differ."""

NOWHERE = -1e6
"""Image coordinate of what is not to be looked for."""

Places = Callable[[int, int], Float[np.ndarray, "K 2"]]
"""Where the points of frame i are to be looked for in frame j."""


@dataclass
class Tracks:
    """A point in every cell of a grid over each frame, and where other frames show it."""

    pyramids: Pyramids
    rows: int
    columns: int
    points: Float[np.ndarray, "N K 2"]
    """Image coordinates at the full size: the best-textured pixel of each cell."""
    slopes: Float[np.ndarray, "N K 2"]
    """Change of the logarithm of the inverse depth there per pixel."""
    trust: Float[np.ndarray, "N K"]
    """How far the points are to be believed, 0 to 1: by their texture, and by whether they stay."""
    pairs: list[Pair]
    """Directed pairs of frames (i, j), sorted."""
    targets: Float[np.ndarray, "E K 2"]
    """Image coordinates in frame j of the points of frame i."""
    correlation: Float[np.ndarray, "E K"]
    """Of the patches around them, -1 to 1; -1 = not found."""
    times: Float[np.ndarray, " N"] | None = None
    """When each frame was taken, in frame times of the video; None = one after the other."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture, in the pixels that count here."""
        return self.pyramids.size

    @property
    def found(self) -> Bool[np.ndarray, "E K"]:
        """Which points were found again."""
        return self.correlation > MATCHES

    def samples(
        self, start: State, static_weight: Float[np.ndarray, "N h w"] | None, known_focal: float | None
    ) -> Samples:
        """The tracks as the bundle adjustment takes them.

        Args:
            start: Cameras that say where points lie where too few are found (see :data:`ENOUGH`).
            static_weight: Probability that each pixel is static, at any size.
            known_focal: Focal in pixels where it is known.
        """
        order, rolls = np.array(self.pairs), start.optics is not None and start.optics.readout != 0
        weights = np.clip((self.correlation - MATCHES) / (1.0 - MATCHES), 0.0, 1.0)
        targets, found = self.targets.copy(), self.found
        for e, (i, j) in enumerate(self.pairs):
            if static_weight is not None:
                weights[e] *= sample_map(static_weight[j], targets[e], self.size)
            if rolls or abs(i - j) > 1 or (weights[e] * self.trust[i] > FALLBACK).sum() >= ENOUGH:
                continue
            expected, front = project(start, self.size, i, j, self.points[i], start.inverse_depth[i])
            instead = ~found[e] & front & (expected > 0).all(axis=1) & (expected < self.size).all(axis=1)
            targets[e, instead] = expected[instead]
            weights[e, instead] = FALLBACK
        return Samples(
            self.rows,
            self.columns,
            *self.size,
            self.points.astype(np.float32),
            order[:, 0],
            order[:, 1],
            targets.astype(np.float32),
            (weights * self.trust[order[:, 0]]).astype(np.float32),
            known_focal=known_focal,
            zooms=start.optics is not None and bool(start.optics.zoom.any()),
            bends=start.optics is not None and bool(start.optics.bend.any()),
            rolls=rolls,
            times=self.times,
            correlated=CORRELATED,
        )


def pick_points(
    pyramids: Pyramids,
    pairs: list[Pair],
    inverse_depth: Float[np.ndarray, "N r c"],
    static_weight: Float[np.ndarray, "N h w"] | None = None,
    times: Float[np.ndarray, " N"] | None = None,
) -> Tracks:
    """Choose the points of every frame; none has been looked for yet.

    Args:
        pyramids: The frames.
        pairs: Directed pairs of frames to look in.
        inverse_depth: As it is known so far, over the whole picture at any resolution.
        static_weight: Probability that each pixel is static, at any resolution; None = not known.
        times: See :class:`Tracks`.
    """
    size = pyramids.size
    rows, columns = grid_shape(*size, GRID)
    shape = (len(pyramids.levels), rows * columns)
    points, slopes, trust = np.empty((*shape, 2)), np.empty((*shape, 2)), np.empty(shape)
    inner = np.s_[RADIUS + 2 : -RADIUS - 2, RADIUS + 2 : -RADIUS - 2]
    for i, pyramid in enumerate(pyramids.levels):
        texture = np.zeros(pyramid[0].shape, dtype=np.float32)
        texture[inner] = picture_texture(pyramid[0])[inner]
        y, x = best_points(texture, rows, columns)
        points[i] = np.stack([x + 0.5, y + 0.5], axis=-1)
        trust[i] = texture_weight(texture[y, x]) * (texture[y, x] > 0)
        if static_weight is not None:
            trust[i] *= sample_map(static_weight[i], points[i], size)
        slopes[i] = slopes_of(inverse_depth[i], points[i], size)
    found = (len(pairs), shape[1])
    targets, correlation = np.zeros((*found, 2)), np.full(found, -1.0)
    return Tracks(pyramids, rows, columns, points, slopes, trust, pairs, targets, correlation, times)


def slopes_of(
    inverse_depth: Float[np.ndarray, "r c"], points: Float[np.ndarray, "K 2"], size: tuple[int, int]
) -> Float[np.ndarray, "K 2"]:
    """Change of the logarithm of an inverse depth map per pixel, at points of the same picture at another size."""
    level = np.log(inverse_depth).astype(np.float32)
    slopes = np.empty((len(points), 2))
    for axis, (dx, dy) in enumerate(((1, 0), (0, 1))):
        # Sobel's kernel adds up to eight times the change from one sample to the next.
        change = cv2.Sobel(level, cv2.CV_32F, dx, dy) / 8 * level.shape[1 - axis] / size[axis]
        slopes[:, axis] = sample_map(change, points, size)
    return slopes


def project(
    state: State,
    size: tuple[int, int],
    i: int,
    j: int,
    points: Float[np.ndarray, "K 2"],
    inverse_depth: Float[np.ndarray, " K"],
) -> tuple[Float[np.ndarray, "K 2"], Bool[np.ndarray, " K"]]:
    """Image coordinates in frame j of points of frame i, and whether they lie in front of it."""
    centre = np.array(size) / 2
    motion = state.w2c[j] @ geo.invert_rigid(state.w2c[i])
    optics = state.optics
    if optics is not None:
        points = optics.straightened(points[None], np.array([i]), centre)[0]
    rays = np.concatenate([(points - centre) / state.focal, np.ones((len(points), 1))], axis=1)
    seen = rays @ motion[:3, :3].T + inverse_depth[:, None] * motion[:3, 3]
    front = seen[:, 2] > 1e-3
    places = seen[:, :2] / np.where(front, seen[:, 2], 1.0)[:, None] * state.focal + centre
    return places if optics is None else optics.bent(places[None], np.array([j]), centre)[0], front


def by_flow(tracks: Tracks, flows: PairFlows) -> Places:
    """Where optical flow takes the points; nowhere for pairs without."""

    def places(i: int, j: int) -> Float[np.ndarray, "K 2"]:
        points = tracks.points[i]
        if (i, j) not in flows.fields:
            return np.full_like(points, NOWHERE)
        flow = flows.flow(i, j)
        step = np.stack([sample_map(flow[..., axis], points, tracks.size) for axis in range(2)], axis=-1)
        return points + step * tracks.size / np.array([flows.width, flows.height])

    return places


def find_again(
    tracks: Tracks,
    state: State,
    places: Places | None = None,
) -> None:
    """Look in the other frame of each pair for the points that have not been found there yet.

    Args:
        tracks: Changed in place.
        state: Cameras and inverse depths of the points, which say how patches change their shape.
        places: Where to look; None = where the cameras expect the points.
    """
    levels = tracks.pyramids.levels

    def one(e: int) -> None:
        i, j = tracks.pairs[e]
        expected, affine, fits = _expected(tracks, state, i, j)
        place = np.where(fits[:, None], expected, NOWHERE) if places is None else places(i, j)
        place = np.where(((tracks.trust[i] > TRUSTED) & ~tracks.found[e])[:, None], place, NOWHERE)
        found, correlation = place, np.full(len(place), -1.0)
        for level in reversed(range(len(levels[i]))):
            source, target = levels[i][level], levels[j][level]
            scale = np.array(source.shape[::-1]) / tracks.size
            found, correlation = align_patches(source, target, tracks.points[i] * scale, place * scale, affine, REACH)
            place = np.where((correlation > GUIDES)[:, None], found / scale, place)
        better = correlation > tracks.correlation[e]
        tracks.targets[e, better] = found[better]
        tracks.correlation[e, better] = correlation[better]

    def some(share: Int[np.ndarray, " S"]) -> None:
        for e in share:
            one(int(e))

    threads = workers(locked=0.2)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(some, np.array_split(np.arange(len(tracks.pairs)), SHARES * threads)))


def _expected(
    tracks: Tracks, state: State, i: int, j: int
) -> tuple[Float[np.ndarray, "K 2"], Float[np.ndarray, "K 2 2"], Bool[np.ndarray, " K"]]:
    """Where the cameras expect the points of frame i in frame j, how patches around them appear, and whether they do.

    A patch lies on ground that slopes as the depth around it does; where that makes no sense its shape stays as it is.
    """
    size, points, inverse_depth = tracks.size, tracks.points[i], state.inverse_depth[i]
    step = SLOPE_STEP * max(size)
    expected, fits = project(state, size, i, j, points, inverse_depth)
    affine = np.empty((len(points), 2, 2))
    for axis, offset in enumerate(np.eye(2) * step):
        change = np.clip(tracks.slopes[i, :, axis] * step, -STEEPEST, STEEPEST)
        ahead, front = project(state, size, i, j, points + offset, inverse_depth * (1.0 + change))
        behind, also = project(state, size, i, j, points - offset, inverse_depth * (1.0 - change))
        affine[:, :, axis] = (ahead - behind) / (2 * step)
        fits &= front & also
    growth = np.sqrt(np.abs(np.linalg.det(affine)))
    fits &= (growth < LARGEST_CHANGE) & (growth > 1 / LARGEST_CHANGE)
    fits &= np.abs(affine).max(axis=(1, 2)) < 2 * LARGEST_CHANGE
    affine[~fits] = np.eye(2)
    return expected, affine, fits
