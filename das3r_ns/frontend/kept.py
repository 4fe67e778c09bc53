"""What a run keeps of its scene in its own folder, so that it opens where the video or its cache is gone."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from das3r_ns.errors import Das3rError
from das3r_ns.files import replace_directory
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.frames import find_frames
from das3r_ns.frontend.prepared import PreparedScene
from das3r_ns.progress import Progress
from das3r_ns.scene import cache
from das3r_ns.video.absent import AbsentClip
from das3r_ns.video.clip import Clip

VIDEO = "video.json"
"""Names and times of the frames; and of those that the video was read for, names and a hash."""


def keep_scene(scene: PreparedScene, directory: Path) -> None:
    """Keep the estimate, its frames at the working resolution and what was derived from it; links where links can be.

    Args:
        scene: What a run is trained on.
        directory: Folder to keep it in; one of an earlier training is replaced.

    Raises:
        Das3rError: The folder cannot be written.
    """
    with cache.writing(directory, 1 << 20) as temporary:
        for item in scene.cache_dir.iterdir():
            if item.name.startswith((".", f"{cache.FRAMES}_")):
                continue  # frames of other sizes stay where they are, and what is being written is not done
            if item.is_dir():
                shutil.copytree(item, temporary / item.name, copy_function=_link)
            else:
                _link(item, temporary / item.name)
        video: dict[str, Any] = {"names": scene.estimate.frame_names, "seconds": scene.seconds}
        if not isinstance(scene.clip, AbsentClip):
            video |= {"used": scene.clip.names, "content": scene.clip.content_hash}
        (temporary / VIDEO).write_text(json.dumps(video), encoding="utf-8")
        replace_directory(temporary, directory)


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one that has no links
        shutil.copyfile(source, target)


def kept_scene(data: Path, directory: Path, config: FrontEndConfig, progress: Progress) -> PreparedScene | None:
    """The scene that :func:`keep_scene` kept; None where there is none, or it is damaged.

    Its video is taken for absent unless it is there and unchanged: what is gone may be its cache, or masks or cameras
    that were given.

    Args:
        data: Where the video was.
        directory: The folder.
        config: Settings of the front end.
        progress: Where to report.
    """
    try:
        key = json.loads((directory / cache.SCENE).read_text(encoding="utf-8"))["key"]
        entry = cache.load_entry(directory, key)
        video = json.loads((directory / VIDEO).read_text(encoding="utf-8"))
        clip = AbsentClip(data, list(video["names"]), np.array(video["seconds"], np.float64), entry.original_size)
    except (OSError, ValueError, TypeError, KeyError, cache.BadEntry):
        return None
    return PreparedScene(data, entry, _unchanged(data, config, video, progress) or clip)


def _unchanged(data: Path, config: FrontEndConfig, video: dict[str, Any], progress: Progress) -> Clip | None:
    """The frames of a video as they were when it was kept, if they still are."""
    try:
        clip = find_frames(data, config, progress)
        clip = clip.without(set(clip.names) - set(video["used"]))
        return clip if clip.content_hash == video["content"] else None
    except (Das3rError, OSError, KeyError):  # an earlier version kept names and times alone
        return None
