"""Motion evidence: what in each frame of a clip speaks for its moving on its own."""

from das3r_ns.frontend.geometric.motion.evidence import EvidenceMaps, motion_evidence
from das3r_ns.frontend.geometric.motion.look_behind import SecondLook, look_behind
from das3r_ns.frontend.geometric.motion.static_world import RigidPrediction

__all__ = ["EvidenceMaps", "RigidPrediction", "SecondLook", "look_behind", "motion_evidence"]
