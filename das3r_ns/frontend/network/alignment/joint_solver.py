"""Levenberg-Marquardt over cameras, focal, pair similarities and depths, with robust weights of falling scale."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from das3r_ns.frontend.network.alignment.equations import (
    POSE,
    FrameBlock,
    Layout,
    System,
    flow_residual,
    flow_terms,
    join_blocks,
    pair_terms,
)
from das3r_ns.frontend.network.alignment.prediction_samples import FlowSamples, Samples
from das3r_ns.frontend.network.alignment.unknowns import State
from das3r_ns.frontend.similarity import MAXWELL_MEDIAN
from das3r_ns.frontend.weighted_median import RAYLEIGH_MEDIAN, weighted_median
from das3r_ns.scene import geometry as geo

SCHEDULE = ((10.0, 3), (6.0, 3), (4.0, 3), (3.0, 10))
"""Geman-McClure scale as a multiple of the noise, and most steps, of each stage."""

POINT_FLOOR = 1e-3
"""Share of its depth by which a network's point is wrong at best."""

FLOW_FLOOR = 0.05
"""Pixels by which optical flow is wrong at best."""

CONVERGED = 3e-5
"""Relative fall of the cost below which a stage ends."""

WORSE = 2.5
"""Multiple of the usual median error at which all points of a pair count a quarter. Nonsense that is
smooth (the right points of the wrong frames) crosses the scene somewhere, and fits well where it does."""


@dataclass(frozen=True)
class Held:
    """What the user knows and the solver leaves alone."""

    poses: bool = False
    focal: bool = False


@dataclass
class Noise:
    """Geman-McClure scales of this stage, and the noise that they are multiples of."""

    points: float
    points_scale: float
    flow: float
    flow_scale: float
    pairs: Float[np.ndarray, " E"]
    """Weight of each pair as a whole."""


