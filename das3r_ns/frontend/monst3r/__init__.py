"""The DAS3R / MonST3R / DUSt3R network: two frames in; points, confidence and dynamic probability of both out."""

from das3r_ns.frontend.monst3r.network import PairNetwork, build_network

__all__ = ["PairNetwork", "build_network"]
