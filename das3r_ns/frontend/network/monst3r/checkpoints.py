"""A checkpoint file in, a network with exactly its weights out, or an error that lists what does not fit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.network.monst3r.containers import GET_ANOTHER, read_stored
from das3r_ns.frontend.network.monst3r.network import PairNetwork, build_network

LISTED = 12
"""Most names that an error lists of each kind."""


def load_network(path: Path) -> PairNetwork:
    """Read a checkpoint of DAS3R, MonST3R or DUSt3R.

    Args:
        path: A folder as on the hub (config.json and model.safetensors), or a .pth file.

    Returns:
        The network on the CPU in float32; with mask heads where the checkpoint has them.

    Raises:
        Das3rError: The file is missing, damaged, unsafe, of another architecture, or its weights do not fit.
    """
    stored = read_stored(path)
    try:
        with torch.device("meta"):  # no memory is filled that the weights would only overwrite
            network = build_network(stored.config)
    except Das3rError as error:
        raise Das3rError(f"{path} cannot be used. {error}") from None
    unique = _one_name_each(stored.weights, path)
    names = list(network.state_dict())
    _check(unique, {official_name(name): value for name, value in network.state_dict().items()}, path)
    network.load_state_dict({name: unique[official_name(name)].to(torch.float32) for name in names}, assign=True)
    return network


def official_name(name: str) -> str:
    """The name under which a weight is stored for certain: the heads' ``layer_rn.N-1`` is their ``layerN_rn``."""
    return re.sub(r"\.scratch\.layer_rn\.(\d)\.", lambda found: f".scratch.layer{int(found[1]) + 1}_rn.", name)


def _one_name_each(weights: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Weights with two names under one of them; a file may have either or both."""
    out: dict[str, Tensor] = {}
    for name, value in weights.items():
        official = official_name(name)
        if official in out and not torch.equal(out[official], value):
            raise Das3rError(f"{path} stores two different tensors where {official} and {name} are one. {GET_ANOTHER}")
        out[official] = value
    return out


def _check(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    """Raise a :class:`Das3rError` that lists what is missing, surplus or misshapen, or not finite."""
    if not set(weights) & set(expected):
        raise Das3rError(
            f"{path} is a checkpoint of another architecture: not one weight of DAS3R, MonST3R or DUSt3R is in it, but "
            f"{_list(list(weights))}. {GET_ANOTHER}"
        )
    shared = [name for name in expected if name in weights]
    faults = {
        "missing": [name for name in expected if name not in weights],
        "surplus": [name for name in weights if name not in expected],
        "of another shape": [
            f"{name} ({_shape(weights[name])} where {_shape(expected[name])} belongs)"
            for name in shared
            if weights[name].shape != expected[name].shape
        ],
        "not made of decimal numbers": [name for name in shared if not weights[name].is_floating_point()],
    }
    # Reads the whole file, so only when the quicker checks found nothing.
    if not any(faults.values()):
        faults = {"not finite": [name for name in shared if not bool(weights[name].isfinite().all())]}
    found = [f"{kind} ({len(names)}): {_list(names)}" for kind, names in faults.items() if names]
    if found:
        raise Das3rError(
            f"{path} does not fit its network. Weights {'; '.join(found)}. The checkpoint is damaged or of another "
            f"architecture. {GET_ANOTHER}"
        )


def _list(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return (", ".join(names[:LISTED]) or "nothing") + more


def _shape(value: Tensor) -> str:
    return " x ".join(map(str, value.shape)) or "a single number"
