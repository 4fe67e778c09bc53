"""The unknowns of the alignment."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from das3r_ns.frontend.similarity import Sim3


@dataclass(frozen=True)
class State:
    """N cameras, E pairs and K depths a frame."""

    c2w: Float[np.ndarray, "N 4 4"]
    """Camera-to-world, OpenCV axes."""
    focals: Float[np.ndarray, " N"]
    """In pixels of the predictions."""
    depth: Float[np.ndarray, "N K"]
    """Camera z of the samples, positive."""
    pair_from_world: Sim3
    """Of each pair: where it has what lies at a place of the world."""

    def scaled(self, factor: float) -> State:
        """The same scene, larger by ``factor``."""
        c2w = self.c2w.copy()
        c2w[:, :3, 3] *= factor
        smaller = replace(self.pair_from_world, scale=self.pair_from_world.scale / factor)
        return State(c2w, self.focals, self.depth * factor, smaller)

    def moved(self, similarity: Sim3) -> State:
        """The same scene in another world frame, to which ``similarity`` leads."""
        back = similarity.inverse()
        return State(
            similarity.apply_to_cameras(self.c2w),
            self.focals,
            self.depth * float(similarity.scale),
            self.pair_from_world @ back,
        )
