"""A demo that several tests look at."""

from __future__ import annotations

import pytest

from das3r_ns.demo.write import write_demo


@pytest.fixture(scope="session")
def room(tmp_path_factory, read_demo_folder):
    """Twelve frames of 320 x 180: enough for features."""
    return read_demo_folder(write_demo(tmp_path_factory.mktemp("room") / "room", 12, 320, 180))
