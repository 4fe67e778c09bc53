"""A small video with exact ground truth, drawn from scratch: a first clip for users and the truth for tests."""

from das3r_ns.demo.write import write_demo

__all__ = ["write_demo"]
