"""DAS3R's start of the alignment: a spanning tree by confidence alone, its quirk with the focals included.

Rewritten from a description of its behaviour, for comparison;
:mod:`das3r_ns.frontend.network.alignment.spanning_tree` is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.transform import Rotation

from das3r_ns.frontend.network.alignment.depth_fusion import fuse_confidence
from das3r_ns.frontend.network.alignment.spanning_tree import NO_DISTORTION, weiszfeld_focal
from das3r_ns.frontend.network.predictions import PairPredictions
from das3r_ns.frontend.pairs import Pair
from das3r_ns.frontend.similarity import Sim3
from das3r_ns.scene import geometry as geo
from das3r_ns.scene.geometry import umeyama_sim3

BASE_SCALE = 0.5
"""Geometric mean of the scales of the pairs, held there all along."""

CONFIDENT = 3.0
"""Raw confidence of the pixels that PnP takes."""


@dataclass
class OfficialStart:
    """World points, cameras and focals along the tree, and the pairs registered to them."""

    tree: list[Pair]
    """The pairs in the order in which they were used."""
    world: Float[np.ndarray, "N P 3"]
    c2w: Float[np.ndarray, "N 4 4"]
    focals: Float[np.ndarray, " N"]
    world_from_pair: Sim3


def official_start(predictions: PairPredictions) -> OfficialStart:
    """Place all frames as DAS3R does."""
    height, width, n = predictions.height, predictions.width, predictions.num_frames
    points = [x.double().reshape(len(x), -1, 3).cpu().numpy() for x in (predictions.points1, predictions.points2)]
    trust = [x.double().reshape(len(x), -1).cpu().numpy() for x in (predictions.confidence1, predictions.confidence2)]
    number = {pair: e for e, pair in enumerate(predictions.pairs)}
    score = trust[0].mean(axis=1) * trust[1].mean(axis=1)
    rows, columns = np.array(predictions.pairs).T
    tree = minimum_spanning_tree(coo_matrix((-score, (rows, columns)), shape=(n, n))).tocoo()
    queue = sorted(zip(-tree.data, tree.row.tolist(), tree.col.tolist(), strict=True))

    u, v = np.meshgrid(np.arange(width) - width / 2, np.arange(height) - height / 2)
    offsets = np.stack([u, v], axis=-1).reshape(-1, 2)
    world, placed = np.zeros((n, height * width, 3)), set[int]()
    poses: list[np.ndarray | None] = [None] * n
    focals: list[float | None] = [None] * n
    _, i, j = queue.pop()
    last, used = number[i, j], [(i, j)]
    world[i], world[j], poses[i] = points[0][last], points[1][last], np.eye(4)
    focals[i] = _focal(points[0][last], offsets)
    placed |= {i, j}
    while queue:
        worth, i, j = queue.pop()
        if focals[i] is None:
            focals[i] = _focal(points[0][last], offsets)  # the quirk: of the pair before
        if i not in placed and j not in placed:
            queue.insert(0, (worth, i, j))
            continue
        last = number[i, j]
        used.append((i, j))
        side, old, new = (0, i, j) if i in placed else (1, j, i)
        fit = Sim3(*umeyama_sim3(points[side][last], world[old], trust[side][last]))
        world[new] = fit.apply_many(points[1 - side][last])
        placed.add(new)
        if poses[i] is None:
            poses[i] = Sim3(np.ones(()), fit.rotation, fit.translation).matrix()
    for e in np.argsort(-score, kind="stable"):
        i = predictions.pairs[e][0]
        if focals[i] is None:
            focals[i] = _focal(points[0][e], offsets)
    confident = fuse_confidence(predictions).reshape(n, -1) > CONFIDENT
    c2w = np.stack([_pnp(world[k], offsets, confident[k], focals[k]) if p is None else p for k, p in enumerate(poses)])
    fits = Sim3(*umeyama_sim3(points[0], world[rows], trust[0]))
    given = np.array([np.nan if f is None else f for f in focals])
    return OfficialStart(used, world, c2w, np.where(np.isnan(given), np.nanmean(given), given), fits)


def _focal(points: Float[np.ndarray, "P 3"], offsets: Float[np.ndarray, "P 2"]) -> float:
    with np.errstate(all="ignore"):
        slope = np.nan_to_num(points[:, :2] / points[:, 2:], posinf=0.0, neginf=0.0)
    return float(weiszfeld_focal(slope[None], offsets, np.ones((1, len(points))), 1e-8)[0])


def _pnp(
    world: Float[np.ndarray, "P 3"], offsets: Float[np.ndarray, "P 2"], keep: np.ndarray, focal: float | None
) -> Float[np.ndarray, "4 4"]:
    """RANSAC PnP of the confident pixels; the identity where it fails."""
    if focal is None or keep.sum() < 4:
        return np.eye(4)
    pinhole = np.array([[focal, 0, 0], [0, focal, 0], [0, 0, 1.0]])
    cv2.setRNGSeed(0)
    found, turn, translation, _ = cv2.solvePnPRansac(
        world[keep].astype(np.float32),
        offsets[keep].astype(np.float32),
        pinhole.astype(np.float32),
        NO_DISTORTION,
        iterationsCount=10,
        reprojectionError=5,
        flags=cv2.SOLVEPNP_SQPNP,
    )
    w2c = np.eye(4)
    if found:
        w2c[:3, :3], w2c[:3, 3] = cv2.Rodrigues(turn)[0], translation[:, 0]
    return geo.invert_rigid(w2c)


def official_parameters(
    start: OfficialStart, shared_focal: bool, height: int, width: int
) -> dict[str, Float[torch.Tensor, "..."]]:
    """The start in the official parametrisation, float32.

    ``im_depthmaps`` [N, H W] log depth; ``im_focals`` [1 or N, 1] 20 ln(focal); ``im_poses`` [N, 7] quaternion (scalar
    last) and signed log(1 + |translation|), camera-to-world; ``pw_poses`` [E, 8] the same and log scale, where the
    scale multiplies the translation too.
    """
    fits = start.world_from_pair
    factor = float(np.exp(np.log(BASE_SCALE) - np.log(fits.scale).mean()))
    c2w = start.c2w.copy()
    c2w[:, :3, 3] *= factor
    depth = (geo.invert_rigid(c2w)[:, None, 2, :3] @ np.swapaxes(factor * start.world, 1, 2))[:, 0]
    depth = depth + geo.invert_rigid(c2w)[:, 2, 3, None]
    log_depth = np.where(depth > 0, np.log(np.where(depth > 0, depth, 1.0)), 0.0)
    focals = np.array([start.focals.mean()]) if shared_focal else start.focals
    scale = fits.scale * factor
    pairs = [_quaternion(fits.rotation), _signed_log1p(fits.translation * factor / scale[:, None])]
    values = {
        "im_depthmaps": log_depth.reshape(len(c2w), height * width),
        "im_focals": 20 * np.log(focals)[:, None],
        "im_poses": np.concatenate([_quaternion(c2w[:, :3, :3]), _signed_log1p(c2w[:, :3, 3])], axis=1),
        "pw_poses": np.concatenate([*pairs, np.log(fits.scale)[:, None]], axis=1),
    }
    return {name: torch.tensor(value, dtype=torch.float32) for name, value in values.items()}


def _quaternion(rotation: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "n 4"]:
    return Rotation.from_matrix(rotation).as_quat()


def _signed_log1p(value: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    return np.sign(value) * np.log1p(np.abs(value))
