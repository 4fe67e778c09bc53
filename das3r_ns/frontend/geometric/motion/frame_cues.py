"""What the pairs of one frame say of its superpixels: the cues of :class:`~.evidence.EvidenceMaps`, frame by frame."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from das3r_ns.frontend.geometric import pair_kernels as kernels
from das3r_ns.frontend.geometric.motion.pair_evidence import (
    PairEvidence,
    colour_error,
    motion_boundary,
    pair_evidence,
)
from das3r_ns.frontend.geometric.motion.static_world import StaticWorld
from das3r_ns.frontend.geometric.motion.superpixels import Superpixels, boundary_mean, region_sum
from das3r_ns.frontend.geometric.pair_flows import PairFlows

STRIDES = (1, 2, 4)
"""Distances in frames at which motion is looked for. DIS loses fast movers at longer ones."""

FAR_STRIDES = (8, 16)
"""Longer distances at which only the static world is compared, not the flow."""

SEEN_AGAIN = 0.1
"""Share of the other frames in which a static point must look the same: movers may hide it in most of them."""

COLOUR_NOISE = 6.0
"""Grey levels, summed over L, a and b, by which the same point differs between two frames of a video."""


class FrameCues:
    """The superpixels of one frame, numbered from 0, and what its pairs say about them."""

    def __init__(self, regions: Superpixels, t: int, edges: Int[np.ndarray, "e 2"]) -> None:
        """Of frame ``t`` of a clip; ``edges`` are those of ``regions.edges`` that lie in it."""
        span = regions.span(t)
        self.t = t
        self.labels = regions.labels[t] - span.start
        self.size = regions.size[span]
        self.count = len(self.size)
        self.edges = edges - span.start
        self.border = np.flatnonzero(regions.border[span])

    def mean(self, values: Float[np.ndarray, "H W"]) -> Float[np.ndarray, " s"]:
        """Mean of a map of the frame over each superpixel."""
        return region_sum(self.labels, values, self.count) / self.size

    def cues(
        self, flows: PairFlows, world: StaticWorld, lab: list[Float[np.ndarray, "H W 3"]]
    ) -> dict[str, Float[np.ndarray, " s"]]:
        """The cues for this frame, by their names in :class:`~.evidence.EvidenceMaps`.

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
        """What the pairs of one time direction say together: maps of the frame, and ``path`` of each superpixel."""
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
