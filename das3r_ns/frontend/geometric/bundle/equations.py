"""The normal equations of all frames, one after the other in memory."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int

from das3r_ns.frontend.geometric.bundle.flow_samples import Samples
from das3r_ns.frontend.geometric.bundle.optics import SHARED

BLURRED = 256
"""Frames that are blurred at once, as the channels of one picture; OpenCV allows 512."""


@dataclass(frozen=True)
class Layout:
    """Where the equations of each frame lie, L unknowns each: those of its own pose, of the frames its edges lead to,
    log focal, and P of the optics for each of these frames."""

    rows: Int[np.ndarray, " N+1"]
    """Where those of frame i begin among all R = sum of L, and where the last ones end."""
    squares: Int[np.ndarray, " N+1"]
    """The same among all S = sum of L^2."""
    index: Int[np.ndarray, " R"]
    """Place of each in the reduced system."""

    def of(self, frame: int) -> slice:
        """The rows of a frame."""
        return slice(int(self.rows[frame]), int(self.rows[frame + 1]))


def layout(samples: Samples, edges: list[slice], *, optics: bool) -> Layout:
    """Of the edges that leave each frame; ``optics``: whether frames have unknowns of their own optics."""
    focal_place = 6 * samples.num_frames
    found = []
    for i, e in enumerate(edges):
        poses = np.concatenate([[i], samples.sinks[e]])
        index = np.append((6 * poses[:, None] + np.arange(6)).ravel(), focal_place)
        if optics:
            zoom = focal_place + 1 + poses
            shared = np.broadcast_to(focal_place + 1 + samples.num_frames + np.arange(SHARED), (len(poses), SHARED))
            index = np.concatenate([index, np.column_stack([zoom, shared]).ravel()])
        found.append(index.astype(np.int64))
    sizes = np.array([len(index) for index in found])
    rows, squares = (np.concatenate([[0], np.cumsum(s)]).astype(np.int64) for s in (sizes, sizes**2))
    return Layout(rows, squares, np.concatenate(found))


@dataclass
class Equations:
    """Normal equations of the edges that leave each frame, kept for the back-substitution."""

    layout: Layout
    reduced: Float[np.ndarray, " S"]
    """J' w J of all but the inverse depths, an L x L block for each frame; once these are eliminated, without them."""
    gradient: Float[np.ndarray, " R"]
    """J' w r of the same, likewise."""
    cross: Float[np.ndarray, "R K"]
    """J' w J between those and each inverse depth."""
    depth_hessian: Float[np.ndarray, "N K"]
    """J' w J of each inverse depth."""
    depth_gradient: Float[np.ndarray, "N K"]
    """J' w r of each inverse depth."""

    @classmethod
    def empty(cls, layout: Layout, points: int) -> Equations:
        """Room for those of frames with so many points each."""
        frames, rows, squares = len(layout.rows) - 1, int(layout.rows[-1]), int(layout.squares[-1])
        depths = np.empty((2, frames, points))
        return cls(layout, np.empty(squares), np.empty(rows), np.empty((rows, points)), *depths)

    @classmethod
    def of_depths(
        cls, layout: Layout, hessian: Float[np.ndarray, "N K"], gradient: Float[np.ndarray, "N K"]
    ) -> Equations:
        """Where no other unknown moves."""
        return cls(layout, np.empty(0), np.empty(0), np.empty((0, hessian.shape[1])), hessian, gradient)

    @property
    def depths_alone(self) -> bool:
        """Whether they say nothing of any other unknown."""
        return len(self.gradient) == 0

    def depth_steps(self, step: Float[np.ndarray, " U"]) -> Float[np.ndarray, "N K"]:
        """Steps of the inverse depths that go with one of the reduced unknowns, by back-substitution."""
        if self.depths_alone:
            return -self.depth_gradient / self.depth_hessian
        moved = step[self.layout.index]
        pushed = np.empty_like(self.depth_gradient)
        for i in range(len(pushed)):
            rows = self.layout.of(i)
            np.matmul(moved[rows], self.cross[rows], out=pushed[i])
        return -(self.depth_gradient + pushed) / self.depth_hessian


def smoothed(
    samples: Samples, inverse_depth: Float[np.ndarray, "N K"], information: Float[np.ndarray, "N K"]
) -> Float[np.ndarray, "N K"]:
    """Mean inverse depth of the 3 x 3 neighbourhood, weighted by information."""
    out = np.empty_like(inverse_depth)
    for first in range(0, len(out), BLURRED):
        part = slice(first, first + BLURRED)
        weight = information[part] + 1e-3 * information[part].mean(axis=1, keepdims=True) + 1e-12
        above, below = (
            cv2.blur(
                np.ascontiguousarray(v.T).reshape(samples.rows, samples.columns, -1),
                (3, 3),
                borderType=cv2.BORDER_REFLECT,
            )
            for v in (weight * inverse_depth[part], weight)
        )
        out[part] = (above / below).reshape(out.shape[1], -1).T
    return out
