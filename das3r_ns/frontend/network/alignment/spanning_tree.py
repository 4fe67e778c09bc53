"""Where the alignment starts: pairs placed one after the other along a spanning tree that garbage cannot enter.

The tree is that of DUSt3R (Wang et al., CVPR 2024, section 3.4): of all trees that reach every frame, the one of most
confidence. A network may be confident of nonsense, so confidence counts only as far as others say the same: a frame
looks alike, up to a similarity, in every pair that shows it, and a pair looks like its mirror.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

from das3r_ns.frontend.network.alignment.prediction_samples import Samples
from das3r_ns.frontend.network.alignment.unknowns import State
from das3r_ns.frontend.pairs import Pair
from das3r_ns.frontend.similarity import Sim3, fit_similarity
from das3r_ns.frontend.weighted_median import weighted_median
from das3r_ns.scene import geometry as geo

START_SAMPLES = 256
"""Pixels of a frame that are enough to compare pairs."""

NO_DISTORTION = np.zeros(4)

WORSE = 2.5
"""Multiple of the usual disagreement at which a prediction counts a quarter."""


def pair_quality(samples: Samples) -> Float[np.ndarray, " E"]:
    """How far each pair is borne out by others, 0 to 1.

    Args:
        samples: Few pixels suffice.
    """
    own = np.full((len(samples.pairs), 2), np.nan)
    for views in samples.views:
        if len(views) < 2:
            continue
        edge, side = np.array(views).T
        points, weights = samples.points[edge, side], samples.weights[edge, side]
        m = len(views)
        both = np.sqrt(weights[:, None] * weights[None])
        shape = (m, m, *points.shape[1:])
        source, target = np.broadcast_to(points[None], shape), np.broadcast_to(points[:, None], shape)
        _, distance = fit_similarity(source, target, both)
        error = weighted_median(distance, both) / _extent(points)[:, None]
        error = np.maximum(error, error.T)
        np.fill_diagonal(error, np.nan)
        own[edge, side] = np.nanmedian(error, axis=1)
    return _believed(np.nan_to_num(own, nan=0.0)).min(axis=1) * _believed(_mirror_error(samples))


def _believed(error: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Falls from 1 where an error is out of the ordinary; errors of zero are not known."""
    known = error[error > 0]
    usual = float(np.median(known)) if known.size else 1.0
    return 1.0 / (1.0 + (error / (WORSE * usual)) ** 4) ** 2


def _extent(points: Float[np.ndarray, "*n K 3"]) -> Float[np.ndarray, "*n"]:
    """Median distance of points from their median."""
    middle = np.median(points, axis=-2, keepdims=True)
    return np.maximum(np.median(np.linalg.norm(points - middle, axis=-1), axis=-1), 1e-12)


def _mirror_error(samples: Samples) -> Float[np.ndarray, " E"]:
    """How far each pair differs from its mirror, relative to its extent; 0 where it has none."""
    number = {pair: e for e, pair in enumerate(samples.pairs)}
    mirrored = [(e, number[j, i]) for e, (i, j) in enumerate(samples.pairs) if (j, i) in number]
    error = np.zeros(len(samples.pairs))
    if not mirrored:
        return error
    edge, mirror = np.array(mirrored).T
    count = samples.points.shape[2]
    source = samples.points[mirror][:, ::-1].reshape(len(edge), 2 * count, 3)
    target = samples.points[edge].reshape(len(edge), 2 * count, 3)
    both = np.sqrt(samples.weights[mirror][:, ::-1] * samples.weights[edge])
    _, distance = fit_similarity(source, target, both.reshape(len(edge), -1))
    # By view, and the worse of them: one may be right and the other elsewhere.
    by_view = weighted_median(distance.reshape(-1, 2, count), both)
    error[edge] = by_view.max(axis=1) / _extent(target)
    return error


