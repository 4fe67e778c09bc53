"""Two pictures on top of each other with a border to move between them, and a page for such: HTML, no other file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

import cv2
import numpy as np
from jaxtyping import UInt8

from das3r_ns.page import html_page

SLIDER_STYLE = """
.slider{margin:0 0 1.4rem}.slider figcaption{font-size:.85rem;color:#68727f}
.slider div{position:relative;overflow:hidden;border-radius:3px}.slider img{display:block;width:100%}
.slider .before{position:absolute;inset:0;clip-path:inset(0 calc(100% - var(--at)) 0 0)}
.slider div::after{content:"";position:absolute;inset:0 auto 0 calc(var(--at) - 1px);width:2px;background:#fff;
box-shadow:0 0 4px #000;pointer-events:none}
.slider input{position:absolute;inset:0;width:100%;height:100%;margin:0;opacity:0;cursor:ew-resize}
"""
"""What a page of another making needs for :func:`slider`."""
LONG_SIDE = 1024
"""Of the pictures in a page, pixels at most."""


def slider(before: UInt8[np.ndarray, "H W 3"], after: UInt8[np.ndarray, "H W 3"], caption: str, names: str = "") -> str:
    """A figure with one picture left of a border and the other right of it; it is moved by mouse, finger or arrow keys.

    Both pictures lie in the text itself, as JPEG.

    Args:
        before: RGB, shown on the left.
        after: RGB of the same size, shown on the right.
        caption: Line below.
        names: What the two are, for whoever hears the page; "before and after" if empty.
    """
    names = escape(names or "before and after", quote=True)
    return (
        f'<figure class=slider><div style="--at:50%"><img alt="{names}: right" src="{_data(after)}">'
        f'<img class=before alt="{names}: left" src="{_data(before)}">'
        f'<input type=range min=0 max=100 step=0.1 value=50 aria-label="{names}: where the border lies" '
        "oninput=\"this.parentNode.style.setProperty('--at',this.value+'%')\"></div>"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def page(title: str, note: str, figures: Sequence[str]) -> str:
    """A whole page: a title, a line below it, and figures."""
    heading = f"<h1>{escape(title)}</h1><p class=note>{escape(note)}</p>"
    return html_page(title, [heading, *figures], SLIDER_STYLE)


def _data(picture: UInt8[np.ndarray, "H W 3"]) -> str:
    scale = min(1.0, LONG_SIDE / max(picture.shape[:2]))
    if scale < 1:
        size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()
