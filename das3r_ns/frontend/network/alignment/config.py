"""Settings of the global alignment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass
class AlignmentConfig:
    """How the predictions of all pairs are brought into one scene."""

    objective: Literal["robust", "official"] = "robust"
    """'robust' is this package's own. 'official' is the objective and optimiser of DAS3R, with its shrinking
    trajectory, to compare with."""
    focal: Literal["shared", "per_frame"] = "shared"
    """One focal for all frames, or one for each (a lens that zooms)."""
    max_samples: int = 3072
    """Most pixels of a frame that cameras are solved from; the depth of all of them follows."""
    sample_budget: int = 1_000_000
    """Most predicted points in total that cameras are solved from: bounds time and memory in long videos."""
    flow_weight: float = 1.0
    """Weight of the optical flow against the predicted points, each in units of its own noise; 0 leaves it out."""
    temporal_weight: float = 0.0
    """Weight of the prior that the camera keeps its velocity, relative to the predicted points; 0 leaves it out. It is
    counted in median steps of the camera and so cannot shrink the trajectory."""
    clean_tolerance: float = 0.03
    """Share of the depth by which a point may lie in front of what another frame sees there before it is doubted."""
    dynamic_aggregation: Literal["weighted", "mean"] = "weighted"
    """Whether pairs speak on what moves by their confidence, or all alike as officially."""
    device: str = "auto"
    """Where the depth of all pixels is computed: auto, cpu, cuda, cuda:1, ..."""
