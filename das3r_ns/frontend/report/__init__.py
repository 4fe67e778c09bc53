"""What ``das3r masks`` writes: masks, depth, cameras and points as files, and pictures of them for the eye."""
