"""Evidence maps of a clip: per superpixel, what speaks for its moving on its own and how much that is worth."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components, dijkstra

from das3r_ns.frontend.geometric import pair_kernels as kernels
from das3r_ns.frontend.geometric.motion.pair_evidence import (
    COLOUR_CAP,
    PairEvidence,
    colour_error,
    motion_boundary,
    pair_evidence,
)
from das3r_ns.frontend.geometric.motion.static_world import RigidPrediction, StaticWorld, static_world
from das3r_ns.frontend.geometric.motion.superpixels import (
    Superpixels,
    boundary_mean,
    build_superpixels,
    region_sum,
    segment_frame,
    temporal_links,
)
from das3r_ns.frontend.geometric.pair_flows import PairFlows
from das3r_ns.workers import workers

STRIDES = (1, 2, 4)
"""Distances in frames at which motion is looked for. DIS loses fast movers at longer ones."""

FAR_STRIDES = (8, 16)
"""Longer distances at which only the static world is compared, not the flow."""

SEEN_AGAIN = 0.1
"""Share of the other frames in which a static point must look the same: movers may hide it in most of them."""

LINK_STRIDES = (1, 4)
"""Distances in frames between linked superpixels."""

MEDIAN_FRAMES = 31
"""Frames, at most, of which the median image is taken; more change it little."""

COLOUR_NOISE = 6.0
"""Grey levels, summed over L, a and b, by which the same point differs between two frames of a video."""

CUE_NAMES = ("motion", "separation", "colour", "colour_weight", "change", "change_weight", "flow_trust")


@dataclass
class EvidenceMaps:
    """All that the step which decides between moving and static may look at; cues are per superpixel, 0 to 1."""

    regions: Superpixels
    """Superpixels at the resolution of the flow."""
    motion: Float[np.ndarray, " S"]
    """Significance of the motion relative to a static world."""
    separation: Float[np.ndarray, " S"]
    """How much the motion must change on the way from the edge of the picture."""
    colour: Float[np.ndarray, " S"]
    """How much better the flow explains the colours of other frames than a static world does."""
    colour_weight: Float[np.ndarray, " S"]
    """What ``colour`` is worth: near 0 where the picture would look the same whether the superpixel moved or not."""
    change: Float[np.ndarray, " S"]
    """How much the superpixel differs from what nearly all other frames show where a static world has it. Needs no flow
    and hears many witnesses, but a uniform mover that hardly moves looks the same too."""
    change_weight: Float[np.ndarray, " S"]
    """What ``change`` is worth: little where few frames show the place, or where hardly anything in the frame looks as
    a static world would."""
    flow_trust: Float[np.ndarray, " S"]
    """Whether flow leads there and back; near 0 where the other cues are guesses."""
    plate: Float[np.ndarray, " S"] | None
    """How much the superpixel differs from the median of the clip; None unless the camera stands on a tripod."""
    looks_behind: bool
    """Whether ``change`` compares with what stereo has measured behind a superpixel: flow has no say in it then."""
    boundary: Float[np.ndarray, " E"]
    """Strength of a motion boundary between the superpixels of each of ``regions.edges``, 0 to about 1."""
    links: Int[np.ndarray, "L 2"]
    """Superpixels of different frames that flow carries onto one another."""
    link_share: Float[np.ndarray, " L"]
    """Share of the first that lands on the second."""
    gone: Float[np.ndarray, " S"] | None = None
    """How surely the superpixel shows what is gone from its place in other frames, however still it stands; None where
    nobody has looked, or what stops is to stay."""
    covers: Float[np.ndarray, " S"] | None = None
    """How surely the superpixel is part of something that hides what is nearer than it seems; None where nobody has
    looked."""

    @property
    def moved(self) -> Float[np.ndarray, " S"]:
        """Motion by the flow alone: significant, and other than the surroundings'."""
        return np.sqrt(self.motion * self.separation)

    @property
    def static_by_flow(self) -> Float[np.ndarray, " S"]:
        """How surely the flow, where it is good, says that the superpixel does not move."""
        return self.flow_trust * (1 - self.moved)

    def together(self, member: Bool[np.ndarray, " S"]) -> tuple[int, Int[np.ndarray, " S"]]:
        """How many groups there are, and that of each superpixel: members that touch, in a frame or along the flow."""
        touching = np.concatenate([self.regions.edges, self.links])
        edges = touching[member[touching].all(axis=1)]
        graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(len(member), len(member)))
        return connected_components(graph, directed=False)


