"""Cameras placed by keypoints."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import least_squares

from das3r_ns.frontend.geometric.bundle.state import State
from das3r_ns.frontend.geometric.points.pyramids import Pyramids, sample_map
from das3r_ns.frontend.weighted_median import weighted_median
from das3r_ns.scene import geometry as geo
from das3r_ns.video.sift import distinct_matches, find_keypoints

NUMBER = 4096
"""Keypoints of a frame, at most."""

CONTRAST = 0.01
"""Of a keypoint, as OpenCV's SIFT has it: a quarter of its default, for faint ones that fit are welcome."""

STAYS = 0.5
"""Probability of being static from which a keypoint counts."""

NEAR = 2.0
"""Pixels, in 1/427 of the longer side, up to which a keypoint lies where it is expected."""

TRIES = 5000
"""Poses that are tried, at most."""

FEWEST = 12
"""Keypoints that must agree on a pose."""

FARTHEST = 0.01
"""Inverse depth of what is farthest away, in medians. What is as far as that says how the camera turns and no more;
farther still it would say where the camera is by the errors of its direction."""

SPREAD = 0.5
"""Scale of the robust loss of a pose, in the same pixels."""


@dataclass
class Keypoints:
    """Keypoints of some frames, at the size of the video, and their matches, computed once they are asked for."""

    pyramids: Pyramids
    static_weight: Float[np.ndarray, "N h w"] | None = None
    """Probability that each pixel is static, at any resolution; None = not known."""
    _of: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    _matches: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)

    @property
    def unit(self) -> float:
        """Pixels of the finest level per pixel of a picture whose longer side has 427, for which bounds are meant."""
        return max(self.pyramids.size) / 427

    def places(self, i: int) -> Float[np.ndarray, "K 2"]:
        """Image coordinates of those of a frame, in pixels of the finest level."""
        return self._features(i)[0]

    def matches(self, i: int, j: int) -> Int[np.ndarray, "M 2"]:
        """Numbers of those of frame i and of frame j that are each other's best match, and distinct."""
        if (j, i) in self._matches:
            return self._matches[j, i][:, ::-1]
        if (i, j) not in self._matches:
            here, there = self._features(i)[1], self._features(j)[1]
            first, second = distinct_matches(here, there)
            if len(first):
                back = np.array([match.trainIdx for match in cv2.BFMatcher().match(there, here)])
                mutual = back[second] == first
                first, second = first[mutual], second[mutual]
            self._matches[i, j] = np.stack([first, second], axis=1)
        return self._matches[i, j]

    def _features(self, i: int) -> tuple[Float[np.ndarray, "K 2"], Float[np.ndarray, "K 128"]]:
        if i not in self._of:
            found, descriptors = find_keypoints(self.pyramids.levels[i][0], NUMBER, CONTRAST)
            places = found.astype(np.float64) + 0.5
            if self.static_weight is not None and len(places):
                stays = sample_map(self.static_weight[i], places, self.pyramids.size) > STAYS
                places, descriptors = places[stays], descriptors[stays]
            self._of[i] = places, descriptors
        return self._of[i]


def pose_by_keypoints(
    keypoints: Keypoints, state: State, new: int, known: list[int]
) -> Float[np.ndarray, "4 4"] | None:
    """Place a frame by the keypoints that it shares with others, whose cameras are known (RANSAC, SQPnP).

    Args:
        keypoints: Of all frames.
        state: The cameras, without optics; their focal is that of the new frame, too.
        new: The frame to place.
        known: Those whose cameras are known.

    Returns:
        World-to-camera, OpenCV axes; None where too few keypoints agree.
    """
    world, places = [], []
    for i in known:
        matches = keypoints.matches(i, new)
        points, sure = _in_space(keypoints, state, i, matches[:, 0], known)
        world.append(points[sure])
        places.append(keypoints.places(new)[matches[sure, 1]])
    world, places = np.concatenate(world), np.concatenate(places)
    if len(world) < FEWEST:
        return None
    unit, pinhole = keypoints.unit, np.diag([state.focal, state.focal, 1.0])
    offsets = places - np.array(keypoints.pyramids.size) / 2
    cv2.setRNGSeed(0)
    found, turn, translation, agree = cv2.solvePnPRansac(
        world,
        offsets,
        pinhole,
        np.zeros(4),
        iterationsCount=TRIES,
        reprojectionError=NEAR * unit,
        confidence=0.9999,
        flags=cv2.SOLVEPNP_SQPNP,
    )
    if not found or agree is None or len(agree) < FEWEST:
        return None
    w2c = _refined(world, offsets, state.focal, np.concatenate([turn, translation])[:, 0], SPREAD * unit)
    return w2c if np.isfinite(w2c).all() else None


