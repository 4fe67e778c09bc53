"""Whether gsplat's CUDA kernels are really there: asked once, before anything runs.

gsplat comes as source. Its kernels are compiled by nvcc when they are first used, for minutes; without an nvcc it says
one line and fails at the first kernel that is called. So a GPU that torch sees is not enough.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import textwrap
import threading
from pathlib import Path

import torch

from das3r_ns.progress import Progress

CAPABILITY = (7, 0)
"""Least compute capability that gsplat's kernels run on."""

BACKEND = "gsplat.cuda._backend"
"""The module whose import compiles; ``_C`` in it is the compiled extension, or None."""

_lock = threading.RLock()  # a viewer renders beside the training
_said: list[str] = []


def expected_obstacle() -> str | None:
    """What will keep gsplat's kernels from working, as far as it shows without compiling or waking the GPU.

    For defaults, which every ns-* command builds for every method.

    Returns:
        Sentences for the user: what is missing and what to install. None: nothing is in the way so far.
    """
    if torch.version.cuda is None:  # for CPUs only, or for AMD's GPUs, which gsplat has no kernels for
        return (
            f"There is no CUDA: torch {torch.__version__} is built without it. Where there is an NVIDIA GPU, install a "
            "torch built for CUDA."
        )
    if not torch.cuda.is_available():
        return (
            f"There is no CUDA device that torch {torch.__version__} sees. Where there is an NVIDIA GPU, install a "
            f"driver that serves CUDA {torch.version.cuda}."
        )
    try:
        compiled = importlib.util.find_spec("gsplat.csrc") is not None
    except Exception as error:  # whatever gsplat runs into while it is imported
        return f"gsplat cannot be imported ({type(error).__name__}: {error}). Install gsplat 1.4.0 again."
    if not compiled and _nvcc() is None:
        return f"gsplat's CUDA kernels are not there: no nvcc is found that could compile them. {_remedy()}"
    return None


def obstacle() -> str | None:
    """What keeps gsplat's kernels from working, found out once; compiles them if that is still to be done.

    Returns:
        As :func:`expected_obstacle`. None: they are there.
    """
    with _lock:
        return _find_obstacle()


@functools.cache
def _find_obstacle() -> str | None:
    return expected_obstacle() or _weak_device() or _failed_build()


def uses_cuda_kernels(device: torch.device | str) -> bool:
    """Whether tensors on ``device`` are rendered by gsplat's kernels; those of das3r for the CPU render all others.

    Says once why a GPU's tensors are not.
    """
    if torch.device(device).type != "cuda":
        return False
    reason = obstacle()
    if reason is not None:
        say_once(f"{reason} das3r's CPU kernels render, and copy from the GPU and back.")
    return reason is None


def say_once(line: str) -> None:
    """Tell the user what became of the GPU; a process says one such line, the first."""
    with _lock:
        if not _said:
            _said.append(line)
            Progress().say(line)


def _remedy() -> str:
    return (
        f"Install the CUDA toolkit that fits this torch, CUDA {torch.version.cuda} (nvcc on the PATH), or one of "
        "gsplat's wheels with compiled kernels for it."
    )


def _nvcc() -> Path | None:
    """nvcc on the PATH, or in the toolkit that torch finds without it."""
    found = shutil.which("nvcc")
    if found is None:
        try:
            from torch.utils.cpp_extension import CUDA_HOME
        except ImportError:  # no setuptools: gsplat cannot compile either, and will say so
            return None
        found = shutil.which("nvcc", path=str(Path(CUDA_HOME) / "bin")) if CUDA_HOME else None
    return Path(found) if found else None


def _weak_device() -> str | None:
    try:
        capability, name = torch.cuda.get_device_capability(), torch.cuda.get_device_name()
    except Exception as error:  # the driver's, in many shapes
        return f"The GPU cannot be used ({_in_one_line(error)}). nvidia-smi may tell more."
    if capability < CAPABILITY:
        have, need = (".".join(map(str, version)) for version in (capability, CAPABILITY))
        return f"gsplat's CUDA kernels need compute capability {need}, and {name} has {have}."
    return None


def _failed_build() -> str | None:
    """Import gsplat's kernels, compiling them if need be; what went wrong, or None."""
    try:
        if importlib.util.find_spec("gsplat.csrc") is None:
            _prepare_build()
        extension = importlib.import_module(BACKEND)._C
    except Exception as error:
        folder = os.environ.get("TORCH_EXTENSIONS_DIR", "~/.cache/torch_extensions")
        return (
            f"gsplat's CUDA kernels could not be compiled: {_in_one_line(_cause(error))}. nvcc must fit torch "
            f"{torch.__version__}, which is built for CUDA {torch.version.cuda}; here it is {_nvcc_version()}. "
            f"{_remedy()} If another torch compiled them before, delete {folder}. All that the compiler says: "
            f"python -c 'import {BACKEND}'."
        )
    return None if extension is not None else f"gsplat has disabled its CUDA kernels. {_remedy()}"


def _prepare_build() -> None:
    """Say what will take minutes, and let gsplat find the nvcc that torch knows of."""
    from torch.utils.cpp_extension import _get_build_directory

    nvcc = _nvcc()
    if nvcc is not None and shutil.which("nvcc") is None:
        os.environ["PATH"] = os.pathsep.join(filter(None, (os.environ.get("PATH"), str(nvcc.parent))))
    folder = Path(_get_build_directory("gsplat_cuda", verbose=False))
    if not any((folder / name).exists() for name in ("gsplat_cuda.so", "gsplat_cuda.lib")):
        Progress().say(f"Compiling gsplat's CUDA kernels with {_nvcc_version()}: once, for some minutes.")


def _nvcc_version() -> str:
    nvcc = _nvcc()
    if nvcc is None:
        return "missing"
    try:
        told = subprocess.run([nvcc, "--version"], capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return str(nvcc)
    release = next((part.split(",")[0] for part in told.split("release ")[1:]), "of an unknown version")
    return f"{nvcc} {release}"


def _cause(error: BaseException) -> BaseException:
    """What went wrong first: gsplat and torch go on after an error, and what fails next hides it."""
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(inner)
    # That there is no compiled module is why gsplat compiles; and ninja's exit code says less than torch makes of it.
    told = [e for e in chain if not (isinstance(e, ImportError) and "'csrc'" in str(e))]
    told = [e for e in told if not isinstance(e, subprocess.CalledProcessError)]
    return told[-1] if told else error


def _in_one_line(error: BaseException, most: int = 3) -> str:
    """The message of an error in one line; of a compiler's output only the errors."""
    text, *values = error.args or ("",)
    unfinished = isinstance(text, str) and values and text.count("%s") == len(values)  # torch leaves some so
    message = text % tuple(values) if unfinished else str(error)
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if len(lines) > most:
        lines = [line for line in lines if re.search(r"\berror:|\bfatal\b", line)][:most] or lines[-most:]
    return " | ".join(textwrap.shorten(line, 300) for line in lines).rstrip(".") or type(error).__name__
