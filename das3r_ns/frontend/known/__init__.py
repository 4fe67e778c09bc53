"""What the user knows of a video already: masks, cameras, a focal."""
