"""Weights of the head: read, checked, written, and told from others. Light: torch only where the network is made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.geometric.head import SHIPPED

if TYPE_CHECKING:
    from torch import Tensor

    from das3r_ns.frontend.geometric.head.network import MotionHead

FORMAT = "1"
"""Raised whenever the network, or what it sees, changes: older weights are refused then."""
_FORMAT, _PROVENANCE = "das3r_motion_head", "provenance"
AGAIN = "Take weights that `das3r train-motion` of this version has written, or none for those that came with das3r"


def check_weights(path: Path | None) -> Path:
    """The file of the weights, looked at as far as that is quick.

    Args:
        path: Of the user; None = those of the package.

    Raises:
        Das3rError: It is not there, is damaged, or was written for another version of the head.
    """
    file = SHIPPED if path is None else path.expanduser()
    _metadata(file)
    return file


def weights_identity(path: Path | None) -> str:
    """A name for the contents of the weights, whatever they are called: part of the cache key.

    Raises:
        Das3rError: They cannot be used.
    """
    return hashlib.blake2b(check_weights(path).read_bytes(), digest_size=10).hexdigest()


def provenance_of(path: Path | None = None) -> dict[str, Any]:
    """Where weights come from: settings, versions, clips and what was measured at last.

    Raises:
        Das3rError: They cannot be used.
    """
    return json.loads(_metadata(SHIPPED if path is None else path)[_PROVENANCE])


def load_head(path: Path | None = None) -> MotionHead:
    """The head with its weights, ready to be asked, on the CPU.

    Raises:
        Das3rError: They cannot be used.
    """
    from das3r_ns.frontend.geometric.head.network import MotionHead
    from das3r_ns.frontend.geometric.head.views import CONTEXT, MAPS

    file = check_weights(path)
    head = MotionHead(len(MAPS), len(CONTEXT))
    with safe_open(file, framework="pt") as opened:
        found = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    expected = head.state_dict()
    if {name: value.shape for name, value in found.items()} != {name: v.shape for name, v in expected.items()}:
        raise Das3rError(f"The weights in {file} are of another network than the motion head here. {AGAIN}.")
    head.load_state_dict(found)
    return head.eval()


def save_head(weights: Mapping[str, Tensor], provenance: Mapping[str, Any], path: Path) -> None:
    """Write weights with where they come from, completely or not at all.

    Args:
        weights: State of the network.
        provenance: Whatever JSON holds.
        path: File to write.

    Raises:
        Das3rError: It cannot be written.
    """
    import torch
    from safetensors.torch import save_file

    metadata = {_FORMAT: FORMAT, "format": "pt", "licence": "Apache-2.0", _PROVENANCE: json.dumps(provenance)}
    tensors = {name: value.detach().to("cpu", torch.float32).contiguous() for name, value in weights.items()}
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary, metadata=metadata)
        temporary.chmod(0o644)  # safetensors keeps other users out
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise Das3rError(f"The weights cannot be written to {path}: {error}.") from error


def _metadata(file: Path) -> dict[str, str]:
    if not file.is_file():
        raise Das3rError(f"The weights of the motion head, {file}, are not there (--motion-weights). {AGAIN}.")
    try:
        with safe_open(file, framework="np") as opened:
            metadata: dict[str, str] = opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise Das3rError(f"The weights in {file} are damaged or no safetensors ({error}). {AGAIN}.") from error
    version = metadata.get(_FORMAT)
    if version != FORMAT:
        which = "are not of a motion head" if version is None else f"are of version {version} of the head, not {FORMAT}"
        raise Das3rError(f"The weights in {file} {which} (--motion-weights). {AGAIN}.")
    return metadata
