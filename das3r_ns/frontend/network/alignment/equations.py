"""Normal equations of the alignment, the depths eliminated frame by frame, in a banded matrix.

Residuals are taken where the noise is: a pair predicts x where the scene has T_e(P_n(D ray)), with T_e the similarity
from the world to the pair, P_n the camera and D the depth. The weight of x is that of a relative error, lnc / z^2, with
the predicted depth z held fixed during a step; divided by z itself the error could be made small by moving all cameras
away. Nothing is gained by shrinking anything, so the scale needs no term to hold it.

Poses move on the right (in camera axes: translation, then rotation vector), similarities on the left (in the pair's
frame: translation, rotation vector, log scale).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import reverse_cuthill_mckee

from das3r_ns.frontend.network.alignment.prediction_samples import FlowSamples, Samples
from das3r_ns.frontend.network.alignment.unknowns import State
from das3r_ns.scene import geometry as geo

POSE, PAIR = 6, 7
"""Unknowns of a camera and of a pair."""


class Layout:
    """Where each unknown stands in a matrix whose band is narrow."""

    def __init__(self, samples: Samples, flow: FlowSamples | None, temporal: bool) -> None:
        """Which cameras and pairs meet: in a frame, in a flow, and (``temporal``) in three frames on end."""
        n, e = samples.num_frames, len(samples.pairs)
        blocks = n + e
        links = np.zeros((blocks, blocks), dtype=bool)
        for frame, views in enumerate(samples.views):
            seen = [frame] + [n + edge for edge, _ in views]
            seen += [flow.pairs[f][1] for f in flow.leaving[frame]] if flow is not None else []
            links[np.ix_(seen, seen)] = True
        for k in range(n - 2 if temporal else 0):
            links[k : k + 3, k : k + 3] = True
        order = reverse_cuthill_mckee(coo_matrix(links).tocsr(), symmetric_mode=True)
        size = np.where(np.arange(blocks) < n, POSE, PAIR)
        start = np.empty(blocks, dtype=np.int64)
        start[order] = np.concatenate([[0], np.cumsum(size[order])[:-1]])
        self.cameras: Int[np.ndarray, "N 6"] = start[:n, None] + np.arange(POSE)
        self.pairs: Int[np.ndarray, "E 7"] = start[n:, None] + np.arange(PAIR)
        self.size = int(size.sum())
        first, second = np.nonzero(links)
        self.band = int(np.abs(start[first] - start[second]).max()) + PAIR - 1


@dataclass
class FrameBlock:
    """Normal equations of what is seen of one frame, before its depths are eliminated."""

    index: Int[np.ndarray, " L"]
    """Places of its unknowns, those of its focal apart."""
    hessian: Float[np.ndarray, "L+1 L+1"]
    """The last row and column are the log focal's."""
    gradient: Float[np.ndarray, " L+1"]
    cross: Float[np.ndarray, "L+1 K"]
    depth_hessian: Float[np.ndarray, " K"]
    depth_gradient: Float[np.ndarray, " K"]


def camera_basis(rays: Float[np.ndarray, "K 3"], depth: Float[np.ndarray, " K"]) -> Float[np.ndarray, "K 3 8"]:
    """Derivative of a point in camera axes by the camera's pose (6), its log focal and the point's own depth."""
    basis = np.zeros((len(rays), 3, 8))
    basis[:, :, :3] = np.eye(3)
    basis[:, :, 3:6] = -geo.skew(rays * depth[:, None])
    basis[:, :2, 6] = -rays[:, :2] * depth[:, None]
    basis[:, :, 7] = rays
    return basis


