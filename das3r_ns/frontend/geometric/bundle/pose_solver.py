"""Levenberg-Marquardt on poses, inverse depths and one focal, with the inverse depths eliminated."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import cv2
import numpy as np
import scipy.linalg
from jaxtyping import Bool, Float, Int

from das3r_ns.frontend.geometric.bundle import flow_kernels as kernels
from das3r_ns.frontend.geometric.bundle.flow_samples import Samples
from das3r_ns.frontend.weighted_median import weighted_median
from das3r_ns.scene import geometry as geo
from das3r_ns.workers import workers

INVERSE_DEPTH_RANGE = (1e-3, 20.0)
"""Bounds of the inverse depth, in multiples of its median: nothing is further than 1000 or nearer than 1/20 medians."""

NEAR_RANGE = (1e-3, 200.0)
"""Bounds where most of the picture may be far away: the ground before the camera is then a hundred times as near."""

RESIDUAL_FLOOR = 0.15
"""Pixels: the noise that flow has at best, below which no residual scale may fall."""


CORRELATED = 50.0
"""How many flow residuals say as much as one independent measurement would: neighbours in space and time err alike."""

FOCAL_RANGE = (0.35, 3.0)
"""Bounds of the focal over the longer side: from a very wide lens to one so long that depth could not be seen."""

FOCAL_SIGMA = 0.4
"""Width of the prior on log focal."""

THREADS_PAY = 50_000
"""Residuals below which starting threads costs more than they save."""

T = TypeVar("T")


@dataclass
class State:
    """The unknowns of a bundle adjustment."""

    w2c: Float[np.ndarray, "N 4 4"]
    inverse_depth: Float[np.ndarray, "N K"]
    focal: float
    lens: Float[np.ndarray, "N 4 4"] | None = None
    """Where every frame has a known camera matrix K_i of its own: K^-1 K_i, with K the pinhole that the kernels know.
    K^-1 K_j [R | t] (K^-1 K_i)^-1 stands for the relative pose [R | t] then. It is no rigid motion, so the derivatives
    for poses and focal mean nothing and all frames must be held; those for inverse depths hold for any matrix."""


@dataclass(frozen=True)
class Robust:
    """Scale of the Geman-McClure weights of every edge, in pixels: w = 1 / (1 + (r / s)^2)^2."""

    scale: Float[np.ndarray, " E"]

    def weights(self, residual: Float[np.ndarray, "M K"], edges: slice) -> Float[np.ndarray, "M K"]:
        """Weights in 1 / px^2; zero where a point has no projection (residual < 0)."""
        square = self.scale[edges, None] ** 2
        return np.where(residual >= 0, 1.0 / (square * (1.0 + residual**2 / square) ** 2), 0.0)

    def cost(self, residual: Float[np.ndarray, "M K"], edges: slice) -> Float[np.ndarray, "M K"]:
        """Loss of each residual, 0 to 1; 1 where a point has no projection."""
        square = self.scale[edges, None] ** 2
        return np.where(residual >= 0, residual**2 / (square + residual**2), 1.0)


@dataclass(frozen=True)
class Terms:
    """What is solved for and held besides the flow."""

    focal: bool = True
    translation: bool = True
    """False: the camera only turns; the inverse depths must be zero."""
    held: Bool[np.ndarray, " N"] | None = None
    """Frames whose poses stay; None = frame 0 alone, which fixes the gauge."""
    focal_prior: bool = True
    """Whether the focal is drawn to what videos usually have."""
    near: bool = False
    """Whether some points may be far nearer than most. What is beyond the bounds of the inverse depth is not drawn back
    then, and what pushes against them is no unknown: otherwise a few near points hold up all the others. But the way
    from a wild guess leads into wrong places more often."""
    smoothness: float = 1e-3
    """Weight of the prior that an inverse depth is the mean of its neighbours, as a share of the median information."""


@dataclass
class _Frame:
    """Normal equations of the edges that leave one frame, kept for the back-substitution."""

    cross: Float[np.ndarray, "L K"]
    depth_hessian: Float[np.ndarray, " K"]
    depth_gradient: Float[np.ndarray, " K"]
    reduced: Float[np.ndarray, "L L"]
    gradient: Float[np.ndarray, " L"]
    index: Int[np.ndarray, " L"]
    """Place of the L unknowns in the reduced system."""


class Solver:
    """Bundle adjustment of one set of samples; the state and the robust scales are handed in and out."""

    def __init__(self, samples: Samples, weights: Float[np.ndarray, "E K"] | None = None) -> None:
        """Weights take the place of those of the samples where they are given."""
        self.samples = samples
        self.weights = samples.weights if weights is None else weights.astype(np.float32)
        self.edges = [samples.edges_of(i) for i in range(samples.num_frames)]
        self.workers = workers() if self.weights.size > THREADS_PAY else 1

    def map_frames(self, function: Callable[[int], T]) -> list[T]:
        """``function(frame)`` of every frame, on a few threads (the kernels release the interpreter lock)."""
        frames = range(self.samples.num_frames)
        if self.workers == 1:
            return [function(i) for i in frames]
        with ThreadPoolExecutor(self.workers) as pool:
            return list(pool.map(function, frames))

    def relative_poses(self, state: State) -> Float[np.ndarray, "E 4 4"]:
        """T_ij of every edge."""
        if state.lens is None:
            return state.w2c[self.samples.sinks] @ geo.invert_rigid(state.w2c)[self.samples.sources]
        folded = state.lens @ state.w2c
        return folded[self.samples.sinks] @ np.linalg.inv(folded)[self.samples.sources]

    def residuals(self, state: State) -> Float[np.ndarray, "E K"]:
        """Residual of every flow in pixels, -1 where a point has no projection."""
        s = self.samples
        relative = np.ascontiguousarray(self.relative_poses(state)[:, :3])

        def one(i: int) -> Float[np.ndarray, "M K"]:
            e = self.edges[i]
            return kernels.residuals(
                s.points[i], state.inverse_depth[i], s.targets[e], relative[e], state.focal, s.centre
            )

        return np.concatenate(self.map_frames(one))

    def cost(self, residual: Float[np.ndarray, "E K"], robust: Robust) -> float:
        """Weighted sum of the robust losses."""
        return float((self.weights * robust.cost(residual, slice(None))).sum(dtype=np.float64))

    def robust_scale(self, residual: Float[np.ndarray, "E K"], multiple: float, floor: float) -> Robust:
        """Geman-McClure scale per edge: ``multiple`` times the noise that the weighted median residual shows."""
        sigma = np.maximum(weighted_median(np.abs(residual), self.weights) / 1.1774, RESIDUAL_FLOOR)
        floor *= float(np.clip(self.samples.unit, 0.4, 1.0))
        return Robust(np.maximum(multiple * sigma, floor).astype(np.float32))

    def smoothed(
        self, inverse_depth: Float[np.ndarray, "N K"], information: Float[np.ndarray, "N K"]
    ) -> Float[np.ndarray, "N K"]:
        """Mean inverse depth of the 3 x 3 neighbourhood, weighted by information."""
        rows, columns = self.samples.rows, self.samples.columns
        out = np.empty_like(inverse_depth)
        for i in range(len(inverse_depth)):
            weight = information[i].reshape(rows, columns)
            weight = weight + 1e-3 * weight.mean() + 1e-12
            value = inverse_depth[i].reshape(rows, columns)
            border = cv2.BORDER_REFLECT
            num = cv2.blur(weight * value, (3, 3), borderType=border)
            out[i] = (num / cv2.blur(weight, (3, 3), borderType=border)).ravel()
        return out

    def linearise(
        self, state: State, residual: Float[np.ndarray, "E K"], robust: Robust, terms: Terms
    ) -> tuple[list[_Frame], float, Float[np.ndarray, "N K"]]:
        """Normal equations at ``state``, inverse depths eliminated frame by frame.

        Returns:
            The equations of each frame; the weight of the smoothness prior; and the inverse depths it draws to, which
            stay as they are during a step so that every inverse depth keeps an equation of its own.
        """
        s = self.samples
        relative = self.relative_poses(state)
        adjoint = _adjoint(relative)
        relative = np.ascontiguousarray(relative[:, :3])

        def build(i: int) -> tuple[np.ndarray, ...]:
            e = self.edges[i]
            weights = (self.weights[e] * robust.weights(residual[e], e)).astype(np.float32)
            return kernels.normal_equations(
                s.points[i],
                state.inverse_depth[i],
                s.targets[e],
                weights,
                relative[e],
                adjoint[e],
                state.focal,
                s.centre,
            )

        blocks = self.map_frames(build)
        information = np.stack([b[3] for b in blocks])
        prior = terms.smoothness * float(np.median(information)) + 1e-9
        target = self.smoothed(state.inverse_depth, information)

        def eliminate(i: int) -> _Frame:
            hessian, gradient, cross, depth_hessian, depth_gradient = blocks[i]
            depth_hessian = depth_hessian + prior
            depth_gradient = depth_gradient + prior * (state.inverse_depth[i] - target[i])
            if terms.near:
                low, high = NEAR_RANGE
                held = np.where(depth_gradient > 0, state.inverse_depth[i] <= low, state.inverse_depth[i] >= high)
                cross = np.where(held, 0.0, cross)
                depth_gradient = np.where(held, 0.0, depth_gradient)
            reduced, gradient = kernels.eliminate_depth(hessian, gradient, cross, depth_hessian, depth_gradient)
            poses = np.concatenate([[i], s.sinks[self.edges[i]]])
            index = np.append((6 * poses[:, None] + np.arange(6)).ravel(), 6 * s.num_frames)
            return _Frame(cross, depth_hessian, depth_gradient, reduced, gradient, index)

        return self.map_frames(eliminate), prior, target

    def reduced_system(
        self, frames: list[_Frame], state: State, terms: Terms
    ) -> tuple[Float[np.ndarray, "L L"], Float[np.ndarray, " L"]]:
        """Sum of the frames' Schur complements, with the prior on the focal."""
        size = 6 * self.samples.num_frames + 1
        hessian, gradient = np.zeros((size, size)), np.zeros(size)
        for f in frames:
            hessian[np.ix_(f.index, f.index)] += f.reduced
            np.add.at(gradient, f.index, f.gradient)
        information = terms.focal_prior * CORRELATED / FOCAL_SIGMA**2
        hessian[-1, -1] += information
        gradient[-1] += information * np.log(state.focal / self.samples.focal_prior)
        return hessian, gradient

    def free(self, terms: Terms) -> Bool[np.ndarray, " L"]:
        """Which unknowns of the reduced system move: the held frames do not."""
        free = np.zeros(6 * self.samples.num_frames + 1, dtype=bool)
        held = np.arange(self.samples.num_frames) == 0 if terms.held is None else terms.held
        free[:-1] = np.repeat(~held, 6)
        if not terms.translation:
            free[:-1].reshape(-1, 6)[:, :3] = False
        free[-1] = terms.focal and self.samples.known_focal is None
        return free

    def optimise(
        self, state: State, robust: Robust, terms: Terms, iterations: int, tolerance: float = 1e-4
    ) -> tuple[State, Float[np.ndarray, "E K"], float]:
        """Levenberg-Marquardt steps at a fixed robust scale.

        Returns:
            The new state, its residuals and its cost.
        """
        residual = self.residuals(state)
        cost = self.cost(residual, robust)
        damping = 1e-4
        free = self.free(terms)
        for _ in range(iterations):
            frames, prior, target = self.linearise(state, residual, robust, terms)
            hessian, gradient = self.reduced_system(frames, state, terms)
            start = cost + self._priors(state, prior, target)
            for _ in range(6):
                step = _solve(hessian, gradient, free, damping)
                trial = self.apply(state, step, frames, terms)
                trial_residual = self.residuals(trial)
                trial_cost = self.cost(trial_residual, robust)
                if trial_cost + self._priors(trial, prior, target) < start:
                    break
                damping = max(damping, 1e-5) * 10
            else:
                return state, residual, cost
            gain = cost - trial_cost
            state, residual, cost = trial, trial_residual, trial_cost
            damping = max(damping / 5, 1e-7)
            if abs(gain) < tolerance * cost:
                break
        return normalise_scale(state), residual, cost

    def information(self, state: State, robust: Robust) -> tuple[Float[np.ndarray, "N K"], float]:
        """Information on every inverse depth (poses held), and the standard error of log focal without its prior.

        The standard error of a known focal is 0.
        """
        terms = Terms(smoothness=0.0)
        frames, _, _ = self.linearise(state, self.residuals(state), robust, terms)
        depth_information = np.stack([f.depth_hessian for f in frames])
        if self.samples.known_focal is not None:
            return depth_information, 0.0
        hessian, _ = self.reduced_system(frames, state, replace(terms, focal_prior=False))
        free = self.free(terms)
        h = hessian[np.ix_(free, free)]
        h += np.eye(len(h)) * (1e-9 * np.diag(h).max() + 1e-12)
        unit = np.zeros(len(h))
        unit[-1] = 1.0
        variance = _solve_positive(h, unit)[-1] * CORRELATED
        return depth_information, float(np.sqrt(np.clip(variance, 0.0, 1e6)))

    def _priors(self, state: State, prior: float, target: Float[np.ndarray, "N K"]) -> float:
        focal = CORRELATED * (np.log(state.focal / self.samples.focal_prior) / FOCAL_SIGMA) ** 2
        return float(focal + prior * ((state.inverse_depth - target) ** 2).sum())

    def apply(self, state: State, step: Float[np.ndarray, " L"], frames: list[_Frame], terms: Terms) -> State:
        """The state after a step of the reduced unknowns, inverse depths by back-substitution."""
        n = self.samples.num_frames
        w2c = geo.se3_exp(step[:-1].reshape(n, 6)) @ state.w2c
        inverse_depth = state.inverse_depth
        if terms.translation:
            delta = np.stack([-(f.depth_gradient + step[f.index] @ f.cross) / f.depth_hessian for f in frames])
            # No inverse depth may more than halve or double in a step: the linear model overshoots far from its place.
            inverse_depth = np.clip(inverse_depth + delta, 0.5 * inverse_depth, 2 * inverse_depth + 1e-3)
            low, high = INVERSE_DEPTH_RANGE
            if terms.near:
                low, high = (
                    np.minimum(NEAR_RANGE[0], state.inverse_depth),
                    np.maximum(NEAR_RANGE[1], state.inverse_depth),
                )
            inverse_depth = np.clip(inverse_depth, low, high)
        focal = state.focal
        if self.samples.known_focal is None:
            long_side = max(self.samples.width, self.samples.height)
            focal = focal * np.exp(np.clip(step[-1], -0.3, 0.3))
            focal = float(np.clip(focal, FOCAL_RANGE[0] * long_side, FOCAL_RANGE[1] * long_side))
        return State(w2c, inverse_depth, focal, state.lens)


