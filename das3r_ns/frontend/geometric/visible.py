"""When another frame sees a point."""

IN_FRONT = 1.15
"""A source whose own surface is nearer by more than this factor does not see the point: something stands before it."""

MIN_Z = 1e-3
"""A point nearer than this share of its depth to the other camera's plane has no projection."""
