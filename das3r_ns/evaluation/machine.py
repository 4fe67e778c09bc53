"""What machine a figure was measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from das3r_ns.workers import usable_cores


def describe_machine() -> dict[str, str]:
    """Processor, cores, memory, GPU and the versions that matter; without the name of the machine."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ("torch", "gsplat", "nerfstudio", "numba", "numpy", "opencv-python-headless")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": str(usable_cores()),
        "memory": f"{memory:.0f} GiB",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "packages": versions,
    }


def commit() -> str:
    """Of this checkout, short, with ``-dirty`` where files were changed since; ``unknown`` outside of git."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=7"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine_line(machine: Mapping[str, str]) -> str:
    """What :func:`describe_machine` says, in one line."""
    m = machine
    return f"{m['processor']}, {m['cores']} cores, {m['memory']}, GPU {m['gpu']}, {m['system']}, {m['packages']}"


def machines_of(results: Mapping[str, Any]) -> list[str]:
    """The machines that the records of a benchmark were measured on, a line each; an interrupted run may have several.

    Args:
        results: As :func:`~das3r_ns.evaluation.bench.run.run_bench` gives them.
    """
    records = [record for sequence in results["records"].values() for record in sequence.values()]
    return list(dict.fromkeys(machine_line(record.get("machine", results["machine"])) for record in records))
