"""The front end from a video to a cached SceneEstimate."""

from __future__ import annotations

import dataclasses
import importlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from das3r_ns import __version__
from das3r_ns.errors import Das3rError
from das3r_ns.frontend import cache
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.scene import SceneEstimate
from das3r_ns.frontend.video import MIN_SIDE, Clip, open_clip, working_size
from das3r_ns.progress import Progress

ORIGINALS = "frames_full"


@dataclass(frozen=True)
class FrontEnd:
    """A way to estimate a scene; imported when it is used, for it may be heavy."""

    module: str
    """Module with ``estimate(images, names, config, progress) -> SceneEstimate``."""
    version: int
    """Raised whenever results change. Part of the cache key, unlike the version of the package: an upgrade that leaves
    the front end alone must not orphan the cameras that trained checkpoints depend on."""
    needs: str
    """What it works with, for the line that says which front end was taken."""
    settings: tuple[str, ...] = ()
    """Fields of FrontEndConfig, besides the size, that change its results: they are part of the cache key."""


FRONT_ENDS = {
    "geometric": FrontEnd("das3r_ns.frontend.geometric", 1, "optical flow and geometry, no trained weights"),
    "monst3r": FrontEnd(
        "das3r_ns.frontend.monst3r.front_end",
        1,
        "a network for pairs of frames, then global alignment",
        ("network_size", "pair_graph", "window", "window_overlap", "precision"),
    ),
}


@dataclass(frozen=True)
class PreparedScene:
    """Everything known about a video before training."""

    data: Path
    """Folder or file the video came from."""
    entry: cache.CacheEntry
    clip: Clip

    @property
    def estimate(self) -> SceneEstimate:
        """Cameras, depth and dynamic probability."""
        return self.entry.estimate

    @property
    def cache_dir(self) -> Path:
        """Folder of this video and these settings; what is derived from the estimate may be kept there too."""
        return self.entry.directory

    @property
    def image_paths(self) -> list[Path]:
        """The frames at the working resolution, PNG."""
        return self.entry.image_paths

    @property
    def fps(self) -> float:
        """Frames per second of these frames."""
        return self.entry.fps

    @property
    def original_size(self) -> tuple[int, int]:
        """Width and height of the video, upright."""
        return self.entry.original_size

    @cached_property
    def original_image_paths(self) -> list[Path]:
        """The same frames at the size of the video, PNG; decoded into the cache at the first call.

        Raises:
            Das3rError: The disk is full or cannot be written.
        """
        folder, count = self.cache_dir / ORIGINALS, self.estimate.num_frames
        width, height = self.original_size
        if not folder.is_dir():
            with cache.writing(folder, count * width * height * 3) as temporary:
                progress = Progress()
                with progress.stage("Writing frames at full size", count) as advance:
                    cache.write_frames(temporary / ORIGINALS, self.clip.original_images(advance))
                if not folder.is_dir():  # else another process was quicker
                    (temporary / ORIGINALS).replace(folder)
        return cache.frame_paths(folder, count)


def load_or_estimate(
    data: Path, config: FrontEndConfig, progress: Progress | None = None, require_cache: bool = False
) -> PreparedScene:
    """The scene estimate of a video: from the cache, or computed and stored there.

    Args:
        data: Folder of images or video file.
        config: Settings of the front end.
        progress: Where to report; to stderr if None.
        require_cache: Fail instead of computing anything.

    Returns:
        What is in the cache, also in the run that computed it.

    Raises:
        Das3rError: The video or a setting is unusable, the disk is full, or nothing is cached although it must be.
    """
    progress = progress or Progress()
    if config.long_side < 2 * MIN_SIDE:
        raise Das3rError(
            f"A long side of {config.long_side} pixels is too small (--long-side): take 512, or 256 at least."
        )
    clip = open_clip(data, config.max_frames)
    choice = choose_front_end(config, progress, may_download=not require_cache)
    roots = cache.cache_roots(clip.path)
    choices = [choice, *(_others(choice, config, roots) if require_cache else [])]
    found = ((one, cache.find_entry(roots, _key(clip, config, one), progress.say)) for one in choices)
    choice, entry = next(((one, entry) for one, entry in found if entry is not None), (choice, None))
    if entry is not None:
        progress.say(f"Front end: read from {entry.directory}.")
    elif require_cache:
        raise Das3rError(
            f"No result of the front end for {data} with these settings is stored in {roots[0]} or {roots[1]}, and "
            "computing it anew would give other cameras than the checkpoint was trained with. Put the video and its "
            f"{cache.FOLDER} folder back as they were, or train again."
        )
    else:
        progress.say(choice.message)
        entry = _estimate(clip, config, choice, _key(clip, config, choice), roots, progress)
    return PreparedScene(data, entry, clip)


@dataclass(frozen=True)
class Choice:
    """Which front end runs, and why."""

    name: str
    """Key of :data:`FRONT_ENDS`."""
    message: str
    """What the user is told."""
    checkpoint: Path | None = None
    """Where the network's weights are."""
    identity: str | None = None
    """What tells them from others: part of the cache key."""