def normalise_scale(state: State) -> State:
    """The same solution in units where the median inverse depth is 1."""
    scale = float(np.median(state.inverse_depth))
    if scale <= 0:
        return state
    w2c = state.w2c.copy()
    w2c[:, :3, 3] *= scale
    return replace(state, w2c=w2c, inverse_depth=state.inverse_depth / scale)


def _solve_positive(matrix: Float[np.ndarray, "L L"], right: Float[np.ndarray, " L"]) -> Float[np.ndarray, " L"]:
    """Solve a positive definite system, damped further for as long as rounding keeps it from being one."""
    damping = 0.0
    while True:
        try:
            factor = scipy.linalg.cho_factor(matrix + damping * np.diag(np.diag(matrix)), check_finite=False)
            return scipy.linalg.cho_solve(factor, right, check_finite=False)
        except np.linalg.LinAlgError:
            if damping > 1e6:
                return np.zeros_like(right)
            damping = max(1e-6, 100 * damping)


def _solve(
    hessian: Float[np.ndarray, "L L"], gradient: Float[np.ndarray, " L"], free: Bool[np.ndarray, " L"], damping: float
) -> Float[np.ndarray, " L"]:
    """Damped step of the free unknowns, zero for the others."""
    if not free.any():
        return np.zeros(len(gradient))
    h = hessian[np.ix_(free, free)]
    diagonal = np.diag(h)
    h = h + np.diag(damping * diagonal + 1e-9 * diagonal.max() + 1e-12)
    step = np.zeros(len(gradient))
    step[free] = -_solve_positive(h, gradient[free])
    return step


def _adjoint(pose: Float[np.ndarray, "E 4 4"]) -> Float[np.ndarray, "E 6 6"]:
    """Adjoint matrices for tangents in the order translation, rotation."""
    out = np.zeros((len(pose), 6, 6))
    out[:, :3, :3] = out[:, 3:, 3:] = pose[:, :3, :3]
    out[:, :3, 3:] = geo.skew(pose[:, :3, 3]) @ pose[:, :3, :3]
    return out
