"""The front end without weights: optical flow, bundle adjustment, motion evidence, multi-view stereo."""
