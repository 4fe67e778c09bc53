"""What a run keeps of its scene in its own folder, so that it opens where the video or its cache is gone."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np

from das3r_ns.files import replace_directory
from das3r_ns.frontend.prepared import PreparedScene
from das3r_ns.scene import cache
from das3r_ns.video.absent import AbsentClip

VIDEO = "video.json"
"""Names and times of the frames."""


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
        video = {"names": scene.estimate.frame_names, "seconds": scene.seconds}
        (temporary / VIDEO).write_text(json.dumps(video), encoding="utf-8")
        replace_directory(temporary, directory)


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one that has no links
        shutil.copyfile(source, target)


def kept_scene(data: Path, directory: Path) -> PreparedScene | None:
    """The scene that :func:`keep_scene` kept, its video taken for absent; None where there is none, or it is damaged.

    Args:
        data: Where the video was.
        directory: The folder.
    """
    try:
        key = json.loads((directory / cache.SCENE).read_text(encoding="utf-8"))["key"]
        entry = cache.load_entry(directory, key)
        video = json.loads((directory / VIDEO).read_text(encoding="utf-8"))
        clip = AbsentClip(data, list(video["names"]), np.array(video["seconds"], np.float64), entry.original_size)
    except (OSError, ValueError, TypeError, KeyError, cache.BadEntry):
        return None
    return PreparedScene(data, entry, clip)
