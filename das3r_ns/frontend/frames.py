"""Which frames of a video the front end works on: one pass over small pictures tells, once for every video.

What it saw is kept beside the results of the front end, so that these are found again without decoding anything.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from das3r_ns.errors import Das3rError
from das3r_ns.files import write_text
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.progress import Progress
from das3r_ns.scene import cache
from das3r_ns.video import open_clip
from das3r_ns.video.clip import Clip
from das3r_ns.video.selection import EVERY_SHOT, select
from das3r_ns.video.timeline import VERSION, Timeline
from das3r_ns.video.watch import Watcher

SAMPLE = 1 << 14
"""Bytes at the start, in the middle and at the end of a file by which it is told from others."""


def find_frames(data: Path, config: FrontEndConfig, progress: Progress) -> Clip:
    """Open a video and choose the frames to use: of one shot, none faded, no picture twice, none beyond the budget.

    Cameras that the user knows hold all frames together, so that no cuts are looked for then.

    Args:
        data: Folder of images or video file.
        config: Settings of the front end.
        progress: Where to report.

    Raises:
        Das3rError: The video is unusable, has no such shot, or shows nothing.
    """
    clip = open_clip(data, config.max_frames)
    timeline = _timeline(clip, config, progress)
    shot = EVERY_SHOT if config.known_poses is not None and config.shot == 0 else config.shot
    return clip.selected(select(timeline, clip.times, str(clip.path), shot, clip.max_frames))


def _timeline(clip: Clip, config: FrontEndConfig, progress: Progress) -> Timeline:
    roots = cache.cache_roots(clip.path)
    name = f"timeline-{VERSION}-{_fingerprint(clip)}.json"
    for root in roots:
        try:
            found = Timeline.from_json((root / name).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            continue
        if found is not None and found.num_frames == clip.num_source_frames:
            return found
    watcher = Watcher(clip.num_source_frames, careful=clip.path.is_dir())
    with progress.stage("Looking through the video", clip.num_source_frames) as advance:
        for number, grey in clip.glance(advance, config.long_side):
            watcher.add(number, grey)
        timeline = replace(watcher.finish(), damaged=tuple(clip.damaged))
    with suppress(OSError, Das3rError):  # said where results are stored; a timeline alone can be had again
        write_text(cache.writable_root(roots) / name, timeline.to_json() + "\n")
    return timeline


def _fingerprint(clip: Clip) -> str:
    """Tells the files of a video from others, wherever they lie, without reading them whole."""
    digest = hashlib.blake2b(digest_size=10)
    for path in clip.sources:
        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                digest.update(f"{path.name}\n{size}\n".encode("utf-8", "surrogateescape"))
                for place in sorted({0, max(size // 2 - SAMPLE // 2, 0), max(size - SAMPLE, 0)}):
                    file.seek(place)
                    digest.update(file.read(SAMPLE))
        except OSError as error:
            raise Das3rError(f"{path} cannot be read ({error}). Check its permissions.") from error
    return digest.hexdigest()
