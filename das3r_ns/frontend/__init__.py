"""From frames to a :class:`~das3r_ns.scene.estimate.SceneEstimate`: cameras, depth and dynamic probability."""