def pair_terms(
    samples: Samples, state: State, frame: int, weights: Float[np.ndarray, "M K"], layout: Layout
) -> FrameBlock:
    """Equations of the points that M pairs predict of one frame.

    Args:
        samples: Predictions.
        state: Where to linearise.
        frame: Which.
        weights: Of each predicted point, robust weights and 1 / z^2 included.
        layout: Of the whole system.
    """
    edge, side = np.array(samples.views[frame], dtype=np.int64).reshape(-1, 2).T
    m = len(edge)
    camera_to_pair = state.pair_from_world[edge].matrix()[:, :3] @ state.c2w[frame]
    rays = samples.rays(float(state.focals[frame]))
    depth = state.depth[frame]
    basis = camera_basis(rays, depth)
    seen = (rays * depth[:, None]) @ np.swapaxes(camera_to_pair[:, :, :3], 1, 2) + camera_to_pair[:, None, :, 3]
    residual = seen - samples.points[edge, side]
    own = np.empty((m, len(rays), 3, PAIR))
    own[..., :3] = np.eye(3)
    own[..., 3:6] = -geo.skew(seen)
    own[..., 6] = seen
    frames = np.einsum("mij,kjc->mkic", camera_to_pair[:, :, :3], basis)
    jacobian = np.concatenate([own, frames], axis=-1)  # pair 7 | pose 6 | focal | depth
    weighted = (weights[..., None, None] * jacobian).reshape(m, -1, 15)
    flat = jacobian.reshape(m, -1, 15)
    products = np.swapaxes(weighted, 1, 2) @ flat
    gradients = (np.swapaxes(weighted, 1, 2) @ residual.reshape(m, -1, 1))[..., 0]
    # Per pixel: what each unknown shares with the depth.
    shared = np.einsum("mkic,mki->mkc", weighted.reshape(m, -1, 3, 15), jacobian[..., 14])

    size = PAIR * m + POSE + 1
    hessian, gradient = np.zeros((size, size)), np.zeros(size)
    cross = np.zeros((size, len(rays)))
    common = slice(PAIR * m, size)
    for k in range(m):
        at = slice(PAIR * k, PAIR * (k + 1))
        hessian[at, at] = products[k, :7, :7]
        hessian[at, common] = products[k, :7, 7:14]
        hessian[common, at] = products[k, 7:14, :7]
        gradient[at] = gradients[k, :7]
        cross[at] = shared[k, :, :7].T
    hessian[common, common] = products[:, 7:14, 7:14].sum(axis=0)
    gradient[common] = gradients[:, 7:14].sum(axis=0)
    cross[common] = shared[..., 7:14].sum(axis=0).T
    index = np.concatenate([layout.pairs[edge].ravel(), layout.cameras[frame]])
    depth_gradient = np.einsum("mki,mki->k", weighted.reshape(m, -1, 3, 15)[..., 14], residual)
    return FrameBlock(index, hessian, gradient, cross, shared[..., 14].sum(axis=0), depth_gradient)


def flow_residual(
    samples: Samples, flow: FlowSamples, state: State, frame: int
) -> tuple[Float[np.ndarray, "M K 2"], Float[np.ndarray, "M K 3"]]:
    """Pixels by which the static world misses the M flows that leave a frame, and its points in the other cameras."""
    leaving = flow.leaving[frame]
    sinks = np.array([flow.pairs[f][1] for f in leaving], dtype=np.int64)
    relative = geo.invert_rigid(state.c2w[sinks]) @ state.c2w[frame]
    points = samples.rays(float(state.focals[frame])) * state.depth[frame][:, None]
    there = points @ np.swapaxes(relative[:, :3, :3], 1, 2) + relative[:, None, :3, 3]
    z = np.maximum(there[..., 2:], 0.02 * state.depth[frame][:, None])
    return state.focals[sinks, None, None] * there[..., :2] / z - flow.targets[leaving], there


def flow_terms(
    samples: Samples, flow: FlowSamples, state: State, frame: int, weights: Float[np.ndarray, "M K"], layout: Layout
) -> FrameBlock:
    """Equations of the M flows that leave one frame (see :func:`pair_terms`)."""
    sinks = np.array([flow.pairs[f][1] for f in flow.leaving[frame]], dtype=np.int64)
    m = len(sinks)
    residual, there = flow_residual(samples, flow, state, frame)
    focal = state.focals[sinks, None]
    basis = camera_basis(samples.rays(float(state.focals[frame])), state.depth[frame])
    z = np.maximum(there[..., 2], 0.02 * state.depth[frame])
    projection = np.zeros((*z.shape, 2, 3))
    projection[..., 0, 0] = projection[..., 1, 1] = focal / z
    projection[..., :, 2] = -focal[..., None] * there[..., :2] / z[..., None] ** 2
    turn = np.swapaxes(state.c2w[sinks, :3, :3], 1, 2) @ state.c2w[frame, :3, :3]
    jacobian = np.empty((m, z.shape[1], 2, 14))  # other pose 6 | pose 6 | focal | depth
    jacobian[..., :3] = -projection
    jacobian[..., 3:6] = projection @ geo.skew(there)
    jacobian[..., 6:] = (projection @ turn[:, None]) @ basis
    jacobian[..., 12] += focal[..., None] * there[..., :2] / z[..., None]
    weighted = weights[..., None, None] * jacobian
    flat = weighted.reshape(m, -1, 14)
    products = np.swapaxes(flat, 1, 2) @ jacobian.reshape(m, -1, 14)
    gradients = (np.swapaxes(flat, 1, 2) @ residual.reshape(m, -1, 1))[..., 0]
    shared = np.einsum("mkic,mki->mkc", weighted, jacobian[..., 13])

    size = POSE * m + POSE + 1
    hessian, gradient = np.zeros((size, size)), np.zeros(size)
    cross = np.zeros((size, z.shape[1]))
    common = slice(POSE * m, size)
    for k in range(m):
        at = slice(POSE * k, POSE * (k + 1))
        hessian[at, at] = products[k, :6, :6]
        hessian[at, common] = products[k, :6, 6:13]
        hessian[common, at] = products[k, 6:13, :6]
        gradient[at] = gradients[k, :6]
        cross[at] = shared[k, :, :6].T
    hessian[common, common] = products[:, 6:13, 6:13].sum(axis=0)
    gradient[common] = gradients[:, 6:13].sum(axis=0)
    cross[common] = shared[..., 6:13].sum(axis=0).T
    index = np.concatenate([layout.cameras[sinks].ravel(), layout.cameras[frame]])
    depth_gradient = np.einsum("mki,mki->k", weighted[..., 13], residual)
    return FrameBlock(index, hessian, gradient, cross, shared[..., 13].sum(axis=0), depth_gradient)