def spanning_tree(samples: Samples, quality: Float[np.ndarray, " E"]) -> list[tuple[int, int]]:
    """The most confident tree over all frames, in the order in which it grows.

    Args:
        samples: Of all pairs.
        quality: How far each is to be believed, 0 to 1.

    Returns:
        (pair, view that is already placed), by number; of the first both are new.
    """
    confidence = samples.weights.mean(axis=2)
    score = np.maximum(quality, 1e-9) * confidence.prod(axis=1)
    best: dict[Pair, int] = {}
    for e, (i, j) in enumerate(samples.pairs):
        link = (min(i, j), max(i, j))
        if link not in best or score[e] > score[best[link]]:
            best[link] = e
    links = np.array(list(best))
    cost = 1.0 / np.maximum(score[list(best.values())], 1e-12)
    n = samples.num_frames
    tree = minimum_spanning_tree(coo_matrix((cost, tuple(links.T)), shape=(n, n)))
    first = min((cost[k], e) for k, e in enumerate(best.values()))[1]
    order, parent = breadth_first_order(tree, samples.pairs[first][0], directed=False)
    grown = []
    for frame in order[1:]:
        above = int(parent[frame])
        edge = best[min(above, int(frame)), max(above, int(frame))]
        grown.append((edge, samples.pairs[edge].index(above)))
    return grown


def place_frames(samples: Samples, tree: list[tuple[int, int]]) -> Float[np.ndarray, "N K 3"]:
    """World points of every frame, along the tree; the world is the frame of the tree's first pair."""
    world = np.zeros((samples.num_frames, *samples.points.shape[2:]))
    trust = np.zeros(world.shape[:2])
    for k, (edge, side) in enumerate(tree):
        old, new = samples.pairs[edge][side], samples.pairs[edge][1 - side]
        points, weights = samples.points[edge], samples.weights[edge]
        if k == 0:
            world[old], trust[old] = points[side], weights[side]
        fit, _ = fit_similarity(points[side], world[old], np.sqrt(weights[side] * trust[old]))
        world[new], trust[new] = fit.apply_many(points[1 - side]), weights[1 - side]
    return world


def weiszfeld_focal(
    slope: Float[np.ndarray, "E K 2"],
    offsets: Float[np.ndarray, "K 2"],
    weights: Float[np.ndarray, "E K"],
    closest: float,
) -> Float[np.ndarray, " E"]:
    """Focal of least weighted sum of distances between ``focal * slope`` and ``offsets`` (Weiszfeld's iteration, 1937).

    Args:
        slope: x / z and y / z of points.
        offsets: Their pixels, from the principal point.
        weights: Of each.
        closest: Pixels below which a distance is not told from zero.
    """
    current = weights
    focal = np.ones(len(slope))
    for _ in range(11):  # the first is the closed form of least squares
        norm = np.einsum("ek,ekc,ekc->e", current, slope, slope)
        focal = np.einsum("ek,ekc,kc->e", current, slope, offsets) / np.maximum(norm, 1e-12)
        away = np.linalg.norm(offsets - focal[:, None, None] * slope, axis=-1)
        current = weights / np.maximum(away, closest)
    return focal


def estimate_focal(samples: Samples, quality: Float[np.ndarray, " E"]) -> Float[np.ndarray, " N"]:
    """Focal of every frame from the points of the pairs where it is view 1.

    A frame that is never view 1 has the median of the others.
    """
    points, weights = samples.points[:, 0], samples.weights[:, 0]
    weights = np.where(points[..., 2] > geo.MIN_DEPTH, weights, 0.0)
    slope = points[..., :2] / np.maximum(points[..., 2:], geo.MIN_DEPTH)
    focal = weiszfeld_focal(slope, samples.offsets, weights, 0.05)
    size = float(np.abs(samples.offsets).max())
    focal = np.clip(focal, 0.5 * size, 20.0 * size)
    everything = float(weighted_median(focal, quality * weights.mean(axis=1)))
    out = np.full(samples.num_frames, everything)
    for n, views in enumerate(samples.views):
        edges = [e for e, side in views if side == 0]
        if edges:
            out[n] = weighted_median(focal[edges], quality[edges])
    return out


def first_state(samples: Samples, per_frame_focal: bool, known_focal: Float[np.ndarray, " N"] | None) -> State:
    """A start for the cameras, the pairs and the depth of the samples.

    Args:
        samples: Of all pairs.
        per_frame_focal: Whether frames may have focals of their own.
        known_focal: The user's own focals.
    """
    few = samples.subset(START_SAMPLES)
    quality = pair_quality(few)
    world = place_frames(few, spanning_tree(few, quality))
    edges, count = len(few.pairs), few.points.shape[2]
    target = world[few.frames].reshape(edges, 2 * count, 3)
    weights = few.weights.reshape(edges, 2 * count)
    world_from_pair, distance = fit_similarity(few.points.reshape(edges, 2 * count, 3), target, weights)
    world_from_pair = _sane(world_from_pair)
    error = weighted_median(distance, weights) / _extent(target)
    trusted = quality * _believed(error)
    focals = estimate_focal(few, trusted)
    if known_focal is not None:
        focals = known_focal
    elif not per_frame_focal:
        focals = np.full(len(focals), weighted_median(focals, np.ones(len(focals))))
    c2w = _first_cameras(few, world_from_pair, world, focals, trusted)
    depth = closed_form_depth(samples, c2w, focals, world_from_pair, trusted)
    return State(c2w, focals, depth, world_from_pair.inverse())


