"""Dense bundle adjustment over optical flow."""
