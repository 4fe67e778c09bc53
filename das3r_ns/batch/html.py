"""``batch.html``: every video of a batch on one page, without network or other files."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from das3r_ns.batch.config import STEPS
from das3r_ns.batch.pictures import AFTER, BEFORE, MASK
from das3r_ns.page import figure, html_page
from das3r_ns.pictures import read_picture
from das3r_ns.slider import SLIDER_STYLE, slider

SHOWN = 300
"""Most videos whose pictures are in the page, the failed ones first: some 60 kB each."""
CAMERAS = {"tripod": "from a tripod", "rotation": "only turns", "general": "moves"}
STYLE = """
.videos{display:grid;grid-template-columns:repeat(auto-fill,minmax(330px,1fr));gap:1rem;margin:1rem 0}
td.failed,.failed{overflow-wrap:anywhere}
ul.note{padding-left:1.1rem}
"""


def batch_page(results: Mapping[str, Any], output: Path) -> str:
    """The page.

    Args:
        results: What ``batch.json`` holds.
        output: The output folder, which the pictures' names are relative to.
    """
    videos: Mapping[str, Any] = results["videos"]
    failed = [name for name, video in videos.items() if problems(video)]
    done = [name for name, video in videos.items() if all(s in video["steps"] for s in results["steps"])]
    whole = [name for name in done if name not in failed]
    parts = [
        f"<h1>das3r batch</h1><p>{len(whole)} of {len(videos)} videos done"
        f"{f', <span class=failed>{len(failed)} failed</span>' if failed else ''}: "
        f"{escape(', '.join(results['steps']))}.</p>",
        f"<p class=note>das3r {escape(results['das3r_version'])}, preset {escape(results['preset'])} unless said "
        f"otherwise. The last run took {results['seconds']:.0f} s for {results['work_seconds']:.0f} s of work.</p>",
    ]
    if failed:
        parts.append("<h2>What failed</h2><ul>")
        for name in failed:
            parts += [
                f"<li class=failed>{_link(name, where)}: {escape(why)}</li>" for where, why in problems(videos[name])
            ]
        parts.append("</ul><p class=note>das3r batch leaves these alone unless --retry-failed is given.</p>")
    parts += ["<h2>Table</h2>", _table(videos), "<h2>Videos</h2><div class=videos>"]
    shown = [*failed, *(name for name in videos if name not in set(failed))][:SHOWN]
    parts += [_video(name, videos[name], output) for name in shown]
    parts.append("</div>")
    if len(shown) < len(videos):
        parts.append(
            f"<p class=note>Pictures of {len(shown)} videos are in this page; those of the others lie in their "
            "folders (batch/*.jpg).</p>"
        )
    return html_page("das3r batch", parts, STYLE + SLIDER_STYLE)


def problems(video: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Where a video failed, and the paragraphs."""
    whole = [("", video["failed"])] if video.get("failed") else []
    return whole + [(step, record["failed"]) for step, record in video["steps"].items() if "failed" in record]


def _anchor(name: str) -> str:
    return "video-" + quote(name, safe="")


def _link(name: str, step: str = "") -> str:
    return f'<a href="#{_anchor(name)}">{escape(name)}</a>{f", {escape(step)}" if step else ""}'


def _table(videos: Mapping[str, Any]) -> str:
    steps = [step for step in STEPS if any(step in video["steps"] for video in videos.values())]
    names = ["video", "frames", "size", "camera", "verdict", *(f"{step} s" for step in steps), "peak MB", "written MB"]
    rows = []
    for name, video in videos.items():
        records = video["steps"]
        cells = [
            f"<td>{_link(name)}</td><td>{video['frames']}</td><td>{video['size'][0]}x{video['size'][1]}</td>",
            *(f"<td>{escape(str(video.get(key) or '-'))}</td>" for key in ("camera_kind", "verdict")),
        ]
        for step in steps:
            record = records.get(step, {})
            seconds = f"{record['seconds']:.1f}" if "seconds" in record else "-"
            cells.append("<td class=failed>failed</td>" if "failed" in record else f"<td>{seconds}</td>")
        peak = max((record.get("peak_mb", 0) for record in records.values()), default=0)
        written = sum(record.get("bytes", 0) for record in records.values()) / 1e6
        rows.append(f"<tr>{''.join(cells)}<td>{peak}</td><td>{written:.1f}</td></tr>")
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    return f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"


def _video(name: str, video: Mapping[str, Any], output: Path) -> str:
    pictures = {title: output / file for title, file in video.get("pictures", {}).items()}
    parts = [f'<section class=card id="{_anchor(name)}"><h3>{escape(name)}</h3>']
    camera = CAMERAS.get(video.get("camera_kind", ""), "")
    facts = [f"{video['frames']} frames of {video['size'][0]} x {video['size'][1]}", str(video["preset"])]
    parts.append(f"<p class=note>{escape(', '.join(facts + ([f'camera {camera}'] if camera else [])))}</p>")
    if BEFORE in pictures and AFTER in pictures:
        parts.append(_slider(pictures[BEFORE], pictures[AFTER]))
    elif BEFORE in pictures:
        parts.append(figure(pictures[BEFORE], "a frame"))
    if MASK in pictures:
        parts.append(figure(pictures[MASK], "what moves"))
    parts += [
        f"<p class=failed>{escape(f'{step}: ' if step else '')}{escape(why)}</p>" for step, why in problems(video)
    ]
    if video.get("messages"):
        parts.append("<ul class=note>" + "".join(f"<li>{escape(text)}</li>" for text in video["messages"]) + "</ul>")
    return "".join([*parts, "</section>"])


def _slider(before: Path, after: Path) -> str:
    first, second = read_picture(before), read_picture(after)
    if first is None or second is None:
        return ""
    return slider(first[..., ::-1], second[..., ::-1], "before | after: drag the border")
