"""Clean plates: every frame of a video without what moves."""
