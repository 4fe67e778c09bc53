"""Levenberg-Marquardt on poses, inverse depths and one focal, with the inverse depths eliminated."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float

from das3r_ns.frontend.geometric.bundle import share_kernels as kernels
from das3r_ns.frontend.geometric.bundle.derivative_kernels import MIN_Z
from das3r_ns.frontend.geometric.bundle.equations import Equations, Layout, layout, smoothed
from das3r_ns.frontend.geometric.bundle.flow_samples import CORRELATED, Samples
from das3r_ns.frontend.geometric.bundle.optics import SHARED, Optics
from das3r_ns.frontend.geometric.bundle.optics import prior as optics_prior
from das3r_ns.frontend.geometric.bundle.pose_kernels import (
    adjoints,
    moved_depths,
    moved_poses,
    relative_poses,
)
from das3r_ns.frontend.geometric.bundle.rolling import levelled, row_motion
from das3r_ns.frontend.geometric.bundle.state import Robust, State, Terms, normalise_scale
from das3r_ns.frontend.geometric.bundle.steps import damped_step
from das3r_ns.frontend.weighted_median import RAYLEIGH_MEDIAN, weighted_median
from das3r_ns.scene import geometry as geo
from das3r_ns.workers import workers

INVERSE_DEPTH_RANGE = (1e-3, 20.0)
"""Bounds of the inverse depth, in multiples of its median: nothing is further than 1000 or nearer than 1/20 medians."""

NEAR_RANGE = (1e-3, 200.0)
"""Bounds where most of the picture may be far away: the ground before the camera is then a hundred times as near."""

RESIDUAL_FLOOR = 0.15
"""Pixels: the noise that flow has at best, below which no residual scale may fall."""

FOCAL_RANGE = (0.35, 3.0)
"""Bounds of the focal over the longer side: from a very wide lens to one so long that depth could not be seen."""

FOCAL_SIGMA = 0.4
"""Width of the prior on log focal."""

THREADS_PAY = 50_000
"""Residuals for each further thread: with fewer, handing the work over costs more than it saves."""

T = TypeVar("T")


class Solver:
    """Bundle adjustment of one set of samples; the state and the robust scales are handed in and out."""

    def __init__(self, samples: Samples, weights: Float[np.ndarray, "E K"] | None = None) -> None:
        """Weights take the place of those of the samples where they are given."""
        self.samples = samples
        self.weights = samples.weights if weights is None else weights.astype(np.float32)
        self.edges = [samples.edges_of(i) for i in range(samples.num_frames)]
        threads = min(workers(locked=0.2), 1 + self.weights.size // THREADS_PAY, samples.num_frames)
        self.shares = [(int(s[0]), int(s[-1]) + 1) for s in np.array_split(np.arange(samples.num_frames), threads)]
        self._starts = np.searchsorted(samples.sources, np.arange(samples.num_frames + 1)).astype(np.int64)
        self._layouts: dict[bool, Layout] = {}
        # Kept, for a step asks for it five times. The threads end with the solver.
        self.pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._seen: tuple[Optics | State, Samples] | None = None
        self._rolled: tuple[Float[np.ndarray, "N K 2"], Float[np.ndarray, "E K 2"]] | None = None

    def map_frames(self, function: Callable[[int], T]) -> list[T]:
        """``function(frame)`` of every frame, on a few threads (the kernels release the interpreter lock)."""
        if self.pool is None:
            return [function(i) for i in range(self.samples.num_frames)]
        found = self.pool.map(lambda share: [function(i) for i in range(*share)], self.shares)
        return [one for share in found for one in share]

    def run_shares(self, function: Callable[[int, int], object]) -> None:
        """``function(first, last)`` of the frames of every thread; what it finds it leaves in arrays."""
        if self.pool is None:
            function(0, self.samples.num_frames)
        else:
            list(self.pool.map(lambda share: function(*share), self.shares))

    def layout(self, state: State) -> Layout:
        """How the equations of all frames lie in memory."""
        optics = state.optics is not None
        if optics not in self._layouts:
            self._layouts[optics] = layout(self.samples, self.edges, optics=optics)
        return self._layouts[optics]

    def magnification(self, state: State) -> Float[np.ndarray, " E"]:
        """Size of what the target of each edge shows against how the pinhole shows it, float32."""
        if state.optics is None:
            return np.ones(len(self.samples.sinks), dtype=np.float32)
        return state.optics.magnification(self.samples.sinks)[:, 0]

    def seen(self, state: State) -> Samples:
        """The samples as the one pinhole of the state shows them."""
        if state.optics is None:
            return self.samples
        rolls = self.samples.rolls or state.optics.readout != 0.0
        key = state if rolls else state.optics
        if self._seen is None or self._seen[0] is not key:
            straight = self.samples.straightened(state.optics)
            self._seen = (key, self._levelled(straight, state, state.optics.readout) if rolls else straight)
        return self._seen[1]

    def row_motion(self, state: State) -> Float[np.ndarray, "N 2 6"]:
        """What every camera does while it reads a frame; see ``rolling``."""
        times = self.samples.times
        times = np.arange(float(len(state.w2c))) if times is None else times
        motion = row_motion(geo.invert_rigid(state.w2c), times)
        if state.optics is not None and state.optics.swing is not None:
            motion[:, 0, 3:] += state.optics.swing
        return motion

    def offsets(self, state: State) -> Float[np.ndarray, "E K 2"]:
        """From where each flow ends to where its point is expected, in pixels as the pinhole shows them; 0 where a
        point has no projection."""
        s, relative = self.seen(state), self.relative_poses(state)

        def one(i: int) -> Float[np.ndarray, "M K 2"]:
            e = self.edges[i]
            q = np.einsum("mij,kj->mki", relative[e, :3, :3], s.rays(s.points[i], state.focal))
            q += relative[e, None, :3, 3] * state.inverse_depth[i][:, None]
            front = q[..., 2:] > MIN_Z
            places = state.focal * q[..., :2] / np.where(front, q[..., 2:], 1.0) + s.centre
            return np.where(front, places - s.targets[e], 0.0)

        return np.concatenate(self.map_frames(one))

    def _levelled(self, straight: Samples, state: State, readout: float) -> Samples:
        """The samples as the camera of each frame's middle row sees them; keeps their slopes for the read-out."""
        s, filmed = straight, self.samples
        motion = self.row_motion(state)
        moments, target_moments = (p[..., 1] / s.height - 0.5 for p in (filmed.points, filmed.targets))
        points, slopes = levelled(s.points, moments, state.inverse_depth, motion, readout, state.focal, s.centre)
        relative = self.relative_poses(state)

        def one(i: int) -> tuple[Float[np.ndarray, "M K 2"], Float[np.ndarray, "M K 2"]]:
            e = self.edges[i]
            z = relative[e, 2, :3] @ s.rays(points[i], state.focal).T + relative[e, 2, 3:] * state.inverse_depth[i]
            there = state.inverse_depth[i] / np.maximum(z, MIN_Z)
            return levelled(s.targets[e], target_moments[e], there, motion[s.sinks[e]], readout, state.focal, s.centre)

        moved = self.map_frames(one)
        self._rolled = slopes, np.concatenate([m[1] for m in moved])
        return replace(s, points=points, targets=np.concatenate([m[0] for m in moved]))

    def relative_poses(self, state: State) -> Float[np.ndarray, "E 4 4"]:
        """T_ij of every edge."""
        if state.lens is None:
            return relative_poses(np.ascontiguousarray(state.w2c), self.samples.sources, self.samples.sinks)
        folded = state.lens @ state.w2c
        return folded[self.samples.sinks] @ np.linalg.inv(folded)[self.samples.sources]

    def residuals(self, state: State) -> Float[np.ndarray, "E K"]:
        """Residual of every flow in pixels of its target, -1 where a point has no projection."""
        s, magnification = self.seen(state), self.magnification(state)
        relative = np.ascontiguousarray(self.relative_poses(state)[:, :3])
        out = np.empty(s.targets.shape[:2], dtype=np.float32)

        def run(first: int, last: int) -> None:
            seen = self._starts, s.points, state.inverse_depth, s.targets
            kernels.fill_residuals(first, last, *seen, relative, state.focal, s.centre, magnification, out)

        self.run_shares(run)
        return out

    def cost(self, residual: Float[np.ndarray, "E K"], robust: Robust) -> float:
        """Weighted sum of the robust losses."""
        losses, starts = np.empty_like(residual), self._starts
        self.run_shares(
            lambda first, last: kernels.fill_losses(
                int(starts[first]), int(starts[last]), residual, robust.scale, self.weights, losses
            )
        )
        return float(losses.sum(dtype=np.float64))

    def robust_scale(self, residual: Float[np.ndarray, "E K"], multiple: float, floor: float) -> Robust:
        """Geman-McClure scale per edge: ``multiple`` times the noise that the weighted median residual shows."""
        sigma = np.maximum(weighted_median(np.abs(residual), self.weights) / RAYLEIGH_MEDIAN, RESIDUAL_FLOOR)
        return Robust(np.maximum(multiple * sigma, floor * self.samples.error_unit).astype(np.float32))

    @property
    def focal_place(self) -> int:
        """Place of log focal in the reduced system: after the poses, before the unknowns of the optics."""
        return 6 * self.samples.num_frames

    def _slopes(self, state: State) -> tuple[Float[np.ndarray, "N K 2 P"], Float[np.ndarray, "E K 2 P"]]:
        """Derivatives of points and targets for the unknowns of their frames: P = 0 where there are none."""
        s = self.seen(state)
        if state.optics is None:
            return np.empty((*s.points.shape, 0), np.float32), np.empty((*s.targets.shape, 0), np.float32)
        frames = np.arange(s.num_frames)
        of_points = state.optics.slopes(s.points, frames, s.centre, 1 + SHARED)
        of_targets = state.optics.slopes(s.targets, s.sinks, s.centre, 1 + SHARED)
        if self.samples.rolls and self._rolled is not None:
            of_points[..., -1], of_targets[..., -1] = self._rolled
        return of_points, of_targets

    def linearise(
        self, state: State, residual: Float[np.ndarray, "E K"], robust: Robust, terms: Terms
    ) -> tuple[Equations, float, Float[np.ndarray, "N K"]]:
        """Normal equations at ``state``, inverse depths eliminated frame by frame.

        Returns:
            The equations of all frames; the weight of the smoothness prior; and the inverse depths it draws to, which
            stay as they are during a step so that every inverse depth keeps an equation of its own.
        """
        s, magnification = self.seen(state), self.magnification(state)
        relative = self.relative_poses(state)
        bounds = NEAR_RANGE if terms.near else (-np.inf, np.inf)
        if not self.free(state, terms).any():
            return self._depths_alone(state, residual, robust, terms.smoothness, bounds)
        point_slopes, target_slopes = self._slopes(state)
        adjoint = adjoints(relative)
        relative = np.ascontiguousarray(relative[:, :3])
        found = Equations.empty(self.layout(state), s.points.shape[1])
        places = found.layout
        arrays = found.reduced, found.gradient, found.cross, found.depth_hessian, found.depth_gradient

        def build(first: int, last: int) -> None:
            at = self._starts, places.rows, places.squares
            seen = s.points, state.inverse_depth, s.targets, self.weights, residual, robust.scale, magnification
            camera = relative, adjoint, state.focal, s.centre, point_slopes, target_slopes
            kernels.fill_equations(first, last, *at, *seen, *camera, *arrays)

        self.run_shares(build)
        prior, target = self._drawn_to(state, found.depth_hessian, terms.smoothness)

        def eliminate(first: int, last: int) -> None:
            kernels.eliminate_depths(
                first, last, places.rows, places.squares, state.inverse_depth, target, prior, *bounds, *arrays
            )

        self.run_shares(eliminate)
        return found, prior, target

    def _drawn_to(
        self, state: State, information: Float[np.ndarray, "N K"], smoothness: float
    ) -> tuple[float, Float[np.ndarray, "N K"]]:
        """Weight of the smoothness prior, and the inverse depths it draws to."""
        prior = smoothness * float(np.median(information)) + 1e-9
        return prior, smoothed(self.samples, state.inverse_depth, information)

    def _depths_alone(
        self,
        state: State,
        residual: Float[np.ndarray, "E K"],
        robust: Robust,
        smoothness: float,
        bounds: tuple[float, float],
    ) -> tuple[Equations, float, Float[np.ndarray, "N K"]]:
        """:meth:`linearise` where no camera moves: none of it but the inverse depths is asked for."""
        s, magnification = self.seen(state), self.magnification(state)
        relative = np.ascontiguousarray(self.relative_poses(state)[:, :3])
        hessian, gradient = np.empty((2, *s.points.shape[:2]))

        def build(first: int, last: int) -> None:
            seen = s.points, state.inverse_depth, s.targets, self.weights, residual, robust.scale, magnification
            camera = relative, state.focal, s.centre
            kernels.fill_depth_equations(first, last, self._starts, *seen, *camera, hessian, gradient)

        self.run_shares(build)
        prior, target = self._drawn_to(state, hessian, smoothness)
        hessian += prior
        gradient += prior * (state.inverse_depth - target)
        held = np.where(gradient > 0, state.inverse_depth <= bounds[0], state.inverse_depth >= bounds[1])
        gradient[held] = 0.0
        return Equations.of_depths(self.layout(state), hessian, gradient), prior, target

    def reduced_system(
        self, equations: Equations, state: State, terms: Terms
    ) -> tuple[Float[np.ndarray, "L L"], Float[np.ndarray, " L"]]:
        """Sum of the frames' Schur complements, with the prior on the focal."""
        size, focal = len(self.free(state, terms)), self.focal_place
        hessian, gradient = np.zeros((size, size)), np.zeros(size)
        at = equations.layout
        if not equations.depths_alone:
            kernels.add_up(at.rows, at.squares, at.index, equations.reduced, equations.gradient, hessian, gradient)
        information = terms.focal_prior * self.samples.correlated / FOCAL_SIGMA**2
        hessian[focal, focal] += information
        gradient[focal] += information * np.log(state.focal / self.samples.focal_prior)
        if state.optics is not None:
            own = CORRELATED * optics_prior(self.samples.num_frames, self.samples.focuses)
            hessian[focal + 1 :, focal + 1 :] += own
            gradient[focal + 1 :] += own @ state.optics.unknowns
        return hessian, gradient

    def free(self, state: State, terms: Terms) -> Bool[np.ndarray, " L"]:
        """Which unknowns of the reduced system move: the held frames do not."""
        s = self.samples
        held = np.arange(s.num_frames) == 0 if terms.held is None else terms.held
        poses = np.repeat(~held, 6)
        if not terms.translation:
            poses.reshape(-1, 6)[:, :3] = False
        free = np.append(poses, terms.focal and s.known_focal is None)
        if state.optics is None:
            return free
        zooms = np.zeros(s.num_frames, dtype=bool) if terms.held is None else terms.held
        shared = np.array([s.bends, s.bends, s.rolls]) & terms.focal
        return np.concatenate([free, s.zooms & ~zooms, shared])

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
        if state.optics is None and (self.samples.zooms or self.samples.bends or self.samples.rolls):
            state = replace(state, optics=Optics.none(self.samples.num_frames))
        free = self.free(state, terms)
        for _ in range(iterations):
            equations, prior, target = self.linearise(state, residual, robust, terms)
            hessian, gradient = self.reduced_system(equations, state, terms)
            start = cost + self._priors(state, prior, target)
            for _ in range(6):
                step = damped_step(hessian, gradient, free, damping)
                trial = self.apply(state, step, equations, terms)
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

    def _priors(self, state: State, prior: float, target: Float[np.ndarray, "N K"]) -> float:
        focal = self.samples.correlated * (np.log(state.focal / self.samples.focal_prior) / FOCAL_SIGMA) ** 2
        if state.optics is not None:
            unknowns = state.optics.unknowns
            own = optics_prior(self.samples.num_frames, self.samples.focuses)
            focal += CORRELATED * unknowns @ own @ unknowns
        return float(focal + prior * ((state.inverse_depth - target) ** 2).sum())

    def apply(self, state: State, step: Float[np.ndarray, " L"], equations: Equations, terms: Terms) -> State:
        """The state after a step of the reduced unknowns, inverse depths by back-substitution."""
        n = self.samples.num_frames
        w2c = moved_poses(step[: self.focal_place].reshape(n, 6), np.ascontiguousarray(state.w2c))
        inverse_depth = state.inverse_depth
        if terms.translation:
            # No inverse depth may more than halve or double in a step: the linear model overshoots far from its place.
            low, high = NEAR_RANGE if terms.near else INVERSE_DEPTH_RANGE
            inverse_depth = moved_depths(inverse_depth, equations.depth_steps(step), low, high, not terms.near)
        focal = state.focal
        if self.samples.known_focal is None:
            long_side = max(self.samples.width, self.samples.height)
            focal = focal * np.exp(np.clip(step[self.focal_place], -0.3, 0.3))
            focal = float(np.clip(focal, FOCAL_RANGE[0] * long_side, FOCAL_RANGE[1] * long_side))
        optics = None if state.optics is None else state.optics.moved(step[self.focal_place + 1 :])
        return State(w2c, inverse_depth, focal, state.lens, optics)
