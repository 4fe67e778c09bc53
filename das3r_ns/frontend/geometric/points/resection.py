"""Frames that hang on too little are placed anew, one after the other, by keypoints of those that are well tied.

Where a step is large, what is near is lost to optical flow, and what is far says how the camera turns but not how far
it goes: the frames beyond have a scale of their own then. Keypoints that are told by what they look like say where the
camera stands, however far it went.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from das3r_ns.frontend.geometric.bundle.state import State
from das3r_ns.frontend.geometric.points.held_back import HeldBack
from das3r_ns.frontend.geometric.points.keypoints import Keypoints, pose_by_keypoints
from das3r_ns.frontend.geometric.points.pyramids import Pyramids
from das3r_ns.scene import geometry as geo

LOOSE = 2.0
"""Held-back error of a frame, in medians over all frames, from which it is badly tied."""

WINDOW = 8
"""Frames next to a new one whose keypoints say where it is."""

MIN_CORE = 8
"""Frames that must be well tied, one after the other, for others to be placed by them."""

MOST = 32
"""Frames that are placed anew at most: each takes about a second."""


def well_tied(held_back: HeldBack) -> range:
    """The longest run of frames without one that held-back matches say is badly tied."""
    error = np.nan_to_num(held_back.error, nan=np.inf)
    loose = np.flatnonzero(error > LOOSE * np.nanmedian(held_back.error))
    ends = [-1, *loose.tolist(), len(error)]
    gaps = np.diff(ends)
    at = int(gaps.argmax())
    return range(ends[at] + 1, ends[at + 1])


def place_anew(
    pyramids: Pyramids, state: State, core: range, static_weight: Float[np.ndarray, "N h w"] | None = None
) -> Float[np.ndarray, "N 4 4"]:
    """Place the frames before and after a run of well tied ones, outwards.

    Args:
        pyramids: The frames.
        state: Cameras, of one focal, and inverse depths. How a frame lies to its neighbour on the side of the run stays
            as it is where too few keypoints are found again.
        core: The frames that stay.
        static_weight: Probability that each pixel is static, at any resolution; None = not known.

    Returns:
        World-to-camera of all frames, in the unit of ``state``.
    """
    count, chain = len(state.w2c), state.w2c
    keypoints = Keypoints(pyramids, static_weight)
    after = [(new, range(new - 1, max(new - WINDOW, core.start) - 1, -1)) for new in range(core.stop, count)]
    before = [(new, range(new + 1, min(new + 1 + WINDOW, count))) for new in reversed(range(core.start))]
    for new, known in after + before:
        pose = pose_by_keypoints(keypoints, state, new, list(known))
        w2c = state.w2c.copy()
        w2c[new] = chain[new] @ geo.invert_rigid(chain[known[0]]) @ w2c[known[0]] if pose is None else pose
        state = replace(state, w2c=w2c)
    return state.w2c
