"""Whether a checkpoint is whole, fits its network, and computes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.network.monst3r.checkpoints import load_network
from das3r_ns.frontend.network.monst3r.config import PATCH, WEIGHTS
from das3r_ns.frontend.network.monst3r.containers import GET_ANOTHER
from das3r_ns.frontend.network.monst3r.download import checksum


def verify_checkpoint(path: Path, say: Callable[[str], None]) -> None:
    """Check a checkpoint from its bytes to its outputs, and say what it is.

    Args:
        path: Folder or file.
        say: Told what was found.

    Raises:
        Das3rError: What is wrong with it.
    """
    check_bytes(path / WEIGHTS if path.is_dir() else path, say)
    network = load_network(path)
    count = sum(value.numel() for value in network.parameters())
    side = 4 * PATCH
    pictures = torch.rand(2, 1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0
    outputs = network.infer_pair(*pictures)
    bad = [name for name, value in outputs.items() if not bool(value.isfinite().all())]
    if bad:
        raise Das3rError(f"{path} gives {', '.join(bad)} that are not finite: its weights are damaged. {GET_ANOTHER}")
    masks = "with" if network.config.mask_heads else "without"
    say(f"{path} is good: {count / 1e6:.1f} million weights, all finite, {masks} heads that predict what moves.")


def check_bytes(file: Path, say: Callable[[str], None]) -> None:
    """Compare a file of the hub cache with its checksum, which is the name the cache keeps it under.

    Raises:
        Das3rError: They differ.
    """
    # The weights are a link to the file itself, which is named by its checksum (and may be a link further on).
    blob = file.parent / file.readlink() if file.is_symlink() else file
    if blob.parent.name != "blobs" or not re.fullmatch(r"[0-9a-f]{64}", blob.name):
        say(f"{file} is not in the hub cache: there is no checksum to compare it with.")
        return
    found = checksum(blob)
    if found != blob.name:
        raise Das3rError(
            f"{file} is damaged: its SHA-256 is {found}, not {blob.name}. Delete {blob.resolve()} and download it anew "
            "(`das3r weights --download das3r`)."
        )
    say(f"{file.name} is what was published (SHA-256 {found}).")
