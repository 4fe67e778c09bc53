"""Which checkpoints are published, where they are kept, and how one is found. Nothing is downloaded by importing this.

The huggingface_hub library keeps the cache, so that other programs share it and its settings hold (HF_HOME,
HF_ENDPOINT, HF_HUB_OFFLINE). No access token is sent: everything here is public.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.network.monst3r.config import CONFIG, WEIGHTS
from das3r_ns.frontend.network.monst3r.download import download_file, num_chunks
from das3r_ns.progress import Progress

ANSWER_SECONDS = 3.0
"""How long the hub may take to answer before it counts as out of reach."""

Answer = TypeVar("Answer")

LICENCE = (
    "Licence of these weights: non-commercial use only (CC BY-NC-SA 4.0 for DUSt3R's, from which the others are made). "
    "They are their authors' work and no part of das3r; the terms are at {page}."
)


@dataclass(frozen=True)
class Published:
    """A checkpoint that its authors published on the hub."""

    name: str
    """What users call it."""
    repository: str
    """Owner and name on the hub."""
    masks: bool
    """Whether it predicts what moves."""

    @property
    def page(self) -> str:
        """Where its authors describe it."""
        return f"https://huggingface.co/{self.repository}"

    @property
    def licence(self) -> str:
        """The terms in a sentence or two."""
        return LICENCE.format(page=self.page)


PUBLISHED = {
    published.name: published
    for published in (
        Published("das3r", "Kai422kx/das3r", masks=True),
        Published("monst3r", "Junyi42/MonST3R_PO-TA-S-W_ViTLarge_BaseDecoder_512_dpt", masks=False),
        Published("dust3r", "naver/DUSt3R_ViTLarge_BaseDecoder_512_dpt", masks=False),
    )
}
"""By name, the preferred one first."""


class CheckpointUnavailable(Das3rError):
    """No checkpoint is at hand and none can be downloaded now."""


def find_checkpoint(wanted: str, progress: Progress) -> Path:
    """Where a checkpoint lies on this machine; downloaded if need be, after saying so and showing its licence.

    Args:
        wanted: ``auto`` (whichever is in the hub cache, DAS3R before MonST3R before DUSt3R; else DAS3R from the hub),
            the name of a published one (cache, then hub), or the path of a folder or file.
        progress: Told what is downloaded, and how far it is.

    Raises:
        CheckpointUnavailable: It is not in the cache, and the hub is out of reach or not to be used.
        Das3rError: A path that does not exist, a full disk, or a download that broke off.
    """
    return local_checkpoint(wanted) or download(_candidates(wanted)[0], progress)


def local_checkpoint(wanted: str) -> Path | None:
    """Where a checkpoint lies on this machine, without asking the hub; None if it would have to be downloaded.

    Args:
        wanted: As for :func:`find_checkpoint`.

    Raises:
        Das3rError: A path that does not exist.
    """
    if wanted != "auto" and wanted not in PUBLISHED:
        path = Path(wanted).expanduser()
        if path.exists():
            return path
        raise Das3rError(
            f"The checkpoint {wanted} does not exist. Name a .pth file, a folder with {CONFIG} and {WEIGHTS}, or one "
            f"of auto, {', '.join(PUBLISHED)}. Relative paths start at {Path.cwd()}."
        )
    folders = (cached_folder(published) for published in _candidates(wanted))
    return next((folder for folder in folders if folder is not None), None)


def _candidates(wanted: str) -> list[Published]:
    return list(PUBLISHED.values()) if wanted == "auto" else [PUBLISHED[wanted]]


def cached_folder(published: Published) -> Path | None:
    """The folder of the hub cache that holds a checkpoint completely, without asking the hub."""
    from huggingface_hub import try_to_load_from_cache

    files = [try_to_load_from_cache(published.repository, name) for name in (WEIGHTS, CONFIG)]
    if not all(isinstance(file, str) for file in files):
        return None
    return Path(str(files[0])).parent


def cache_directory() -> Path:
    """The hub cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def download(published: Published, progress: Progress) -> Path:
    """Fetch a checkpoint into the hub cache. A download that broke off goes on where it stopped.

    Raises:
        CheckpointUnavailable: The hub is out of reach or not to be used.
        Das3rError: The disk is full, or the download broke off.
    """
    from huggingface_hub import hf_hub_download

    file = _ask_hub(published)
    # The library would start from the first byte again after an interruption. So the large file is put where it looks
    # for it, and the library does the rest: the small file, and the folder of this version.
    blob = cache_directory() / f"models--{published.repository.replace('/', '--')}" / "blobs" / file.sha256
    arrived = blob.with_name(blob.name + ".incomplete")
    _check_space(file.size - (arrived.stat().st_size if arrived.exists() else 0))
    progress.say(published.licence)
    progress.say(f"Downloading {published.repository} ({file.size / 1e9:.1f} GB) to {cache_directory()}.")
    try:
        if not blob.exists():
            blob.parent.mkdir(parents=True, exist_ok=True)
            with progress.stage("Downloading (MiB)", num_chunks(file.size)) as advance:
                download_file(file.url, blob, file.size, file.sha256, advance)
        hf_hub_download(published.repository, CONFIG, token=False)
        return Path(hf_hub_download(published.repository, WEIGHTS, token=False)).parent
    except Das3rError:
        raise
    except KeyboardInterrupt:
        raise Das3rError(f"Interrupted. {_go_on(published)}") from None
    except Exception as error:  # through whichever HTTP library the installed version uses
        raise Das3rError(
            f"The download of {published.repository} broke off ({_reason(error)}). {_go_on(published)}"
        ) from error


