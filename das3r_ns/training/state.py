"""What is kept of a training: the state to go on from, and the checkpoint that the front end takes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save_file

from das3r_ns.errors import Das3rError
from das3r_ns.files import replace_directory, write_json
from das3r_ns.frontend.network.monst3r.checkpoints import official_name
from das3r_ns.frontend.network.monst3r.config import CONFIG, WEIGHTS
from das3r_ns.frontend.network.monst3r.network import PairNetwork
from das3r_ns.scene.cache import check_space, writing
from das3r_ns.training.config import TrainingConfig
from das3r_ns.training.heads import mask_heads

MARKER = "training.json"
"""Says what an output folder was started with."""
STATE, CHECKPOINT = "state", "checkpoint"
_FILE = "state.pt"
_ROOM = "name a folder on another disk (--output-dir)"


@dataclass
class TrainingState:
    """How far a training has come, and all that its next step depends on."""

    epoch: int = 0
    batch: int = 0
    """Batches of this epoch that are done."""
    step: int = 0
    """Batches that are done in all."""
    best: float = -1.0
    """Highest J so far: that of the checkpoint."""
    curves: list[dict[str, float]] = field(default_factory=list)
    """What was measured after each epoch."""
    losses: list[float] = field(default_factory=list)
    """Of this epoch so far."""
    heads: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)

    def save(self, output_dir: Path) -> None:
        """Write it completely or not at all.

        Raises:
            Das3rError: The disk is full, or the folder cannot be written.
        """
        needed = 2 * _bytes(self.heads) + _bytes(self.optimizer.get("state", {}))
        with writing(output_dir / STATE, needed, _ROOM) as temporary:
            torch.save({item.name: getattr(self, item.name) for item in fields(self)}, temporary / _FILE)
            replace_directory(temporary, output_dir / STATE)

    @classmethod
    def load(cls, output_dir: Path) -> TrainingState | None:
        """That of an interrupted training; None where there is none.

        Raises:
            Das3rError: It cannot be read.
        """
        file = output_dir / STATE / _FILE
        if not file.is_file():
            return None
        try:
            return cls(**torch.load(file, map_location="cpu", weights_only=True))
        except Exception as error:  # what is damaged makes the reader stumble in any way at all
            raise Das3rError(
                f"The state of the training in {file} cannot be read ({type(error).__name__}). Delete {output_dir} and "
                "start anew."
            ) from error


class Resumable(Protocol):
    """Settings of a training that can go on where it was interrupted."""

    output_dir: Path

    def decisive(self) -> dict[str, object]:
        """Those that a resumed training must share."""
        ...


def check_resumable(config: TrainingConfig, identity: str) -> None:
    """Make sure that an output folder has no state yet, or was begun with the same network and settings.

    Args:
        config: Settings of this training.
        identity: Of the checkpoint that it starts from.

    Raises:
        Das3rError: It was not; says what differs.
    """
    begun = begun_with(config, MARKER)
    if begun is None:
        return
    if begun.get("network") != identity:
        raise Das3rError(
            f"The training in {config.output_dir} was begun with another network ({begun.get('checkpoint')}) than "
            f"{config.checkpoint} is now. Name that one to go on (--checkpoint), or another folder to start anew "
            "(--output-dir)."
        )
    check_settings(config, begun)


def begun_with(config: Resumable, marker: str) -> dict[str, Any] | None:
    """What the training in an output folder was begun with; None where nothing was learned there yet.

    Args:
        config: Settings of this training.
        marker: File that says it.

    Raises:
        Das3rError: It cannot be read.
    """
    file = config.output_dir / marker
    if not (config.output_dir / STATE / _FILE).is_file():
        return None
    try:
        begun = dict(json.loads(file.read_text(encoding="utf-8")))
        begun["settings"] = dict(begun["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Das3rError(f"{file} cannot be read ({error}). Delete {config.output_dir} and start anew.") from error
    return begun


def check_settings(config: Resumable, begun: dict[str, Any]) -> None:
    """Make sure that a training was begun with the same settings.

    Args:
        config: Settings of this training.
        begun: From :func:`begun_with`.

    Raises:
        Das3rError: It was not; says what differs.
    """
    now, settings = config.decisive(), begun["settings"]
    other = [
        f"--{name.replace('_', '-')} was {settings.get(name)}, is {now[name]}"
        for name in now
        if settings.get(name) != now[name]
    ]
    if other:
        raise Das3rError(
            f"The training in {config.output_dir} was begun with other settings: {'; '.join(other)}. Give the same to "
            "go on, or another folder to start anew (--output-dir)."
        )


def begin(config: TrainingConfig, identity: str) -> None:
    """Mark an output folder with what it is begun with."""
    write_json(
        config.output_dir / MARKER,
        {"checkpoint": config.checkpoint, "network": identity, "settings": config.decisive()},
    )


def check_room(network: PairNetwork, folder: Path) -> None:
    """Make sure that state and checkpoint fit onto the disk, each twice, for the old goes when the new is there.

    Raises:
        Das3rError: They do not.
    """
    heads = sum(_bytes(dict(head.named_parameters())) for head in mask_heads(network))
    folder.mkdir(parents=True, exist_ok=True)
    check_space(folder, 2 * _bytes(dict(network.named_parameters())) + 6 * heads, _ROOM)


def write_checkpoint(network: PairNetwork, folder: Path) -> None:
    """Write a folder like the published ones (config.json, model.safetensors), completely or not at all.

    Raises:
        Das3rError: The disk is full, or the folder cannot be written.
    """
    weights = {name: value for name, value in network.state_dict().items() if official_name(name) == name}
    weights = {name: value.detach().to("cpu", torch.float32).contiguous() for name, value in weights.items()}
    with writing(folder, _bytes(weights), _ROOM) as temporary:
        save_file(weights, temporary / WEIGHTS, metadata={"format": "pt"})
        (temporary / CONFIG).write_text(json.dumps(network.config.to_dict(), indent=1) + "\n", encoding="utf-8")
        replace_directory(temporary, folder)


def _bytes(values: dict[Any, Any]) -> int:
    """Size of all tensors in a dictionary, at any depth."""
    return sum(
        _bytes(value) if isinstance(value, dict) else value.nbytes
        for value in values.values()
        if isinstance(value, (dict, torch.Tensor))
    )
