"""What tells one checkpoint from another, quickly. Only light imports: every ns-* command may ask."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.network.monst3r.config import CONFIG, WEIGHTS

SAMPLES, SAMPLE = 256, 1 << 14
"""Number and size in bytes of the pieces of a file that are looked at; smaller files are read whole."""


def checkpoint_identity(path: Path) -> str:
    """A name for the contents of a checkpoint, wherever it lies and whatever it is called.

    In the hub cache that is the checksum that files are kept under. Elsewhere it is a hash of the size of the weights,
    of 4 MB evenly taken from them, and of the configuration: reading gigabytes would delay every start of ns-viewer,
    and training changes weights everywhere.

    Args:
        path: A folder as on the hub, or a file.

    Raises:
        Das3rError: It cannot be read.
    """
    file = path / WEIGHTS if path.is_dir() else path
    try:
        blob = file.parent / file.readlink() if file.is_symlink() else file
        if blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name):
            return blob.name[:20]
        digest = hashlib.blake2b(_sampled(file), digest_size=10)
        configuration = file.parent / CONFIG
        if file.suffix == ".safetensors" and configuration.is_file():
            digest.update(configuration.read_bytes())
    except OSError as error:
        raise Das3rError(
            f"The checkpoint {path} cannot be read ({error}). Name a .pth file, or a folder with {CONFIG} "
            f"and {WEIGHTS}."
        ) from error
    return digest.hexdigest()


def _sampled(file: Path) -> bytes:
    size = file.stat().st_size
    with file.open("rb") as stream:
        if size <= SAMPLES * SAMPLE:
            return stream.read()
        pieces = [str(size).encode()]
        for number in range(SAMPLES):
            stream.seek((size - SAMPLE) * number // (SAMPLES - 1))
            pieces.append(stream.read(SAMPLE))
        return b"".join(pieces)