@dataclass(frozen=True)
class _HubFile:
    """The weights as the hub describes them."""

    url: str
    size: int
    """In bytes."""
    sha256: str


def _ask_hub(published: Published) -> _HubFile:
    """Where the weights are; also shows within seconds whether the hub can be reached at all."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    if constants.HF_HUB_OFFLINE:
        raise _unavailable(published, "the hub is not to be used (HF_HUB_OFFLINE is set)")
    try:
        url = hf_hub_url(published.repository, WEIGHTS)
        about = _in_time(lambda: get_hf_file_metadata(url, token=False, timeout=ANSWER_SECONDS))
    except Exception as error:  # through whichever HTTP library the installed version uses
        raise _unavailable(published, f"the hub does not give it ({_reason(error)})") from error
    if not (about.size and about.commit_hash and re.fullmatch(r"[0-9a-f]{64}", about.etag or "")):
        raise _unavailable(published, f"the hub does not say what {WEIGHTS} is")
    return _HubFile(
        hf_hub_url(published.repository, WEIGHTS, revision=about.commit_hash),
        about.size,
        str(about.etag),
    )


def _in_time(ask: Callable[[], Answer]) -> Answer:
    """The answer to a question, or an error after :data:`ANSWER_SECONDS`.

    The library's own limit does not hold while the name of the hub is looked up, which alone can take half a minute.
    """
    answers: list[Answer] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            answers.append(ask())
        except Exception as error:  # raised below, in the thread that asked
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    if answers:
        return answers[0]
    raise errors[0] if errors else TimeoutError(f"no answer within {ANSWER_SECONDS:.0f} s")


def _go_on(published: Published) -> str:
    return f"What has arrived is kept; `das3r weights --download {published.name}` goes on with it."


def _unavailable(published: Published, reason: str) -> CheckpointUnavailable:
    return CheckpointUnavailable(
        f"The network's weights are not at hand: {published.repository} is not in {cache_directory()}, and {reason}. "
        f"Run `das3r weights --download {published.name}` where there is a connection, or name a checkpoint file or "
        "folder."
    )


def _check_space(needed: int) -> None:
    folder = cache_directory()
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise Das3rError(
            f"The disk of {folder} is too full: the weights take {needed / 1e9:.1f} GB more and {free / 1e9:.1f} GB "
            "are free. Make room, or set HF_HOME to a folder on another disk."
        )


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
