"""What a video is, found on a worker before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.progress import Progress


@dataclass(frozen=True)
class Look:
    """A video as the front end will see it."""

    key: str = ""
    """Of the front end's result: a hash of the frames and of the settings that change it."""
    front_end: str = ""
    """Which one will run."""
    frames: int = 0
    size: tuple[int, int] = (0, 0)
    """Width and height of the video."""
    working_size: tuple[int, int] = (0, 0)
    failed: str | None = None
    """Why it cannot be used."""


def look_at(data: Path, config: FrontEndConfig, output: Path | None = None) -> Look:
    """Choose and hash the frames of a video; decoded it is only where nobody has looked through it before.

    Args:
        data: Folder of frames or video file.
        config: The front end's settings.
        output: A file of the output folder, which this machine must see.
    """
    from das3r_ns.frontend.choice import choose_front_end, result_key
    from das3r_ns.frontend.frames import find_frames
    from das3r_ns.frontend.known.knowledge import find_knowledge
    from das3r_ns.video.clip import working_size

    try:
        check_shared(output)
        progress = Progress(Console(quiet=True))
        knowledge = find_knowledge(find_frames(data, config, progress), config)
        choice = choose_front_end(config, progress, may_download=False)
        clip = knowledge.clip
        return Look(
            key=result_key(knowledge, choice),
            front_end=choice.name,
            frames=len(clip.names),
            size=clip.size,
            working_size=working_size(clip.size, config.long_side),
        )
    except Das3rError as error:
        return Look(failed=str(error))


def check_shared(output: Path | None) -> None:
    """Make sure that this machine sees the output folder.

    Raises:
        Das3rError: It does not.
    """
    if output is not None and not output.is_file():
        raise Das3rError(
            f"A machine of the cluster does not see {output.parent}. Videos and the output folder lie on a file system "
            "that all of them see under the same path."
        )