def _refined(
    world: Float[np.ndarray, "M 3"],
    offsets: Float[np.ndarray, "M 2"],
    focal: float,
    start: Float[np.ndarray, " 6"],
    spread: float,
) -> Float[np.ndarray, "4 4"]:
    """The pose near another one under which points are seen in the right direction; blunders hardly count (Cauchy).

    Args:
        world: The points.
        offsets: Where they are seen, in pixels from the centre of the picture.
        focal: In the same pixels.
        start: Rotation vector and translation, world to camera.
        spread: Scale of the loss, in pixels.
    """

    def pose(values: np.ndarray) -> np.ndarray:
        w2c = np.eye(4)
        w2c[:3, :3], w2c[:3, 3] = cv2.Rodrigues(values[:3])[0], values[3:]
        return w2c

    def off(values: np.ndarray) -> np.ndarray:
        seen = geo.transform_points(pose(values), world)
        places = focal * seen[:, :2] / np.maximum(seen[:, 2:], 1e-6)
        return np.clip(places - offsets, -10.0 * focal, 10.0 * focal).ravel()

    return pose(least_squares(off, start, loss="cauchy", f_scale=spread, x_scale="jac", max_nfev=50).x)


def _in_space(
    keypoints: Keypoints, state: State, i: int, numbers: Int[np.ndarray, " M"], known: list[int]
) -> tuple[Float[np.ndarray, "M 3"], Bool[np.ndarray, " M"]]:
    """Where some keypoints of a frame lie in the world, and whether other frames agree on it."""
    others = [j for j in known if j != i]
    centre, focal = np.array(keypoints.pyramids.size) / 2, state.focal
    rays = np.concatenate([(keypoints.places(i)[numbers] - centre) / focal, np.ones((len(numbers), 1))], axis=1)
    seen = np.full((len(others), len(numbers), 2), np.nan)
    for n, j in enumerate(others):
        matches = keypoints.matches(i, j)
        partner = np.full(len(keypoints.places(i)), -1)
        partner[matches[:, 0]] = matches[:, 1]
        there = partner[numbers]
        seen[n, there >= 0] = (keypoints.places(j)[there[there >= 0]] - centre) / focal
    motion = state.w2c[others] @ geo.invert_rigid(state.w2c[i])
    turned, shift = rays @ motion[:, :3, :3].transpose(0, 2, 1), motion[:, None, :3, 3]
    # What a match says of the inverse depth along the ray: that the point, seen from there, lies where it was found.
    slope = shift[..., :2] - seen * shift[..., 2:]
    missing = seen * turned[..., 2:] - turned[..., :2]
    there = np.isfinite(seen[..., 0])
    worth = np.where(there, (slope**2).sum(axis=-1), 0.0)
    says = np.where(worth > 0, (slope * missing).sum(axis=-1) / np.maximum(worth, 1e-300), 0.0)
    inverse_depth = weighted_median(says.T, worth.T) if others else np.zeros(len(numbers))
    inverse_depth = np.maximum(inverse_depth, FARTHEST * float(np.median(state.inverse_depth)))
    at = turned + inverse_depth[:, None] * shift
    front = at[..., 2] > 1e-6
    off = np.linalg.norm(at[..., :2] / np.where(front, at[..., 2], 1.0)[..., None] - seen, axis=-1) * focal
    near = front & (np.nan_to_num(off, nan=np.inf) < NEAR * keypoints.unit)
    world = geo.transform_points(geo.invert_rigid(state.w2c[i]), rays / inverse_depth[:, None])
    return world, (near.sum(axis=0) > 0) & (2 * near.sum(axis=0) > there.sum(axis=0))
