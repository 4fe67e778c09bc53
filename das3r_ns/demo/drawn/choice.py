"""Which places clips are drawn in, and how often."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from das3r_ns.demo.drawn.close import object_on_show, thicket
from das3r_ns.demo.drawn.places import demo_room, open_land, room, street
from das3r_ns.demo.drawn.scene import Scene

PLACES: dict[str, tuple[Callable[[np.random.Generator], Scene], float]] = {
    "demo_room": (demo_room, 0.1),
    "room": (room, 0.2),
    "street": (street, 0.2),
    "open_land": (open_land, 0.2),
    "object": (object_on_show, 0.18),
    "thicket": (thicket, 0.12),
}
"""How they are made, and their shares."""
