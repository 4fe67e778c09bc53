"""What the alignment hands on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from das3r_ns.scene import geometry as geo


@dataclass
class AlignmentResult:
    """N frames of H x W pixels in one world, whose frame is the camera frame of frame 0 unless poses were given.

    Nothing in it is ever not finite.
    """

    c2w_cv: Float[np.ndarray, "N 4 4"]
    """Camera-to-world, OpenCV axes, float64."""
    focals: Float[np.ndarray, " N"]
    """In pixels of the predictions."""
    depth: Float[np.ndarray, "N H W"]
    """Camera z, float32, positive."""
    confidence: Float[np.ndarray, "N H W"]
    """The network's own: the highest of all pairs and both views, above 1 as the networks have it, float32."""
    clean_confidence: Float[np.ndarray, "N H W"]
    """The same, and 0 where the point hangs in front of what other frames see (the occlusion test)."""
    dynamic_mean: Float[np.ndarray, "N H W"] | None = None
    """Dynamic probability over the pairs that have the frame as view 1; None without mask heads."""
    dynamic_max: Float[np.ndarray, "N H W"] | None = None
    """The highest that one of those pairs says."""
    messages: list[str] = field(default_factory=list)
    """What the user should know, a sentence or two each."""

    @property
    def num_frames(self) -> int:
        """Number of frames N."""
        return len(self.c2w_cv)

    @property
    def intrinsics(self) -> Float[np.ndarray, "N 3 3"]:
        """Pinhole matrices as the SceneEstimate has them: pixel (row 0, column 0) has its centre at (0.5, 0.5).

        The networks have the principal point at (W / 2, H / 2) with the first pixel at (0, 0), so here it lies half a
        pixel further, and unprojecting the depth gives the very points that were aligned.
        """
        height, width = self.depth.shape[1:]
        return np.stack([geo.pinhole(f, width + 1, height + 1) for f in self.focals])
