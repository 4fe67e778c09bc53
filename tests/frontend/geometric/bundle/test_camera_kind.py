"""What is said of cameras that neither move nor are unknown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from das3r_ns.frontend.geometric.bundle.camera_kind import recognise_known
from das3r_ns.frontend.geometric.bundle.flow_samples import sample_flows
from das3r_ns.frontend.geometric.bundle.state import State


def test_points_without_a_projection_have_no_residual(make_room: Callable[..., Any]) -> None:
    """Of cameras that turn by more than a right angle most points lie behind the other one."""
    samples = sample_flows(make_room(count=2, strides=(1,)).flows, 12, None)
    state = State(np.tile(np.eye(4), (2, 1, 1)), np.zeros(samples.points.shape[:2]), 280.0)
    residual = np.full(samples.weights.shape, -1.0, np.float32)
    residual[:, ::4] = 0.25
    found = recognise_known(samples, state, residual, None)
    assert found.kind == "tripod"
    assert found.residual == pytest.approx(0.25)
