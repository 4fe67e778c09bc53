"""From frames to a :class:`~das3r_ns.frontend.scene.SceneEstimate`: cameras, depth and dynamic probability."""
