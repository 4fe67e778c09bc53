"""What HTML reports have in common: one page with everything in it, no network, no other file."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape
from pathlib import Path

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1500px;padding:0 1.2rem}
body{color:#1c2430;background:#fff}
h1{font-size:1.7rem;margin:0}h2{font-size:1.25rem;margin:2.4rem 0 .6rem}
h3{font-size:1.05rem;margin:1.6rem 0 .3rem}h4{font-size:.9rem;margin:0 0 .4rem}
nav{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;margin:1rem 0;padding:.5rem 0;border-block:1px solid #e2e6ec}
a{color:#1864ab;text-decoration:none}a:hover{text-decoration:underline}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9rem}
th,td{padding:.25rem .7rem;border-bottom:1px solid #e2e6ec;text-align:right;vertical-align:bottom}
th:first-child,td:first-child{text-align:left;padding-left:0}
tbody tr:last-child td{border-bottom:0}thead th{border-bottom:2px solid #8a94a3;max-width:11rem}
.failed{color:#b3261e}.note{color:#68727f;max-width:62rem;margin:.3rem 0}
.scroll{overflow-x:auto}
.card{border:1px solid #e2e6ec;border-radius:6px;padding:.8rem 1rem;max-width:100%;box-sizing:border-box}
.pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(230px,1fr));gap:.6rem;margin:.4rem 0 1rem}
figure{margin:0}figure img{display:block;width:100%;border-radius:3px}figcaption{font-size:.8rem;color:#68727f}
"""


def html_page(title: str, parts: Iterable[str], style: str = "") -> str:
    """A page.

    Args:
        title: For the window, as plain text.
        parts: What it shows, as HTML.
        style: Rules of this page besides the common ones.
    """
    head = "<meta charset=utf-8><meta name=viewport content='width=device-width'>"
    head += f"<title>{escape(title)}</title><style>{STYLE}{style}</style>"
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def figure(path: Path, caption: str) -> str:
    """A JPEG file inside the page, with its caption, which says so where it is not there."""
    caption = escape(caption)
    if not path.is_file():  # deleted since it was written
        return f"<figure><figcaption>{caption}: no picture</figcaption></figure>"
    data = base64.b64encode(path.read_bytes()).decode()
    image = f'<img alt="{caption}" src="data:image/jpeg;base64,{data}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"
