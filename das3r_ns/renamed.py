"""Modules that version 0.1 had under other names, which the config.yml of its runs still asks for.

nerfstudio writes class paths into config.yml and imports them when a run is opened, by any ns-* command. Those of 0.1
would end in a traceback; here the import of such a name becomes one sentence.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import NoReturn

from das3r_ns.errors import Das3rExit

_OLD = "dataparser dataset evaluation.data model model_config optimizers paper schedulers trainer"
RENAMED = frozenset(f"das3r_ns.{name}" for name in _OLD.split())
"""All modules of version 0.1 that its config.yml could name and that are no longer there."""


def explain_renamed_modules() -> None:
    """Make the import of a renamed module leave with a sentence; all other imports go on as ever."""
    if _Explanation not in sys.meta_path:
        sys.meta_path.append(_Explanation)  # last: it is asked for what nobody else has


class _Explanation:
    """A finder and loader of modules that are not there."""

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        # Only the import itself raises, so that whoever asks whether there is such a module may do so.
        return ModuleSpec(name, cls) if name in RENAMED else None  # pyright: ignore[reportArgumentType]

    @staticmethod
    def create_module(spec: ModuleSpec) -> ModuleType | None:
        return None

    @staticmethod
    def exec_module(module: ModuleType) -> NoReturn:
        raise Das3rExit(
            f"This run was trained by das3r 0.1: its config.yml names {module.__name__}, which has another name since "
            "0.2. Train again with ns-train (what the front end left beside the video is taken up again where it is "
            "still current), or open the run with das3r-ns 0.1."
        )
