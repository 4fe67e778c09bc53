"""Which axis is up: programs differ, and each file is written the right way up for those that read it."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float

UpAxis = Literal["z", "y", "-y"]

_FROM_Z = {
    "z": np.eye(3),
    "y": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "-y": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
}
"""Turns that leave x as it is and bring what is up from z to there."""


def turn(old: UpAxis, new: UpAxis) -> Float[np.ndarray, "3 3"]:
    """Rotation from a world in which one axis is up to the same with another; x stays."""
    return _FROM_Z[new] @ _FROM_Z[old].T
