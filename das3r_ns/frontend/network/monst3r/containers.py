"""The two kinds of file that checkpoints come in, read without running anything that is stored in them."""

from __future__ import annotations

import argparse
import ast
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.network.monst3r.config import CONFIG, WEIGHTS

PICKLED = (".pth", ".pt", ".ckpt")
"""Suffixes of files written by torch.save."""

HEAD_CHANNELS = 64
"""Channels of an attention head in all published networks; weights do not show how many heads share them."""

GET_ANOTHER = "Get it anew (`das3r weights --download das3r`), or name another checkpoint."


@dataclass(frozen=True)
class StoredNetwork:
    """What a checkpoint holds, not yet checked."""

    config: dict[str, Any]
    """Constructor arguments under their official names, and ``mask_heads``."""
    weights: dict[str, Tensor]
    """Tensors under their official names."""


def read_stored(path: Path) -> StoredNetwork:
    """Read a checkpoint into memory.

    Args:
        path: A hub folder (config.json and model.safetensors), the .safetensors file in one, or a .pth file.

    Raises:
        Das3rError: It is not there, not a checkpoint, cut short, or holds objects that only unsafe loading would make.
    """
    if not path.exists():
        raise Das3rError(
            f"The checkpoint {path} does not exist. Name a .pth file, or a folder with {CONFIG} and {WEIGHTS}; "
            "`das3r weights` shows what is at hand."
        )
    if path.is_dir() or path.suffix == ".safetensors":
        config, weights = _read_hub_folder(path)
    elif path.suffix in PICKLED:
        config, weights = _read_pickled(path)
    else:
        raise Das3rError(
            f"{path} is not a checkpoint that can be read: its name ends in {path.suffix or 'nothing'}. Name a .pth "
            f"file, or a folder with {CONFIG} and {WEIGHTS}."
        )
    masks = any(name.startswith("downstream_head_dynamic_mask") for name in weights)
    return StoredNetwork({**_sizes(weights), **config, "mask_heads": masks}, weights)


def _read_hub_folder(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder, file = (path, path / WEIGHTS) if path.is_dir() else (path.parent, path)
    for needed in (folder / CONFIG, file):
        if not needed.is_file():
            raise Das3rError(
                f"{folder} is not a checkpoint: {needed.name} is missing. Such a folder holds {CONFIG} and {WEIGHTS}. "
                f"{GET_ANOTHER}"
            )
    try:
        # Not strict JSON: infinite limits are written as the bare word Infinity, which Python's reader takes.
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Das3rError(f"{folder / CONFIG} cannot be read ({error}). {GET_ANOTHER}") from error
    if not isinstance(config, dict):
        raise Das3rError(f"{folder / CONFIG} is not the configuration of a network. {GET_ANOTHER}")
    try:
        return config, load_file(file)
    except (OSError, SafetensorError) as error:
        raise Das3rError(
            f"{file} is cut short or not a safetensors file ({error}; it has {_size(file)}). {GET_ANOTHER}"
        ) from error


def _read_pickled(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    stored = _load_pickled(path)
    if not isinstance(stored, dict) or not isinstance(stored.get("model"), dict):
        raise Das3rError(f"{path} holds no weights under the name 'model', as such a checkpoint does. {GET_ANOTHER}")
    weights = stored["model"]
    foreign = [
        str(name) for name, value in weights.items() if not (isinstance(name, str) and isinstance(value, Tensor))
    ]
    if foreign:
        raise Das3rError(f"{path} holds what is not a tensor among its weights ({foreign[0]}). {GET_ANOTHER}")
    args = stored.get("args")
    call = getattr(args, "model", "") if isinstance(args, argparse.Namespace) else ""
    return _arguments(str(call)), weights


def _load_pickled(path: Path) -> Any:
    if not hasattr(torch.serialization, "safe_globals"):
        raise Das3rError(
            f"Reading {path} safely needs torch 2.5 or newer; this is {torch.__version__}. Install a newer torch, or "
            f"use a checkpoint in a folder with {CONFIG} and {WEIGHTS}."
        )
    is_zip = zipfile.is_zipfile(path)
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise Das3rError(f"{path} cannot be read ({error}).") from None
    if start == b"PK\x03\x04" and not is_zip:
        raise Das3rError(f"{path} is cut short: it has only {_size(path)}. {GET_ANOTHER}")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True if is_zip else None)
    except Exception as error:  # what is no checkpoint makes the reader stumble in any way at all
        objects = sorted(set(re.findall(r"GLOBAL ([\w.]+)", str(error))))
        if objects:
            raise Das3rError(
                f"{path} is refused: besides weights it holds {', '.join(objects)}, and making that could run code of "
                "whoever wrote the file. Only tensors and plain settings are read. Get the checkpoint from its "
                f"authors, or in a folder with {CONFIG} and {WEIGHTS}."
            ) from None
        raise Das3rError(
            f"{path} is damaged or not a checkpoint that torch wrote ({type(error).__name__}; it has {_size(path)}). "
            f"{GET_ANOTHER}"
        ) from None


def _arguments(call: str) -> dict[str, Any]:
    """Keyword arguments of the constructor call that a .pth file stores as a string. Parsed, never evaluated."""
    try:
        tree = ast.parse(call.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    if not isinstance(tree, ast.Call):
        return {}
    out: dict[str, Any] = {}
    for keyword in tree.keywords:
        for node in ast.walk(keyword.value):
            for field, child in ast.iter_fields(node):
                if isinstance(child, list):  # the elements of a tuple, where infinite limits stand as a bare `inf`
                    setattr(node, field, [ast.Constant(float("inf")) if _is_inf(item) else item for item in child])
                elif _is_inf(child):
                    setattr(node, field, ast.Constant(float("inf")))
        try:
            out[keyword.arg or ""] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError):
            continue
    return out


def _is_inf(node: object) -> bool:
    return isinstance(node, ast.Name) and node.id == "inf"


def _sizes(weights: dict[str, Tensor]) -> dict[str, int]:
    """Sizes of the network as far as the shapes of its weights tell."""
    out: dict[str, int] = {}
    for part, name, axis, blocks in (
        ("enc", "patch_embed.proj.weight", 0, "enc_blocks"),
        ("dec", "decoder_embed.weight", 0, "dec_blocks"),
    ):
        if name in weights and weights[name].ndim:
            out[f"{part}_embed_dim"] = weights[name].shape[axis]
            out[f"{part}_num_heads"] = max(1, weights[name].shape[axis] // HEAD_CHANNELS)
        numbers = {int(found[1]) for key in weights if (found := re.match(rf"{blocks}\.(\d{{1,4}})\.", key))}
        if numbers:
            out[f"{part}_depth"] = max(numbers) + 1
    return out


def _size(path: Path) -> str:
    return f"{path.stat().st_size} bytes"
