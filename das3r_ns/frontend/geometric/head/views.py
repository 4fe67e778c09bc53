"""What the head sees of a clip: maps of evidence, picture and depth, frame by frame, each from 0 to 1."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float

from das3r_ns.frontend.geometric.case import Case
from das3r_ns.frontend.geometric.dynamic_probability import Ruled
from das3r_ns.frontend.geometric.motion.evidence import CUE_NAMES
from das3r_ns.frontend.geometric.motion.pair_evidence import flow_trust
from das3r_ns.frontend.geometric.pair_flows import pixel_grid

OF_REGIONS = ("value", "confidence", "certain", *CUE_NAMES, "plate", "gone", "boundary")
"""Maps that have one value per superpixel."""
OF_LOOK = ("change", "witnessed", "still", "missing", "at_rest", "believed")
"""Maps of :class:`~das3r_ns.frontend.geometric.motion.SecondLook`."""
OF_PICTURE = ("lightness", "a", "b")
OF_DEPTH = ("inverse_depth", "reliability")
OF_NEIGHBOURS = tuple(f"{name}_{where}" for where in ("before", "after") for name in ("relative", "change", "trust"))
"""Of the frames before and after, brought here by the flow."""
MAPS = (*OF_REGIONS, *(f"look_{name}" for name in OF_LOOK), *OF_PICTURE, *OF_DEPTH, *OF_NEIGHBOURS)
FLAGS = ("has_look", "has_plate", "has_gone", "has_parallax")
CONTEXT = (*FLAGS, *(f"mean_{name}" for name in OF_REGIONS), "mean_relative")
"""What is the same for all pixels of a clip."""

OCTAVES = 3.0
"""Powers of two, nearer and farther than the middle of a frame, within which inverse depth is told apart."""


class Views:
    """The maps of one clip; each frame's are made when they are asked for, for all together take gigabytes."""

    def __init__(self, case: Case, ruled: Ruled) -> None:
        self.case, self.ruled = case, ruled
        evidence = case.evidence
        cues = {"value": ruled.value, "confidence": np.minimum(ruled.confidence / 2.0, 1.0), "certain": ruled.certain}
        cues |= {name: getattr(evidence, name) for name in CUE_NAMES}
        nothing = np.zeros(evidence.regions.count)
        cues["plate"] = nothing if evidence.plate is None else evidence.plate
        cues["gone"] = nothing if evidence.gone is None else evidence.gone
        boundary = nothing.copy()
        np.maximum.at(boundary, evidence.regions.edges, evidence.boundary[:, None])
        cues["boundary"] = np.minimum(boundary, 1.0)
        self.of_regions = np.stack([cues[name] for name in OF_REGIONS]).astype(np.float32)
        flags = (case.look is not None, evidence.plate is not None, evidence.gone is not None, case.world.has_parallax)
        share = evidence.regions.size / evidence.regions.size.sum()
        means = [*(self.of_regions @ share), np.minimum(ruled.relative, 1.0).mean()]
        self.context = np.array([*map(float, flags), *means], np.float32)

    def __len__(self) -> int:
        return len(self.ruled.relative)

    def relative(self, t: int) -> Float[np.ndarray, "h w"]:
        """What the rules make of a frame."""
        return self.ruled.relative[t]

    def maps(self, t: int) -> Float[np.ndarray, "C h w"]:
        """All of :data:`MAPS` of a frame, 0 to 1, float32."""
        case, labels = self.case, self.case.evidence.regions.labels[t]
        lab = cv2.cvtColor(case.small[t], cv2.COLOR_RGB2LAB).astype(np.float32) / 255.0
        nothing = np.zeros(labels.shape, np.float32)
        look = [nothing if case.look is None else getattr(case.look, name)[t] for name in OF_LOOK]
        parts = [*self.of_regions[:, labels], *look, *np.moveaxis(lab, -1, 0), *self._depth(t)]
        for s in (t - 1, t + 1):
            parts += self._neighbour(t, s) if 0 <= s < len(self) else [nothing] * 3
        return np.clip(np.stack(parts, dtype=np.float32), 0.0, 1.0)

    def _depth(self, t: int) -> list[Float[np.ndarray, "h w"]]:
        world = self.case.world
        if not world.has_parallax:
            return [np.full_like(world.depth[t], 0.5), np.zeros_like(world.depth[t])]
        octaves = np.log2(np.median(world.depth[t]) / world.depth[t])
        return [0.5 + 0.5 * octaves / OCTAVES, world.reliability[t]]

    def _neighbour(self, t: int, s: int) -> list[Float[np.ndarray, "h w"]]:
        flows, look = self.case.flows, self.case.look
        flow = flows.flow(t, s)
        x, y = pixel_grid(flows.height, flows.width)
        change = self.of_regions[OF_REGIONS.index("change")][self.case.evidence.regions.labels[s]]
        there = np.stack([self.ruled.relative[s], change if look is None else look.change[s]], axis=-1)
        here = cv2.remap(
            there.astype(np.float32),
            x + flow[..., 0],
            y + flow[..., 1],
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
        )
        return [here[..., 0], here[..., 1], flow_trust(flow, flows.backward_error(t, s))]
