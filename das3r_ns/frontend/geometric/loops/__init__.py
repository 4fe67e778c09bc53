"""Frames far apart in time that see the same place: found, and cameras moved so that their path closes there."""
