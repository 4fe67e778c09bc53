"""What nerfstudio finds through the entry points: three methods and one dataparser.

Every ns-* command of the user, for any method, imports this module. So it imports nothing by itself, builds each
specification at its first use, and turns whatever goes wrong into one warning and a method that is missing. Building
late also matters for the dataparser: nerfstudio asks for it in the middle of importing the very modules that the
methods need.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nerfstudio.plugins.registry_dataparser import DataParserSpecification
    from nerfstudio.plugins.types import MethodSpecification

    das3r: MethodSpecification | None
    das3r_light: MethodSpecification | None
    das3r_paper: MethodSpecification | None
    das3r_video: DataParserSpecification | None


def _method(name: str) -> MethodSpecification:
    from das3r_ns.presets import read_preset, trainer_config

    description = read_preset(name)["description"]
    config = trainer_config(name)
    from nerfstudio.plugins.types import MethodSpecification

    return MethodSpecification(config=config, description=description)


def _dataparser() -> DataParserSpecification:
    from das3r_ns.data.dataparser import Das3rVideoDataParserConfig

    config = Das3rVideoDataParserConfig()
    from nerfstudio.plugins.registry_dataparser import DataParserSpecification

    description = "A casual video with moving things: cameras, depth, masks of what is static, and seed points."
    return DataParserSpecification(config=config, description=description)


_BUILDERS: dict[str, Callable[[], Any]] = {
    "das3r": lambda: _method("das3r"),
    "das3r_light": lambda: _method("das3r-light"),
    "das3r_paper": lambda: _method("das3r-paper"),
    "das3r_video": _dataparser,
}


def __getattr__(name: str) -> Any:
    if name not in _BUILDERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        specification = _BUILDERS[name]()
    except Exception as error:
        # Neither logging nor warnings: a user may have turned those into errors.
        reason = f"it cannot be loaded ({type(error).__name__}: {error})"
        print(f"Warning: {name.replace('_', '-')} of das3r-ns is left out: {reason}", file=sys.stderr)
        specification = None
    globals()[name] = specification
    return specification
