"""One dynamic probability from two opinions: the network's, and that of optical flow against the static world.

They fail differently. The network calls static things moving that often move, misses small and slow movers, and says
about 0.3 where it knows nothing. Motion evidence is blind where flow is: on plain ground, and for what moves along its
own epipolar lines. So what either of them sees moving moves, with two reserves:

- What the network says of most of the clip is its way of saying nothing, and is subtracted.
- Where good flow on textured ground shows a static world, the network alone leaves a pixel undecided at most.

With network probability n, motion probability m and trust t in the flow, all 0 to 1::

    floor = min(median of n over the clip, 1/2)         n' = max(n - floor, 0) / (1 - floor)
    w = 1 - t (1 - m) / 2                               p = 1 - (1 - m) (1 - w n')

a noisy-or (Pearl, "Probabilistic reasoning in intelligent systems", 1988, section 4.3.2) in which the network speaks
with weight w. Without the network p = m.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float

from das3r_ns.frontend.geometric.bundle.flow_samples import texture_weight
from das3r_ns.frontend.geometric.pair_flows import AGREEMENT, PairFlows

MOST_FLOOR = 0.5
"""What is subtracted from the network's probability at most: a mover may well fill most of a clip."""

STATIC_VETO = 0.5
"""Share of the network's voice that flow takes from it where it is sure of a static world."""

TRUST_STRIDES = (1, 2)
"""Distances in frames at which flow is asked whether it can be trusted."""

TRUST_BLUR = 9
"""Side in pixels of the square over which trust is averaged, so that single pixels do not speckle the result."""


def fuse_dynamic(
    network: Float[np.ndarray, "N H W"] | None,
    motion: Float[np.ndarray, "N H W"],
    trust: Float[np.ndarray, "N H W"] | None = None,
) -> Float[np.ndarray, "N H W"]:
    """Combine the opinions of network and motion; see the head of this module.

    Args:
        network: Dynamic probability that the network predicts; None for checkpoints that predict none.
        motion: Dynamic probability from :func:`das3r_ns.frontend.geometric.dynamic_probability.dynamic_probability`.
        trust: How far to believe flow that shows a static world, from :func:`flow_trust`; None = not at all.

    Returns:
        Dynamic probability, float32; never below ``motion``.
    """
    if network is None:
        return motion.astype(np.float32)
    floor = network_floor(network)
    said = np.maximum(network - floor, 0.0) / (1.0 - floor)
    weight = 1.0 if trust is None else 1.0 - STATIC_VETO * trust * (1.0 - motion)
    return (1.0 - (1.0 - motion) * (1.0 - weight * said)).astype(np.float32)


def network_floor(network: Float[np.ndarray, "N H W"]) -> float:
    """What the network says where it has nothing to say: the median over the clip, one half at most."""
    return min(float(np.median(network)), MOST_FLOOR)


def flow_trust(flows: PairFlows) -> Float[np.ndarray, "N H W"]:
    """Whether the flow of each pixel could tell motion: it has texture, and leads there and back in a near frame.

    Args:
        flows: Flow both ways between neighbours at least.

    Returns:
        0 (it is a guess) to 1, float32, at the resolution of the flow.
    """
    return np.stack([_frame_trust(flows, frame) for frame in range(flows.num_frames)])


def _frame_trust(flows: PairFlows, frame: int) -> Float[np.ndarray, "H W"]:
    agrees = np.zeros((flows.height, flows.width), dtype=bool)
    for other in (frame + sign * stride for stride in TRUST_STRIDES for sign in (-1, 1)):
        if (frame, other) in flows.fields and (other, frame) in flows.fields:
            agrees |= flows.backward_error(frame, other) < AGREEMENT
    trust = (agrees * texture_weight(flows.texture[frame])).astype(np.float32)
    return cv2.blur(trust, (TRUST_BLUR, TRUST_BLUR))
