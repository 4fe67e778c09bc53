"""The front end from a video to a cached SceneEstimate."""

from __future__ import annotations

import dataclasses
import importlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from das3r_ns import __version__
from das3r_ns.errors import Das3rError
from das3r_ns.frontend import cache
from das3r_ns.frontend.config import FrontEndConfig, FrontEndName
from das3r_ns.frontend.known import FIELDS as KNOWN_FIELDS
from das3r_ns.frontend.known import Knowledge, find_knowledge
from das3r_ns.frontend.scene import SceneEstimate
from das3r_ns.frontend.video import MIN_SIDE, Clip, open_clip, working_size
from das3r_ns.progress import Progress

ORIGINALS = "frames_full"


@dataclass(frozen=True)
class FrontEnd:
    """A way to estimate a scene; imported when it is used, for it may be heavy."""

    module: str
    """Module with ``estimate(images, names, config, progress) -> SceneEstimate``. Where the user knows something of the
    video it gets ``known`` too, a :class:`~das3r_ns.frontend.known.Known`."""
    version: int
    """Raised whenever results change. Part of the cache key, unlike the version of the package: an upgrade that leaves
    the front end alone must not orphan the cameras that trained checkpoints depend on."""
    needs: str
    """What it works with, for the line that says which front end 'auto' took."""


FRONT_ENDS = {"geometric": FrontEnd("das3r_ns.frontend.geometric", 1, "optical flow and geometry, no trained weights")}


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
    knowledge = find_knowledge(open_clip(data, config.max_frames), config)
    clip = knowledge.clip
    for message in [] if require_cache else knowledge.messages:
        progress.say(message)
    name, reason = choose_front_end(config.front_end)
    roots = cache.cache_roots(clip.path)
    entry = cache.find_entry(roots, _key(knowledge, name), progress.say)
    if entry is None and knowledge.refines and (require_cache or not _can_refine(config, progress)):
        knowledge = knowledge.unrefined()
        entry = cache.find_entry(roots, _key(knowledge, name), progress.say)
    if entry is not None:
        progress.say(f"Front end: read from {entry.directory}.")
    elif require_cache:
        raise Das3rError(
            f"No result of the front end for {data} with these settings is stored in {roots[0]} or {roots[1]}, and "
            "computing it anew would give other cameras than the checkpoint was trained with. Put the video and its "
            f"{cache.FOLDER} folder back as they were, or train again."
        )
    else:
        progress.say(f"Front end: {name} ({reason}).")
        entry = _estimate(knowledge, name, roots, progress)
    return PreparedScene(data, entry, clip)


def choose_front_end(wanted: FrontEndName) -> tuple[str, str]:
    """Name of the front end to run, and why."""
    if wanted == "auto":
        return "geometric", f"{FRONT_ENDS['geometric'].needs}; the only one at hand"
    return wanted, f"{FRONT_ENDS[wanted].needs}; as asked for"


def _key(knowledge: Knowledge, name: str) -> str:
    settings = dataclasses.asdict(knowledge.config)
    # Which frames the budget leaves is in the hash of the frames; a larger budget than frames changes nothing.
    del settings["max_frames"]
    for field in KNOWN_FIELDS:
        del settings[field]
    settings |= {"front_end": name, "version": FRONT_ENDS[name].version, **knowledge.settings}
    return cache.cache_key(knowledge.clip.content_hash, settings)


def _can_refine(config: FrontEndConfig, progress: Progress) -> bool:
    from das3r_ns.frontend.sam2 import unavailable

    reason = unavailable(config.sam2_model)
    if reason is not None:
        progress.say(f"Masks are not refined with SAM 2: {reason}.")
    return reason is None


def _estimate(knowledge: Knowledge, name: str, roots: list[Path], progress: Progress) -> cache.CacheEntry:
    clip, config = knowledge.clip, knowledge.config
    if clip.thinning:
        progress.say(clip.thinning)
    root = cache.writable_root(roots)
    if root != roots[0]:
        progress.say(f"{roots[0]} cannot be written; results are kept in {root}.")
    names = clip.names
    width, height = working_size(clip.size, config.long_side)
    cache.check_space(root, cache.estimate_bytes(len(names), height, width))
    with progress.stage("Decoding frames", len(names)) as advance:
        images = clip.working_images(config.long_side, advance)
    if len(images) < len(names):
        progress.say(f"The last {len(names) - len(images)} frames of {clip.path} cannot be decoded and are left out.")
        names = names[: len(images)]
    known = knowledge.load(names, (width, height), progress.say)
    module = importlib.import_module(FRONT_ENDS[name].module)
    more = {"known": known} if known.provenance else {}
    estimate: SceneEstimate = module.estimate(images, names, config, progress, **more)
    provenance = {
        **estimate.provenance,
        "front_end": name,
        "front_end_version": FRONT_ENDS[name].version,
        "das3r_version": __version__,
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(config).items()},
        **({"known": known.provenance} if known.provenance else {}),
        "seconds": {stage: round(seconds, 2) for stage, seconds in progress.seconds.items()},
        "messages": list(progress.messages),
    }
    estimate = dataclasses.replace(estimate, provenance=provenance)
    if knowledge.refines and not estimate.provenance.get("refined"):
        knowledge = knowledge.unrefined()  # SAM 2 did not load after all
    entry = cache.save_entry(root, _key(knowledge, name), estimate, images, clip.fps, clip.size)
    progress.print_seconds()
    return entry
