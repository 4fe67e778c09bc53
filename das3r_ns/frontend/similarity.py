"""Similarities: rotation, translation and scale, one or a stack of them; robust fits to points, and blends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation, Slerp

from das3r_ns.frontend.weighted_median import weighted_median
from das3r_ns.scene.geometry import umeyama_sim3

MAXWELL_MEDIAN = 1.538
"""Median length of a 3-vector of independent normal numbers of standard deviation 1."""


@dataclass(frozen=True)
class Sim3:
    """x -> scale * rotation @ x + translation, float64, any batch shape."""

    scale: Float[np.ndarray, "*batch"]
    rotation: Float[np.ndarray, "*batch 3 3"]
    translation: Float[np.ndarray, "*batch 3"]

    @classmethod
    def identity(cls, *batch: int) -> Sim3:
        """A stack of the given shape of similarities that change nothing."""
        return cls(np.ones(batch), np.broadcast_to(np.eye(3), (*batch, 3, 3)).copy(), np.zeros((*batch, 3)))

    @classmethod
    def from_rigid(cls, pose: Float[np.ndarray, "*batch 4 4"]) -> Sim3:
        """Rigid motions, at scale 1."""
        rotation, translation = np.asarray(pose[..., :3, :3], np.float64), np.asarray(pose[..., :3, 3], np.float64)
        return cls(np.ones(pose.shape[:-2]), rotation, translation)

    def __getitem__(self, index: Any) -> Sim3:
        """Some of the stack, along its batch axes."""
        return Sim3(self.scale[index], self.rotation[index], self.translation[index])

    def __matmul__(self, first: Sim3) -> Sim3:
        """``first``, and this one after it."""
        return Sim3(self.scale * first.scale, self.rotation @ first.rotation, self.apply(first.translation))

    def inverse(self) -> Sim3:
        """The one that undoes this one."""
        rotation = np.swapaxes(self.rotation, -1, -2)
        scale = 1.0 / self.scale
        moved = np.einsum("...ij,...j->...i", rotation, self.translation)
        return Sim3(scale, rotation, -scale[..., None] * moved)

    def apply(self, points: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3"]:
        """Move one point per similarity."""
        return self.scale[..., None] * np.einsum("...ij,...j->...i", self.rotation, points) + self.translation

    def apply_many(self, points: Float[np.ndarray, "*batch K 3"]) -> Float[np.ndarray, "*batch K 3"]:
        """Move K points per similarity."""
        moved = points @ np.swapaxes(self.rotation, -1, -2)
        return self.scale[..., None, None] * moved + self.translation[..., None, :]

    def apply_to_cameras(self, c2w: Float[np.ndarray, "*batch 4 4"]) -> Float[np.ndarray, "*batch 4 4"]:
        """Camera-to-world matrices in the world that this similarity leads to; they stay rigid."""
        moved = np.array(np.broadcast_to(c2w, np.broadcast_shapes(c2w.shape, (*self.scale.shape, 4, 4))), np.float64)
        moved[..., :3, :3] = self.rotation @ c2w[..., :3, :3]
        moved[..., :3, 3] = self.apply(c2w[..., :3, 3])
        return moved

    def matrix(self) -> Float[np.ndarray, "*batch 4 4"]:
        """Homogeneous matrices."""
        out = np.zeros((*self.scale.shape, 4, 4))
        out[..., :3, :3] = self.scale[..., None, None] * self.rotation
        out[..., :3, 3] = self.translation
        out[..., 3, 3] = 1.0
        return out

    def step(self, tangent: Float[np.ndarray, "*batch 7"]) -> Sim3:
        """Moved a little on the left: translation, rotation vector and log scale, in the space this leads to."""
        turn = Rotation.from_rotvec(tangent[..., 3:6].reshape(-1, 3)).as_matrix().reshape(self.rotation.shape)
        return Sim3(np.exp(tangent[..., 6]), turn, tangent[..., :3]) @ self


def fit_similarity(
    source: Float[np.ndarray, "*batch K 3"],
    target: Float[np.ndarray, "*batch K 3"],
    weights: Float[np.ndarray, "*batch K"],
    rounds: int = 5,
) -> tuple[Sim3, Float[np.ndarray, "*batch K"]]:
    """Robust similarity that takes source to target: weighted Umeyama, reweighted towards the least sum of distances.

    The last two rounds leave out (Geman and McClure) what is beyond about three times the noise that the median shows.

    Returns:
        The similarity and the distances that remain, in units of the target.
    """
    current = weights
    fit, distance = Sim3.identity(*source.shape[:-2]), np.zeros(weights.shape)
    for k in range(rounds + 1):
        fit = Sim3(*umeyama_sim3(source, target, current))
        distance = np.linalg.norm(fit.apply_many(source) - target, axis=-1)
        noise = np.maximum(weighted_median(distance, weights) / MAXWELL_MEDIAN, 1e-12)[..., None]
        if k < rounds - 2:
            current = weights / np.maximum(distance, 0.3 * noise)
        else:
            current = weights / (1.0 + (distance / (3.0 * noise)) ** 2) ** 2
    return fit, distance


def register_points(
    points: Float[np.ndarray, "K 3"], goals: Float[np.ndarray, "K 3"], weights: Float[np.ndarray, " K"]
) -> tuple[Sim3, float]:
    """Similarity from one world to another, by points that are known in both.

    Args:
        points: Where they lie in the first.
        goals: Where they lie in the second.
        weights: How far each is to be believed.

    Returns:
        The similarity, and the weighted median distance that remains as a share of the extent of the goals.
    """
    fit, distance = fit_similarity(points, goals, weights, rounds=8)
    middle = np.median(goals, axis=0)
    extent = max(float(np.median(np.linalg.norm(goals - middle, axis=1))), 1e-12)
    return fit, float(weighted_median(distance, weights)) / extent


def blended_camera(
    old: Float[np.ndarray, "4 4"], new: Float[np.ndarray, "4 4"], share: float
) -> Float[np.ndarray, "4 4"]:
    """A camera-to-world matrix on the way from one to another: 0 is the old one, 1 the new."""
    if share >= 1.0:
        return new
    blend = old.copy()
    blend[:3, 3] = (1 - share) * old[:3, 3] + share * new[:3, 3]
    blend[:3, :3] = Slerp([0, 1], Rotation.from_matrix(np.stack([old[:3, :3], new[:3, :3]])))(share).as_matrix()
    return blend