def join_blocks(points: FrameBlock, flow: FrameBlock) -> FrameBlock:
    """Both kinds of equations of one frame; what stands in both (its pose and focal) adds up."""
    m, k = len(points.index) - POSE, len(flow.index) - POSE
    size = m + k + POSE + 1
    place = (np.concatenate([np.arange(m), np.arange(m + k, size)]), np.arange(m, size))
    hessian, gradient = np.zeros((size, size)), np.zeros(size)
    cross = np.zeros((size, points.cross.shape[1]))
    for block, at in zip((points, flow), place, strict=True):
        hessian[np.ix_(at, at)] += block.hessian
        gradient[at] += block.gradient
        cross[at] += block.cross
    index = np.concatenate([points.index[:m], flow.index])
    return FrameBlock(
        index,
        hessian,
        gradient,
        cross,
        points.depth_hessian + flow.depth_hessian,
        points.depth_gradient + flow.depth_gradient,
    )


class System:
    """The equations of all frames, depths eliminated: a banded matrix with the focals as its border."""

    def __init__(self, layout: Layout, num_focals: int) -> None:
        """Start from zero; ``num_focals`` is 1 (shared) or the number of frames."""
        self.layout = layout
        self.band = np.zeros((layout.band + 1, layout.size))
        self.border = np.zeros((layout.size, num_focals))
        self.corner = np.zeros((num_focals, num_focals))
        self.right = np.zeros((layout.size, 1))
        self.right_focal = np.zeros(num_focals)

    def add(
        self, index: Int[np.ndarray, " L"], hessian: Float[np.ndarray, "L L"], gradient: Float[np.ndarray, " L"]
    ) -> None:
        """Add equations of unknowns in the band."""
        below = index[:, None] - index[None]
        keep = below >= 0
        columns = np.broadcast_to(index[None], below.shape)
        self.band[below[keep], columns[keep]] += hessian[keep]  # no unknown comes twice in an index
        self.right[index, 0] += gradient

    def add_frame(self, block: FrameBlock, focal: int) -> None:
        """Add what is left of a frame's equations after its depths; ``focal`` is its column of the border."""
        scaled = block.cross / block.depth_hessian
        reduced = block.hessian - scaled @ block.cross.T
        gradient = block.gradient - scaled @ block.depth_gradient
        self.add(block.index, reduced[:-1, :-1], gradient[:-1])
        self.border[block.index, focal] += reduced[:-1, -1]
        self.corner[focal, focal] += reduced[-1, -1]
        self.right_focal[focal] += gradient[-1]

    def solve(
        self, damping: float, held: Int[np.ndarray, " H"], focal_held: bool
    ) -> tuple[Float[np.ndarray, " L"], Float[np.ndarray, " F"]]:
        """Damped step of the unknowns and of the log focals; those at ``held`` stay."""
        band, right = self.band.copy(), np.concatenate([self.right, self.border], axis=1)
        diagonal = band[0]
        largest = max(float(diagonal.max()), 1e-300)
        band[0] = diagonal * (1 + damping) + 1e-10 * largest
        band[0, held] += 1e12 * largest
        right[held] = 0.0
        factor = scipy.linalg.cholesky_banded(band, lower=True, overwrite_ab=True, check_finite=False)
        solved = scipy.linalg.cho_solve_banded((factor, True), right, check_finite=False)
        step = -solved[:, 0]
        if focal_held:
            return step, np.zeros(len(self.right_focal))
        corner = self.corner - self.border.T @ solved[:, 1:]
        corner += np.diag(damping * np.diag(self.corner) + 1e-12 * largest)
        focal_step = -np.linalg.solve(corner, self.right_focal + self.border.T @ step)
        return step - solved[:, 1:] @ focal_step, focal_step
