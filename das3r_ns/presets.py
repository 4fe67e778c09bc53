"""Presets: what das3r, das3r-light and das3r-paper set, as YAML in ``configs/``.

A preset is a tree of field names that mirrors the configuration's dataclasses. Everything it does not name keeps the
dataclass's default.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import yaml

from das3r_ns.errors import Das3rError

if TYPE_CHECKING:
    from das3r_ns.splats.trainer import Das3rTrainerConfig

ConfigT = TypeVar("ConfigT")


def configs_dir() -> Path:
    """Folder of the YAML files: inside the package when installed from a wheel, at the top of a checkout otherwise.

    Raises:
        Das3rError: Neither exists.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "das3r.yaml").is_file():
            return folder
    raise Das3rError(f"No presets (configs/das3r.yaml) in or beside {package}: the installation is broken, repeat it.")


def read_preset(name: str) -> dict[str, Any]:
    """Contents of ``configs/NAME.yaml``.

    Raises:
        Das3rError: There is no such preset, or it is no YAML mapping.
    """
    path = configs_dir() / f"{name}.yaml"
    try:
        preset = yaml.safe_load(path.read_text(encoding="utf8"))
    except (OSError, yaml.YAMLError) as error:
        raise Das3rError(f"The preset {path} cannot be read: {error}") from error
    keys = {"description", "recipe", "trainer"}
    if not isinstance(preset, dict) or set(preset) != keys or preset["recipe"] not in ("das3r", "paper"):
        raise Das3rError(
            f"The preset {path} must have the keys {', '.join(sorted(keys))}, with a recipe of 'das3r' or 'paper'."
        )
    return preset


def trainer_config(name: str) -> Das3rTrainerConfig:
    """Complete configuration of the method ``name``, built from its preset.

    Raises:
        Das3rError: The preset is missing, or sets something that does not exist.
    """
    from nerfstudio.pipelines.base_pipeline import VanillaPipelineConfig

    from das3r_ns.data.dataset import Das3rDataManagerConfig
    from das3r_ns.splats.pipeline import Das3rPipeline
    from das3r_ns.splats.trainer import Das3rTrainerConfig

    preset = read_preset(name)
    if preset["recipe"] == "paper":
        from das3r_ns.splats.config import PaperModelConfig as ModelConfig
        from das3r_ns.splats.optimizers import paper_optimizers as optimizers
    else:
        from das3r_ns.splats.config import Das3rModelConfig as ModelConfig
        from das3r_ns.splats.optimizers import das3r_optimizers as optimizers
    pipeline = VanillaPipelineConfig(_target=Das3rPipeline, datamanager=Das3rDataManagerConfig(), model=ModelConfig())
    config = Das3rTrainerConfig(method_name=name, pipeline=pipeline)
    apply_overrides(config, preset["trainer"], f"The preset {name}.yaml")
    config.optimizers = optimizers()
    return config


def apply_overrides(config: ConfigT, overrides: Mapping[str, Any], source: str) -> ConfigT:
    """Set fields of a dataclass, and of dataclasses inside it, in place.

    Args:
        config: Dataclass instance.
        overrides: Field name -> value; a mapping where the field is a dataclass itself.
        source: What to call the origin in error messages.

    Returns:
        ``config``.

    Raises:
        Das3rError: A field does not exist or its value has the wrong type; the message names it by its dotted path.
    """
    return _apply(config, overrides, source, "")


def _apply(config: ConfigT, overrides: Mapping[str, Any], source: str, prefix: str) -> ConfigT:
    assert dataclasses.is_dataclass(config)
    hints = typing.get_type_hints(type(config))
    names = [f.name for f in dataclasses.fields(config)]
    for key, value in overrides.items():
        path = f"{prefix}{key}"
        if key not in names:
            raise Das3rError(f"{source} sets '{path}', but {type(config).__name__} has no field '{key}'.")
        current = getattr(config, key)
        if isinstance(value, Mapping) and dataclasses.is_dataclass(current):
            _apply(current, value, source, f"{path}.")
        else:
            setattr(config, key, _checked(value, hints[key], f"{source} sets '{path}'"))
    return config


def _checked(value: Any, hint: Any, what: str) -> Any:
    """The value as the annotation wants it (lists to tuples, int to float, text to Path)."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _checked(value, arguments[0], what)
    if origin in (typing.Union, types.UnionType):
        for option in arguments:
            try:
                return _checked(value, option, what)
            except Das3rError:
                continue
    elif origin is Literal:
        if value in arguments:
            return value
    elif origin is tuple and isinstance(value, list):
        items = arguments[:1] * len(value) if arguments[-1:] == (Ellipsis,) else arguments
        if len(items) == len(value):
            return tuple(_checked(v, item, what) for v, item in zip(value, items, strict=True))
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif hint is Path and isinstance(value, str):
        return Path(value)
    elif isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    expected = getattr(hint, "__name__", None) if origin is None else None
    raise Das3rError(f"{what} to {value!r}, but it takes {expected or hint}.")
