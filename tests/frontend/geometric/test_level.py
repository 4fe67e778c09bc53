"""What a rolling shutter leaves in level pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from das3r_ns.frontend.geometric.level import near_bend, near_message
from das3r_ns.scene.shutter import Shutter


def test_near_things_keep_what_their_depth_makes_of_the_motion(demo_video) -> None:
    truth = demo_video.estimate
    depth = np.full_like(truth.depth, 4.0)
    depth[:, -20:] = 1.0
    scene = replace(truth, depth=depth)
    motion = np.zeros((truth.num_frames, 2, 6))
    turning = Shutter(0.6, (0.5, 0.3), motion.copy())
    turning.motion[:, 0, 4] = 0.05
    assert near_bend(turning, scene) == 0.0
    motion[:, 0, 0] = 0.02
    focal = truth.intrinsics[0, 0, 0]
    # A thing at a quarter of the middle depth moves four times as far as the middle, three times too far.
    left = near_bend(Shutter(-0.6, (0.5, 0.3), motion), scene)
    assert left == pytest.approx(0.02 * 0.3 * 3 * focal)
    assert near_bend(Shutter(0.6, (0.5, 0.3), motion), replace(truth, depth=np.full_like(depth, 4.0))) == 0.0
    assert f"{left:.1f} pixels" in near_message(left)
