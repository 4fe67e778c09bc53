"""Whether a camera comes back to where it has been, as far as its own path can tell."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from das3r_ns.scene import geometry as geo

LEFT = 0.1
"""Share of the points of a frame below which another one does not show its place any more."""

NEARLY = 0.5
"""Distance, in median depths of a frame, within which another camera shows much of the same."""

DRIFT = 0.2
"""Share of the way between two frames by which a path may be off at its end. Once round a block, by windows of optical
flow, it was 5 % in the mean over all frames."""

TURNED, TURN_DRIFT = np.radians(45.0), 0.1
"""Angle between the directions of view within which two cameras have much of the picture in common, and the share of
all turning between them by which it may be off: a wrong focal stretches turns."""


def may_meet(
    c2w_cv: Float[np.ndarray, "N 4 4"],
    intrinsics: Float[np.ndarray, "N 3 3"],
    size: tuple[int, int],
    points: Float[np.ndarray, "N K 2"],
    depth: Float[np.ndarray, "N K"],
    apart: int,
) -> Bool[np.ndarray, "N N"]:
    """Pairs of frames i < j between which the camera went elsewhere, and which may see the same place again.

    Occlusion is not looked at, and drift is allowed for: what is False here needs no look at the pictures.

    Args:
        c2w_cv: Cameras to world.
        intrinsics: Pinhole matrices.
        size: Width and height of the picture.
        points: Some image coordinates of each frame.
        depth: Camera z there.
        apart: How many frames must lie between i and j at least.
    """
    count = len(c2w_cv)
    gone = _gone(c2w_cv, intrinsics, size, points, depth)
    i, j = np.indices((count, count))
    # Somewhere between the two there is a frame that shows neither's place.
    first = np.where(np.triu(gone, 1).any(axis=1), np.argmax(np.triu(gone, 1), axis=1), count)
    before = np.tril(gone, -1)
    last = np.where(before.any(axis=1), count - 1 - np.argmax(before[:, ::-1], axis=1), -1)
    left = (first[:, None] < j) & (last[None] > i)
    centres, turns = c2w_cv[:, :3, 3], Rotation.from_matrix(c2w_cv[:, :3, :3])
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(centres, axis=0), axis=1))])
    turning = np.concatenate([[0.0], np.cumsum((turns[:-1].inv() * turns[1:]).magnitude())])
    distance = np.linalg.norm(centres[:, None] - centres, axis=-1)
    view = c2w_cv[:, :3, 2]
    angle = np.arccos(np.clip(view @ view.T, -1.0, 1.0))
    reach = NEARLY * np.median(depth, axis=1)[:, None] + DRIFT * np.abs(way[:, None] - way)
    facing = angle < TURNED + TURN_DRIFT * np.abs(turning[:, None] - turning)
    return left & (distance < reach) & facing & (j - i > apart)


def nearest(c2w_cv: Float[np.ndarray, "N 4 4"], may: Bool[np.ndarray, "N N"]) -> tuple[int, int] | None:
    """Of the pairs that may meet the one whose cameras are nearest to each other; None = no pair may."""
    if not may.any():
        return None
    centres = c2w_cv[:, :3, 3]
    distance = np.where(may, np.linalg.norm(centres[:, None] - centres, axis=-1), np.inf)
    first, second = np.unravel_index(int(distance.argmin()), distance.shape)
    return int(first), int(second)


def _gone(
    c2w_cv: Float[np.ndarray, "N 4 4"],
    intrinsics: Float[np.ndarray, "N 3 3"],
    size: tuple[int, int],
    points: Float[np.ndarray, "N K 2"],
    depth: Float[np.ndarray, "N K"],
) -> Bool[np.ndarray, "N N"]:
    """Whether frame j shows hardly any of the points of frame i, wherever they are hidden."""
    gone = np.zeros((len(c2w_cv), len(c2w_cv)), bool)
    w2c = geo.invert_rigid(c2w_cv)
    for i, pose in enumerate(c2w_cv):
        world = geo.transform_points(pose, geo.unproject(points[i], depth[i], intrinsics[i]))
        there = world @ w2c[:, :3, :3].swapaxes(1, 2) + w2c[:, None, :3, 3]
        front = there[..., 2] > 1e-3 * depth[i].min()
        seen = there @ intrinsics.swapaxes(1, 2)
        pixels = seen[..., :2] / np.where(front, seen[..., 2], 1.0)[..., None]
        gone[i] = (front & (pixels > 0).all(axis=-1) & (pixels < size).all(axis=-1)).mean(axis=1) < LEFT
    return gone
