"""A last adjustment of the cameras on points found again to a fraction of a pixel, at the size of the video."""