def choose_front_end(config: FrontEndConfig, progress: Progress, may_download: bool = True) -> Choice:
    """The front end to run: what was asked for, or under ``auto`` the best one that is at hand without asking the hub.

    A published checkpoint is downloaded where it was named, or ``monst3r`` was; never because of ``auto`` alone.

    Args:
        config: Settings.
        progress: Told about a download.
        may_download: Otherwise a checkpoint that is not at hand is left unknown.

    Raises:
        Das3rError: The checkpoint does not exist, or cannot be downloaded.
    """
    wanted, named = config.front_end, config.checkpoint != "auto"
    if wanted == "geometric":
        return _choice("geometric", "as asked for")
    from das3r_ns.frontend.monst3r import hub  # light: no torch

    path = hub.local_checkpoint(config.checkpoint)
    if wanted == "auto" and path is None and not named:
        return _choice("geometric", "what there is without a network's weights", _how_to_get_weights())
    if path is None and may_download:
        path = hub.find_checkpoint(config.checkpoint, progress)
    if path is None:
        return _choice("monst3r", "its weights are not at hand")
    from das3r_ns.frontend.monst3r.identity import checkpoint_identity

    reason = "as asked for" if wanted == "monst3r" else "its checkpoint was named" if named else "its weights are there"
    return _choice("monst3r", reason, f"Weights: {path}.", path, checkpoint_identity(path))


def _choice(name: str, reason: str, more: str = "", path: Path | None = None, identity: str | None = None) -> Choice:
    message = f"Front end: {name} ({FRONT_ENDS[name].needs}; {reason}). {more}".rstrip()
    return Choice(name, message, path, identity)


def _how_to_get_weights() -> str:
    from das3r_ns.frontend.monst3r import hub

    return (
        f"The network front end, monst3r, was not taken: none of {', '.join(hub.PUBLISHED)} is in the hub cache "
        f"{hub.cache_directory()}, and weights are not downloaded unasked. To use it, run `das3r weights --download "
        "das3r` once (2.4 GB, for non-commercial use only), or name a checkpoint file or folder (--checkpoint)."
    )


def _others(choice: Choice, config: FrontEndConfig, roots: list[Path]) -> list[Choice]:
    """What else may have made a result that is needed: the weights may be gone since, or have come."""
    identities = cache.recorded(roots, "checkpoint")
    others = [Choice("monst3r", "", identity=identity) for identity in identities if identity != choice.identity]
    if config.front_end == "auto" and choice.name != "geometric":
        others.append(Choice("geometric", ""))
    return others if config.front_end != "geometric" else []


def _key(clip: Clip, config: FrontEndConfig, choice: Choice) -> str:
    # max_frames is not part of it: which frames the budget leaves is in the hash of the frames, and a larger budget
    # than frames changes nothing. Nor are settings that this front end does not look at.
    front_end = FRONT_ENDS[choice.name]
    settings: dict[str, Any] = {"front_end": choice.name, "version": front_end.version}
    settings |= {name: getattr(config, name) for name in ("long_side", *front_end.settings)}
    if choice.name == "monst3r":
        settings["checkpoint"] = choice.identity
    return cache.cache_key(clip.content_hash, settings)


def _estimate(
    clip: Clip, config: FrontEndConfig, choice: Choice, key: str, roots: list[Path], progress: Progress
) -> cache.CacheEntry:
    if clip.thinning:
        progress.say(clip.thinning)
    root = cache.writable_root(roots)
    if root != roots[0]:
        progress.say(f"{roots[0]} cannot be written; results are kept in {root / key}.")
    names = clip.names
    width, height = working_size(clip.size, config.long_side)
    cache.check_space(root, cache.estimate_bytes(len(names), height, width))
    with progress.stage("Decoding frames", len(names)) as advance:
        images = clip.working_images(config.long_side, advance)
    if len(images) < len(names):
        progress.say(f"The last {len(names) - len(images)} frames of {clip.path} cannot be decoded and are left out.")
        names = names[: len(images)]
    module = importlib.import_module(FRONT_ENDS[choice.name].module)
    settings = config if choice.checkpoint is None else dataclasses.replace(config, checkpoint=str(choice.checkpoint))
    estimate: SceneEstimate = module.estimate(images, names, settings, progress)
    provenance = {
        **estimate.provenance,
        "front_end": choice.name,
        "front_end_version": FRONT_ENDS[choice.name].version,
        "checkpoint": choice.identity,
        "das3r_version": __version__,
        "settings": dataclasses.asdict(config),
        "seconds": {stage: round(seconds, 2) for stage, seconds in progress.seconds.items()},
        "messages": list(progress.messages),
    }
    estimate = dataclasses.replace(estimate, provenance=provenance)
    entry = cache.save_entry(root, key, estimate, images, clip.fps, clip.size)
    progress.print_seconds()
    return entry
