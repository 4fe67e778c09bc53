"""Which front end runs: what was asked for, or the best one that is at hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.geometric.head.weights import weights_identity
from das3r_ns.frontend.known.knowledge import Knowledge
from das3r_ns.frontend.windows import AGAIN, AT_ONCE, WINDOW
from das3r_ns.progress import Progress
from das3r_ns.scene import cache


@dataclass(frozen=True)
class FrontEnd:
    """A way to estimate a scene; imported when it is used, for it may be heavy."""

    module: str
    """Module with ``estimate(images, names, config, progress, known, full_size) -> SceneEstimate``; ``known`` is a
    :class:`~das3r_ns.frontend.known.knowledge.Known`, ``full_size`` gives the frames again at the size of the video."""
    version: int
    """Raised whenever results change. Part of the cache key, unlike the version of the package: an upgrade that leaves
    the front end alone must not orphan the cameras that trained checkpoints depend on."""
    needs: str
    """What it works with, for the line that says which front end was taken."""
    settings: tuple[str, ...] = ()
    """Fields of FrontEndConfig, besides the size, that change its results: they are part of the cache key."""


JOINING = 2
"""Version of how windows of the front end ``geometric`` are joined: part of the cache key of videos that have some."""

FRONT_ENDS = {
    "geometric": FrontEnd(
        "das3r_ns.frontend.geometric.estimate",
        14,
        "optical flow and geometry, no trained weights",
        ("points", "stereo", "stopped"),
    ),
    "monst3r": FrontEnd(
        "das3r_ns.frontend.network.monst3r.front_end",
        2,
        "a network for pairs of frames, then global alignment",
        ("network_size", "pair_graph", "focal", "window", "window_overlap", "precision"),
    ),
}


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
    from das3r_ns.frontend.network.monst3r import hub  # light: no torch

    path = hub.local_checkpoint(config.checkpoint)
    if wanted == "auto" and path is None and not named:
        return _choice("geometric", "what there is without a network's weights", _how_to_get_weights())
    if path is None and may_download:
        path = hub.find_checkpoint(config.checkpoint, progress)
    if path is None:
        return _choice("monst3r", "its weights are not at hand")
    from das3r_ns.frontend.network.monst3r.identity import checkpoint_identity

    reason = "as asked for" if wanted == "monst3r" else "its checkpoint was named" if named else "its weights are there"
    return _choice("monst3r", reason, f"Weights: {path}.", path, checkpoint_identity(path))


def _choice(name: str, reason: str, more: str = "", path: Path | None = None, identity: str | None = None) -> Choice:
    message = f"Front end: {name} ({FRONT_ENDS[name].needs}; {reason}). {more}".rstrip()
    return Choice(name, message, path, identity)


def _how_to_get_weights() -> str:
    from das3r_ns.frontend.network.monst3r import hub

    return (
        f"The network front end, monst3r, was not taken: none of {', '.join(hub.PUBLISHED)} is in the hub cache "
        f"{hub.cache_directory()}, and weights are not downloaded unasked. To use it, run `das3r weights --download "
        "das3r` once (2.4 GB, for non-commercial use only), or name a checkpoint file or folder (--checkpoint)."
    )


def other_choices(choice: Choice, config: FrontEndConfig, roots: list[Path]) -> list[Choice]:
    """What else may have made a result that is needed: the weights may be gone since, or have come."""
    identities = cache.recorded(roots, "checkpoint")
    others = [Choice("monst3r", "", identity=identity) for identity in identities if identity != choice.identity]
    if config.front_end == "auto" and choice.name != "geometric":
        others.append(Choice("geometric", ""))
    return others if config.front_end != "geometric" else []


def result_key(knowledge: Knowledge, choice: Choice) -> str:
    """Key under which a front end's result for a video is kept.

    It knows the frames that the budget leaves, and the settings that this front end looks at.
    """
    front_end = FRONT_ENDS[choice.name]
    settings: dict[str, Any] = {"front_end": choice.name, "version": front_end.version, **knowledge.settings}
    settings |= {name: getattr(knowledge.config, name) for name in ("long_side", *front_end.settings)}
    if choice.name == "geometric" and len(knowledge.clip.indices) > AT_ONCE:
        settings["windows"] = [WINDOW, AGAIN, JOINING]
    if choice.name == "geometric" and knowledge.config.motion == "head":  # left out else: nothing must be orphaned
        settings["motion_weights"] = weights_identity(knowledge.config.motion_weights)
    if choice.name == "monst3r":
        settings["checkpoint"] = choice.identity
    return cache.cache_key(knowledge.clip.content_hash, settings)
