"""The page of some frames before and after."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from das3r_ns.cleanplate.page import frames_shown, write_page


def test_frames_are_named_whatever_their_names_are(tmp_path: Path) -> None:
    picture = np.zeros((4, 6, 3), np.uint8)
    names = ["<a>.png", os.fsdecode(b"caf\xe9.png")]
    write_page(tmp_path / "page.html", "a & b", [(name, picture, picture) for name in names])
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "&lt;a&gt;.png" in text and "a &amp; b: before and after" in text and "caf?.png" in text


def test_few_frames_are_all_shown() -> None:
    assert frames_shown(3) == [0, 1, 2]
    assert len(frames_shown(100)) == 6
