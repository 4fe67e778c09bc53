"""The flow that a static world would show between two frames, by whichever model of it explains the clip better."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from das3r_ns.frontend.geometric.motion.background_flow import MIN_SCALE, BackgroundFlow, fit_background
from das3r_ns.frontend.geometric.motion.pair_evidence import flow_trust
from das3r_ns.frontend.geometric.pair_flows import PairFlows
from das3r_ns.frontend.pairs import Pair
from das3r_ns.scene.estimate import CameraKind
from das3r_ns.scene.geometry import rigid_flow
from das3r_ns.workers import workers

SAMPLE_STEP = 4
"""Pixels between the places at which the two models are compared."""

COST_SCALE = 1.0
"""Pixels by which flow has to differ from a model to count half against it."""

RIGID_MARGIN = 0.9
"""The cost of the rigid flow has to be below this share of the other's: its depths give it many more parameters."""


@dataclass(frozen=True)
class RigidPrediction:
    """Cameras and depth from bundle adjustment, at the resolution of the flow."""

    depth: Float[np.ndarray, "N H W"]
    """Camera z of every pixel."""
    reliability: Float[np.ndarray, "N H W"]
    """How well the depth is measured, 0 (not at all) to 1."""
    intrinsics: Float[np.ndarray, "N 3 3"]
    """Pinhole matrices in pixels of the flow's resolution."""
    c2w_cv: Float[np.ndarray, "N 4 4"]
    """Camera-to-world, OpenCV axes, in the unit of ``depth``."""
    camera_kind: CameraKind = "general"
    """Whether there is parallax (``general``), or the camera only turned or stood still."""

    @property
    def has_parallax(self) -> bool:
        """Whether depth was measured, so that the rigid flow can say more than a two-dimensional background does."""
        return self.camera_kind == "general"

    def flow(self, i: int, j: int) -> Float[np.ndarray, "H W 2"]:
        """Flow a static world would show from frame i to frame j, in pixels."""
        return self.sampled(i, j, 1)

    def sampled(self, i: int, j: int, step: int) -> Float[np.ndarray, "h w 2"]:
        """:meth:`flow` at every so many rows and columns."""
        cameras = self.intrinsics[i], self.intrinsics[j], self.c2w_cv[i], self.c2w_cv[j]
        return rigid_flow(self.depth[i], *cameras, step)[0]


@dataclass(frozen=True)
class StaticWorld:
    """What each pair of frames would show if nothing moved."""

    height: int
    """Height of the flow, in pixels."""
    width: int
    """Width of the flow, in pixels."""
    background: dict[Pair, BackgroundFlow]
    """Two-dimensional background of each pair."""
    rigid: RigidPrediction | None
    """Set where it explains the clip better than the two-dimensional backgrounds do."""
    rigid_scale: dict[Pair, float]
    """Robust standard deviation, in pixels, of what the rigid flow leaves unexplained."""

    def flow(self, i: int, j: int) -> Float[np.ndarray, "H W 2"]:
        """Flow from frame i to frame j if nothing moved, in pixels."""
        if self.rigid is not None:
            return self.rigid.flow(i, j)
        return self.background[i, j].flow(self.height, self.width)

    def scale(self, i: int, j: int) -> float:
        """Robust standard deviation, in pixels, by which the flow of what is static differs from that."""
        if self.rigid is not None:
            return self.rigid_scale[i, j]
        return self.background[i, j].scale


def static_world(
    flows: PairFlows, rigid: RigidPrediction | None, strides: tuple[int, ...], far_strides: tuple[int, ...] = ()
) -> StaticWorld:
    """Choose between the rigid flow of bundle adjustment and two-dimensional backgrounds, for the clip as a whole.

    The one that leaves the smaller robust cost (Geman-McClure) over trustworthy flow is nearer the truth. Where
    a camera has hardly any parallax that is the quadratic field, for depths and poses are then poorly determined; where
    it has, no two-dimensional field fits. A mover costs both the same, unless its depth is bent to explain it: hence
    the rigid flow must win by a margin.

    Args:
        flows: Optical flow of the clip.
        rigid: What bundle adjustment found, if anything.
        strides: Distances of the pairs that will be asked for and that decide; others are left out.
        far_strides: Distances at which the flow of the static world, but not its scale, will be asked for besides: flow
            errs too much there to decide anything.
    """
    pairs = [(i, j) for i, j in flows.pairs if abs(i - j) in strides]
    far_pairs = [(i, j) for i, j in flows.pairs if abs(i - j) in far_strides]
    with ThreadPoolExecutor(max_workers=workers(locked=0.2)) as pool:

        def backgrounds(wanted: list[Pair]) -> dict[Pair, BackgroundFlow]:
            new = [pair for pair in wanted if pair not in flows.backgrounds]
            fitted = pool.map(lambda pair: fit_background(flows.flow(*pair)), new)
            flows.backgrounds.update(zip(new, fitted, strict=True))
            return {pair: flows.backgrounds[pair] for pair in wanted}

        background = backgrounds(pairs)
        fits: list[_Fit] = []
        if rigid is not None and rigid.has_parallax:
            fits = list(pool.map(lambda pair: _compare(flows, rigid, background[pair], pair), pairs))
        if not fits or sum(f.rigid_cost for f in fits) > RIGID_MARGIN * sum(f.background_cost for f in fits):
            return StaticWorld(flows.height, flows.width, background | backgrounds(far_pairs), None, {})
    spread = {pair: fit.rigid_scale for pair, fit in zip(pairs, fits, strict=True)}
    # One frame that is mostly covered by a mover has a large spread of its own; the clip's is nearer the truth.
    typical = {s: float(np.median([spread[p] for p in pairs if abs(p[0] - p[1]) == s] or [0.0])) for s in strides}
    scale = {(i, j): max(MIN_SCALE, min(spread[i, j], typical[abs(i - j)])) for i, j in pairs}
    return StaticWorld(flows.height, flows.width, background, rigid, scale)


@dataclass(frozen=True)
class _Fit:
    """How well both models explain one pair."""

    background_cost: float
    rigid_cost: float
    rigid_scale: float


def _compare(flows: PairFlows, rigid: RigidPrediction, background: BackgroundFlow, pair: Pair) -> _Fit:
    flow = flows.sampled(*pair, SAMPLE_STEP)
    trust = flow_trust(flow, flows.backward_error(*pair, step=SAMPLE_STEP))
    from_rigid = np.linalg.norm(flow - rigid.sampled(*pair, SAMPLE_STEP), axis=-1)
    from_background = np.linalg.norm(flow - background.flow(flows.height, flows.width, SAMPLE_STEP), axis=-1)
    costs = [float((trust * r**2 / (r**2 + COST_SCALE**2)).sum()) for r in (from_background, from_rigid)]
    return _Fit(costs[0], costs[1], 1.4826 * float(np.median(from_rigid)))