def blurred_lab(images: UInt8[np.ndarray, "N H W 3"]) -> list[Float[np.ndarray, "H W 3"]]:
    """RGB pictures, slightly blurred, in L*a*b*, in which their colours are compared."""
    blurred = (cv2.GaussianBlur(image, (3, 3), 0) for image in images)
    return [cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32) for image in blurred]


def motion_evidence(
    images: UInt8[np.ndarray, "N H W 3"],
    flows: PairFlows,
    rigid: RigidPrediction | None = None,
    on_frame: Callable[[], None] = lambda: None,
    before: EvidenceMaps | None = None,
) -> EvidenceMaps:
    """Gather the motion evidence of a clip.

    Args:
        images: RGB frames, at any resolution.
        flows: Optical flow between them for :data:`STRIDES`, both ways.
        rigid: What a static world would look like, as far as it is known; None where nothing is.
        on_frame: Called after each frame, for progress bars.
        before: Evidence of the same clip against another static world: superpixels and their links stay.

    Returns:
        The evidence at the resolution of ``flows``.
    """
    size = (flows.width, flows.height)
    small = np.stack([cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images])
    world = static_world(flows, rigid, STRIDES, FAR_STRIDES)
    lab = blurred_lab(small)
    with ThreadPoolExecutor(max_workers=workers(locked=0.2)) as pool:
        if before is None:
            regions = build_superpixels(small, np.stack(list(pool.map(segment_frame, small))))
        else:
            regions = before.regions
        edge_frame = regions.frame[regions.edges[:, 0]]

        frames = [_Frame(regions, t, regions.edges[edge_frame == t]) for t in range(len(images))]

        def one(frame: _Frame) -> dict[str, Float[np.ndarray, " s"]]:
            cues = frame.cues(flows, world, lab)
            on_frame()
            return cues

        found = list(pool.map(one, frames))
        cues = {name: np.concatenate([cues[name] for cues in found]) for name in CUE_NAMES}
        if before is not None:
            return replace(before, **cues)
        boundary = np.concatenate(list(pool.map(lambda frame: frame.boundary(flows), frames)))
    links, share = temporal_links(regions, flows, LINK_STRIDES)
    on_tripod = rigid is not None and rigid.camera_kind == "tripod"
    return EvidenceMaps(
        regions=regions,
        plate=_difference_from_median(regions, np.stack(lab)) if on_tripod else None,
        looks_behind=False,
        **cues,
        boundary=boundary,
        links=links,
        link_share=share,
    )


