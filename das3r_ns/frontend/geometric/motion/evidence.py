"""Evidence maps of a clip: per superpixel, what speaks for its moving on its own and how much that is worth."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from das3r_ns.frontend.geometric.motion.frame_cues import COLOUR_NOISE, FAR_STRIDES, STRIDES, FrameCues
from das3r_ns.frontend.geometric.motion.pair_evidence import COLOUR_CAP
from das3r_ns.frontend.geometric.motion.static_world import RigidPrediction, static_world
from das3r_ns.frontend.geometric.motion.superpixels import (
    Superpixels,
    build_superpixels,
    region_sum,
    segment_frame,
    temporal_links,
)
from das3r_ns.frontend.geometric.pair_flows import PairFlows
from das3r_ns.workers import workers

LINK_STRIDES = (1, 4)
"""Distances in frames between linked superpixels."""

MEDIAN_FRAMES = 31
"""Frames, at most, of which the median image is taken; more change it little."""

CUE_NAMES = ("motion", "separation", "colour", "colour_weight", "change", "change_weight", "flow_trust")
"""The fields of :class:`EvidenceMaps` that hang on the static world: they are measured anew when it is known better."""


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

    @property
    def touching(self) -> Int[np.ndarray, "T 2"]:
        """Superpixels that touch, in a frame or along the flow."""
        return np.concatenate([self.regions.edges, self.links])

    def together(self, member: Bool[np.ndarray, " S"]) -> tuple[int, Int[np.ndarray, " S"]]:
        """How many groups there are, and that of each superpixel: members that touch, in a frame or along the flow."""
        edges = self.touching[member[self.touching].all(axis=1)]
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

        frames = [FrameCues(regions, t, regions.edges[edge_frame == t]) for t in range(len(images))]

        def one(frame: FrameCues) -> dict[str, Float[np.ndarray, " s"]]:
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
