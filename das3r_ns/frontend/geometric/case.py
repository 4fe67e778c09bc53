"""What is known of a clip when it is decided what moves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from das3r_ns.frontend.geometric.motion import EvidenceMaps, RigidPrediction, SecondLook
from das3r_ns.frontend.geometric.pair_flows import PairFlows


@dataclass(frozen=True)
class Case:
    """Frames, flow, evidence and depth of a clip."""

    images: UInt8[np.ndarray, "N H W 3"]
    """RGB frames at the working resolution."""
    small: UInt8[np.ndarray, "N h w 3"]
    """The same at the resolution of the evidence."""
    flows: PairFlows
    """Optical flow between them."""
    evidence: EvidenceMaps
    """What speaks for and against motion."""
    world: RigidPrediction
    """Cameras and depth, at the resolution of the evidence."""
    look: SecondLook | None = None
    """What the depth by stereo says besides; None where there is none."""