def _difference_from_median(regions: Superpixels, lab: Float[np.ndarray, "N H W 3"]) -> Float[np.ndarray, " S"]:
    """Difference in colour from the median image of the clip, 0 to 1."""
    median = np.median(lab[:: -(-len(lab) // MEDIAN_FRAMES)], axis=0)
    error = np.minimum(np.abs(lab - median).sum(axis=-1), COLOUR_CAP)
    mean = region_sum(regions.labels, error, regions.count) / regions.size
    return mean / (mean + COLOUR_NOISE + 0.5 * np.median(error))


class _Frame:
    """The superpixels of one frame, numbered from 0, and what its pairs say about them."""

    def __init__(self, regions: Superpixels, t: int, edges: Int[np.ndarray, "e 2"]) -> None:
        span = regions.span(t)
        self.t = t
        self.labels = regions.labels[t] - span.start
        self.size = regions.size[span]
        self.count = len(self.size)
        self.edges = edges - span.start
        self.border = np.flatnonzero(regions.border[span])

    def mean(self, values: Float[np.ndarray, "H W"]) -> Float[np.ndarray, " s"]:
        return region_sum(self.labels, values, self.count) / self.size

    def cues(
        self, flows: PairFlows, world: StaticWorld, lab: list[Float[np.ndarray, "H W 3"]]
    ) -> dict[str, Float[np.ndarray, " s"]]:
        """The cues of :class:`EvidenceMaps` for this frame.

        Averages run over the strides of one time direction. Of the two directions the one with less evidence is
        believed, since ground that a mover uncovers looks like motion from one side only.
        """
        per_direction, errors = [], []
        for sign in (1, -1):
            others = [self.t + sign * s for s in STRIDES if 0 <= self.t + sign * s < flows.num_frames]
            if others:
                pairs = [
                    pair_evidence(
                        flows.flow(self.t, j),
                        flows.backward_error(self.t, j),
                        world.flow(self.t, j),
                        world.scale(self.t, j),
                        lab[self.t],
                        lab[j],
                    )
                    for j in others
                ]
                per_direction.append(self._direction(pairs))
                errors += [np.where(pair.static_inside, pair.static_error, np.inf) for pair in pairs]
        maps = {name: np.stack([one[name] for one in per_direction]) for name in per_direction[0]}
        least = maps["excess"].argmin(axis=0)[None]
        excess = np.maximum(self.mean(np.take_along_axis(maps["excess"], least, 0)[0]), 0)
        expected = np.maximum(self.mean(np.take_along_axis(maps["expected"], least, 0)[0]), excess)
        # Pictures that differ everywhere (noise, blur, changing light) raise what counts as noise.
        noise = COLOUR_NOISE + 0.5 * np.median(maps["static_error"].min(axis=0))
        path = maps["path"].min(axis=0)
        return {
            "motion": self.mean(maps["significance"].min(axis=0)),
            "separation": path / (path + 1),
            "colour": excess / (excess + noise),
            "colour_weight": expected / (expected + noise),
            **self._change(errors, flows, world, lab),
            "flow_trust": self.mean(maps["trust"].max(axis=0)),
        }

    def _change(
        self,
        errors: list[Float[np.ndarray, "H W"]],
        flows: PairFlows,
        world: StaticWorld,
        lab: list[Float[np.ndarray, "H W 3"]],
    ) -> dict[str, Float[np.ndarray, " s"]]:
        """The cues of all other frames together, from the colour errors of the near ones (inf where not seen)."""
        for j in (self.t + sign * s for s in FAR_STRIDES for sign in (1, -1)):
            if (self.t, j) in flows.fields:
                error, inside = colour_error(lab[self.t], lab[j], world.flow(self.t, j))
                errors.append(np.where(inside, error, np.inf))
        change, known = kernels.lower_quantile(np.stack(errors), SEEN_AGAIN)
        typical = float(np.median(change))
        change = np.maximum(change - typical, 0.0)
        seen = self.mean(known / len(errors))
        return {
            "change": self.mean(change / (change + COLOUR_NOISE + 0.5 * typical)),
            "change_weight": (seen * COLOUR_NOISE / (COLOUR_NOISE + typical)) ** 2,
        }

    def _direction(self, pairs: list[PairEvidence]) -> dict[str, np.ndarray]:
        trust = np.stack([pair.trust for pair in pairs]) + 1e-3
        inside = trust * np.stack([pair.inside for pair in pairs]) + 1e-6

        def average(name: str, weights: Float[np.ndarray, "p H W"]) -> Float[np.ndarray, "H W"]:
            return kernels.weighted_mean(np.stack([getattr(pair, name) for pair in pairs]), weights)

        return {
            "significance": average("significance", trust),
            **{name: average(name, inside) for name in ("excess", "expected", "static_error")},
            "trust": np.mean([pair.trust for pair in pairs], axis=0),
            "path": self._path(pairs),
        }

    def _path(self, pairs: list[PairEvidence]) -> Float[np.ndarray, " s"]:
        """Cheapest way to each superpixel from the edge of the picture, over differences in motion."""
        first, second = self.edges.T
        cost, total = np.zeros(len(self.edges)), np.zeros(len(self.edges))
        for pair in pairs:
            motion = np.stack([self.mean(pair.residual[..., 0]), self.mean(pair.residual[..., 1])], axis=1)
            trust = self.mean(pair.trust)
            weight = np.minimum(trust[first], trust[second]) + 1e-3
            cost += weight * np.linalg.norm(motion[first] - motion[second], axis=1) / (0.3 + 3 * pair.scale)
            total += weight
        # A little change is noise; a cost of zero would be no edge at all to the sparse graph.
        cost = np.maximum(cost / total - 0.1, 1e-3)
        graph = csr_matrix((cost, (first, second)), shape=(self.count, self.count))
        path = dijkstra(graph, directed=False, indices=self.border, min_only=True)
        return np.asarray(path)

    def boundary(self, flows: PairFlows) -> Float[np.ndarray, " e"]:
        """Strength of motion boundaries on the edges, from one flow of each stride, to and fro in time."""
        maps = []
        for index, stride in enumerate(STRIDES):
            ahead, behind = self.t + stride, self.t - stride
            for j in (ahead, behind) if index % 2 == 0 else (behind, ahead):
                if 0 <= j < flows.num_frames:
                    maps.append(motion_boundary(flows.flow(self.t, j), stride))
                    break
        return boundary_mean(self.labels, np.mean(maps, axis=0), self.edges)
