"""The page with a border to move: whole in itself, and the right picture on either side."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import cv2
import numpy as np

from das3r_ns.slider import LONG_SIDE, page, slider

BEFORE, AFTER = (np.full((40, 64, 3), colour, np.uint8) for colour in ((200, 30, 30), (30, 30, 200)))


class Elements(HTMLParser):
    """Tags with their attributes, as a browser finds them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep it."""
        self.found.append((tag, dict(attrs)))


def decoded(source: str) -> np.ndarray:
    """The picture of a data address, RGB."""
    data = base64.b64decode(source.removeprefix("data:image/jpeg;base64,"))
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_the_first_picture_lies_over_the_second_up_to_the_border() -> None:
    tags = Elements(slider(BEFORE, AFTER, 'frame "1" <a>')).found
    right, left = (attributes for tag, attributes in tags if tag == "img")
    assert left["class"] == "before" and "class" not in right
    assert np.abs(decoded(str(left["src"])).astype(int) - BEFORE).max() < 8
    assert np.abs(decoded(str(right["src"])).astype(int) - AFTER).max() < 8
    (border,) = (attributes for tag, attributes in tags if tag == "input")
    assert border["type"] == "range" and "--at" in str(border["oninput"])
    assert "frame &quot;1&quot; &lt;a&gt;" in slider(BEFORE, AFTER, 'frame "1" <a>')


def test_a_page_needs_no_other_file() -> None:
    text = page("demo", "a note", [slider(BEFORE, AFTER, "one"), slider(AFTER, BEFORE, "two")])
    assert text.count("<figure") == 2 and "<h1>demo</h1>" in text
    for tag, attributes in Elements(text).found:
        assert tag not in ("script", "link")
        assert str(attributes.get("src", "data:")).startswith("data:")
    assert not re.search(r"https?:|url\(|@import", text)


def test_large_pictures_are_shown_smaller() -> None:
    large = np.zeros((1500, 3000, 3), np.uint8)
    source = re.search(r'src="([^"]+)"', slider(large, large, "large"))
    assert source and decoded(source[1]).shape == (LONG_SIDE // 2, LONG_SIDE, 3)
