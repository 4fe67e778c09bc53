"""From a SceneEstimate to what nerfstudio trains on: cameras, images, static weights, seed points."""