def _sane(world_from_pair: Sim3) -> Sim3:
    """Scales of garbage may come out as nothing at all, which has no inverse."""
    usual = float(np.median(world_from_pair.scale))
    scale = np.clip(world_from_pair.scale, 1e-3 * usual, 1e3 * usual)
    return Sim3(scale, world_from_pair.rotation, world_from_pair.translation)


def _first_cameras(
    samples: Samples,
    world_from_pair: Sim3,
    world: Float[np.ndarray, "N K 3"],
    focals: Float[np.ndarray, " N"],
    trusted: Float[np.ndarray, " E"],
) -> Float[np.ndarray, "N 4 4"]:
    """The camera of view 1 is the origin of the pair's frame; a frame that is only ever view 2 is found by PnP."""
    c2w = np.tile(np.eye(4), (samples.num_frames, 1, 1))
    for n, views in enumerate(samples.views):
        edges = [e for e, side in views if side == 0]
        if edges:
            best = edges[int(np.argmax(trusted[edges]))]
            c2w[n, :3, :3], c2w[n, :3, 3] = world_from_pair.rotation[best], world_from_pair.translation[best]
        else:
            c2w[n] = _camera_of_points(world[n], samples.offsets, float(focals[n]))
    return c2w


def _camera_of_points(
    world: Float[np.ndarray, "K 3"], offsets: Float[np.ndarray, "K 2"], focal: float
) -> Float[np.ndarray, "4 4"]:
    """Camera that sees points at given places, by RANSAC PnP (SQPnP); the identity where there is none."""
    cv2.setRNGSeed(0)
    pinhole = np.array([[focal, 0, 0], [0, focal, 0], [0, 0, 1.0]])
    bound = max(2.0, 0.01 * float(np.abs(offsets).max()))
    found, turn, translation, _ = cv2.solvePnPRansac(
        world, offsets, pinhole, NO_DISTORTION, iterationsCount=100, reprojectionError=bound, flags=cv2.SOLVEPNP_SQPNP
    )
    w2c = np.eye(4)
    if found and np.isfinite(translation).all() and np.isfinite(turn).all():
        w2c[:3, :3], w2c[:3, 3] = cv2.Rodrigues(turn)[0], translation[:, 0]
    return geo.invert_rigid(w2c)


def closed_form_depth(
    samples: Samples,
    c2w: Float[np.ndarray, "N 4 4"],
    focals: Float[np.ndarray, " N"],
    world_from_pair: Sim3,
    trusted: Float[np.ndarray, " E"],
) -> Float[np.ndarray, "N K"]:
    """Median over the pairs of the depth that each gives a sample; positive everywhere."""
    w2c = geo.invert_rigid(c2w)
    depth = np.ones((samples.num_frames, len(samples.offsets)))
    for n, views in enumerate(samples.views):
        if not views:
            continue
        edge, side = np.array(views).T
        camera = (Sim3.from_rigid(w2c[n]) @ world_from_pair[edge]).apply_many(samples.points[edge, side])
        weights = samples.weights[edge, side] * (trusted[edge, None] + 1e-6)
        depth[n] = weighted_median(camera[..., 2].T, weights.T)
    return floor_depth(depth)


def floor_depth(depth: Float[np.ndarray, "N K"]) -> Float[np.ndarray, "N K"]:
    """No depth below a hundredth of what is usual in its frame, so that none is zero or behind the camera."""
    positive = np.where(depth > 0, depth, np.nan)
    usual = float(np.nanmedian(positive)) if np.isfinite(positive).any() else 1.0
    with np.errstate(all="ignore"):
        of_frame = np.array([np.nanmedian(row) if np.isfinite(row).any() else usual for row in positive])
    return np.maximum(depth, 0.01 * of_frame[:, None])