class Solver:
    """Solves one scene; the state is handed in and out."""

    def __init__(
        self,
        samples: Samples,
        flow: FlowSamples | None,
        held: Held,
        per_frame_focal: bool = False,
        flow_weight: float = 1.0,
        temporal_weight: float = 0.0,
    ) -> None:
        """Everything but the state; see ``AlignmentConfig`` for the weights."""
        self.samples, self.held, self.temporal_weight = samples, held, temporal_weight
        self.flow = flow if flow is not None and flow_weight > 0 and flow.weights.any() else None
        self.flow_weight = flow_weight
        self.layout = Layout(samples, self.flow, temporal_weight > 0)
        self.num_focals = samples.num_frames if per_frame_focal else 1
        self.views = [np.array(v, dtype=np.int64).reshape(-1, 2).T for v in samples.views]
        self.held_places = self.layout.cameras.ravel() if held.poses else self.layout.cameras[0]

    def solve(self, state: State) -> State:
        """From a start to the end."""
        damping = 1e-4
        for multiple, steps in SCHEDULE:
            noise = self._noise(state, multiple)
            depth_unit = self._depth_unit(state)
            cost = self._cost(state, noise, depth_unit)
            for _ in range(steps):
                blocks, system = self._linearise(state, noise, depth_unit)
                found = self._improve(state, blocks, system, noise, depth_unit, cost, damping)
                if found is None:
                    break
                trial, trial_cost, damping = found
                gain, state = cost - trial_cost, trial
                depth_unit = self._depth_unit(state)
                cost = self._cost(state, noise, depth_unit)
                if gain < CONVERGED * cost:
                    break
        return state

    def _improve(
        self,
        state: State,
        blocks: list[FrameBlock],
        system: System,
        noise: Noise,
        unit: list[np.ndarray],
        cost: float,
        damping: float,
    ) -> tuple[State, float, float] | None:
        """The state after a step that lowers the cost, that cost and the damping for the next; None if none does."""
        for _ in range(6):
            trial = self._apply(state, blocks, *system.solve(damping, self.held_places, self.held.focal))
            trial_cost = self._cost(trial, noise, unit)
            if trial_cost < cost:
                return trial, trial_cost, max(damping / 5, 1e-8)
            damping = max(10 * damping, 1e-6)
        return None

    def robust_shares(self, state: State) -> Float[np.ndarray, "E 2"]:
        """How much of the weight of each pair's views is left after the robust weights, 0 to 1."""
        noise, unit = self._noise(state, SCHEDULE[-1][0]), self._depth_unit(state)
        shares = np.zeros((len(self.samples.pairs), 2))
        for n, (edge, side) in enumerate(self.views):
            if len(edge):
                weights = self.samples.weights[edge, side]
                left = weights * _geman_mcclure(self._errors(state, n, unit[n]), noise.points_scale)
                left = left.sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-12)
                shares[edge, side] = left * noise.pairs[edge]
        return shares

    def _depth_unit(self, state: State) -> list[np.ndarray]:
        """Depth of each predicted point in the pair's own scale, the unit of its error."""
        return [np.outer(state.pair_from_world.scale[edge], state.depth[n]) for n, (edge, _) in enumerate(self.views)]

    def _errors(self, state: State, frame: int, unit: Float[np.ndarray, "M K"]) -> Float[np.ndarray, "M K"]:
        """Error of each point predicted of a frame, as a share of its depth."""
        edge, side = self.views[frame]
        camera_to_pair = state.pair_from_world[edge].matrix()[:, :3] @ state.c2w[frame]
        points = self.samples.rays(float(state.focals[frame])) * state.depth[frame][:, None]
        seen = points @ np.swapaxes(camera_to_pair[:, :, :3], 1, 2) + camera_to_pair[:, None, :, 3]
        return np.linalg.norm(seen - self.samples.points[edge, side], axis=-1) / unit

    def _noise(self, state: State, multiple: float) -> Noise:
        unit = self._depth_unit(state)
        frames = range(self.samples.num_frames)
        errors = [self._errors(state, n, unit[n]) for n in frames]
        weights = [self.samples.weights[edge, side] for edge, side in self.views]
        median = np.zeros((len(self.samples.pairs), 2))
        for n, (edge, side) in enumerate(self.views):
            median[edge, side] = weighted_median(errors[n], weights[n])
        usual = max(float(np.median(median)), 1e-12)
        # By the worse view: a pair that is wrong about one of its frames has not understood the other either.
        pairs = 1.0 / (1.0 + (median.max(axis=1) / (WORSE * usual)) ** 4) ** 2
        weights = [w * pairs[edge, None] for w, (edge, _) in zip(weights, self.views, strict=True)]
        everything = weighted_median(np.concatenate(errors).ravel(), np.concatenate(weights).ravel())
        points = max(float(everything) / MAXWELL_MEDIAN, POINT_FLOOR)
        flow = 1.0
        if self.flow is not None:
            missed = [np.linalg.norm(flow_residual(self.samples, self.flow, state, n)[0], axis=-1) for n in frames]
            order = [self.flow.weights[self.flow.leaving[n]] for n in frames]
            flow = (
                float(weighted_median(np.concatenate(missed).ravel(), np.concatenate(order).ravel())) / RAYLEIGH_MEDIAN
            )
            flow = max(flow, FLOW_FLOOR)
        return Noise(points, multiple * points, flow, multiple * flow, pairs)

    def _cost(self, state: State, noise: Noise, unit: list[np.ndarray]) -> float:
        total = 0.0
        for n, (edge, side) in enumerate(self.views):
            square = (self._errors(state, n, unit[n]) / noise.points_scale) ** 2
            scale = (noise.points_scale / noise.points) ** 2
            weights = self.samples.weights[edge, side] * noise.pairs[edge, None]
            total += scale * float((weights * square / (1 + square)).sum())
            if self.flow is not None and self.flow.leaving[n]:
                residual, _ = flow_residual(self.samples, self.flow, state, n)
                square = (residual**2).sum(axis=-1) / noise.flow_scale**2
                weights = self.flow_weight * (noise.flow_scale / noise.flow) ** 2 * self.flow.weights
                total += float((weights[self.flow.leaving[n]] * square / (1 + square)).sum())
        return total + self._temporal(state, None)

    def _linearise(self, state: State, noise: Noise, unit: list[np.ndarray]) -> tuple[list[FrameBlock], System]:
        system, blocks = System(self.layout, self.num_focals), []
        for n, (edge, side) in enumerate(self.views):
            robust = _geman_mcclure(self._errors(state, n, unit[n]), noise.points_scale)
            robust = robust * noise.pairs[edge, None]
            weights = self.samples.weights[edge, side] * robust / (unit[n] * noise.points) ** 2
            block = pair_terms(self.samples, state, n, weights, self.layout)
            if self.flow is not None and self.flow.leaving[n]:
                residual, there = flow_residual(self.samples, self.flow, state, n)
                robust = _geman_mcclure(np.linalg.norm(residual, axis=-1), noise.flow_scale)
                front = there[..., 2] > 0.02 * state.depth[n]
                weights = self.flow_weight * self.flow.weights[self.flow.leaving[n]] * robust * front / noise.flow**2
                block = join_blocks(block, flow_terms(self.samples, self.flow, state, n, weights, self.layout))
            # A pixel that every pair is wrong about stays where it is.
            block.depth_hessian = block.depth_hessian + 1e-6 * block.depth_hessian.mean() + 1e-12
            system.add_frame(block, n if self.num_focals > 1 else 0)
            blocks.append(block)
        self._temporal(state, system)
        return blocks, system

    def _temporal(self, state: State, system: System | None) -> float:
        """Cost of changes of velocity, in median steps of the camera; adds its equations where there is a system."""
        n = self.samples.num_frames
        if self.temporal_weight <= 0 or n < 3 or self.held.poses:
            return 0.0
        centres = state.c2w[:, :3, 3]
        step = float(np.median(np.linalg.norm(np.diff(centres, axis=0), axis=-1)))
        if step <= 1e-6 * float(np.median(state.depth)):
            return 0.0
        weight = self.temporal_weight * len(self.samples.offsets) / step**2
        change = centres[:-2] - 2 * centres[1:-1] + centres[2:]
        if system is not None:
            for k in range(n - 2):
                jacobian = np.zeros((3, 3 * POSE))
                for part, factor in enumerate((1.0, -2.0, 1.0)):
                    jacobian[:, POSE * part : POSE * part + 3] = factor * state.c2w[k + part, :3, :3]
                index = self.layout.cameras[k : k + 3].ravel()
                system.add(index, weight * jacobian.T @ jacobian, weight * jacobian.T @ change[k])
        return weight * float((change**2).sum())

    def _apply(
        self,
        state: State,
        blocks: list[FrameBlock],
        step: Float[np.ndarray, " L"],
        focal_step: Float[np.ndarray, " F"],
    ) -> State:
        n = self.samples.num_frames
        by_frame = np.broadcast_to(focal_step, (n,)) if self.num_focals == 1 else focal_step
        depth = np.empty_like(state.depth)
        for k, block in enumerate(blocks):
            known = np.append(step[block.index], by_frame[k])
            delta = -(block.depth_gradient + known @ block.cross) / block.depth_hessian
            # No depth may more than halve or double in a step.
            depth[k] = np.clip(state.depth[k] + delta, 0.5 * state.depth[k], 2.0 * state.depth[k])
        cameras = step[self.layout.cameras]
        turn = geo.se3_exp(np.concatenate([np.zeros_like(cameras[:, :3]), cameras[:, 3:]], axis=1))
        turn[:, :3, 3] = cameras[:, :3]
        pairs = step[self.layout.pairs].copy()
        pairs[:, 6] = np.clip(pairs[:, 6], -0.7, 0.7)
        focals = state.focals * np.exp(np.clip(by_frame, -0.3, 0.3))
        c2w = state.c2w if self.held.poses else state.c2w @ turn
        return replace(state, c2w=c2w, focals=focals, depth=depth, pair_from_world=state.pair_from_world.step(pairs))


def _geman_mcclure(error: Float[np.ndarray, "*n"], scale: float) -> Float[np.ndarray, "*n"]:
    return 1.0 / (1.0 + (error / scale) ** 2) ** 2
