"""The DAS3R / MonST3R / DUSt3R network: two frames in; points, confidence and dynamic probability of both out.

The network is imported at its first use: which checkpoint is at hand is asked at the start of every command, and takes
no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from das3r_ns.frontend.network.monst3r.network import PairNetwork, build_network

__all__ = ["PairNetwork", "build_network"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from das3r_ns.frontend.network.monst3r import network

    return getattr(network, name)
