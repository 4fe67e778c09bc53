"""The trained head: a small network that corrects what the rules make of the evidence. Light; torch comes later."""

from pathlib import Path

SHIPPED = Path(__file__).with_name("motion_head.safetensors")
"""Weights that come with the package: see ``das3r train-motion``."""
