"""A command in a process of its own: what it cost, and why it failed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from das3r_ns.batch import leash

TAIL = 3
"""Last lines of a log that stand for the reason where a process died without giving one."""
PREFIXES = ("das3r: ", "error: ")
"""How the paragraph of a Das3rError begins, by the das3r command and inside those of nerfstudio."""


@dataclass(frozen=True)
class Finished:
    """How a command ended, and what it cost."""

    code: int
    """Exit code; negative: the signal that killed it."""
    seconds: float
    cpu_seconds: float
    peak_mb: int
    """Peak of its resident memory; what this process had when it began the command is the least that shows."""


def run_command(command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Finished:
    """Run a command to its end; it is killed where this process is.

    Args:
        command: Program and arguments.
        log: File for everything it prints.
        environment: Variables to set besides those of this process.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    leashed = [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), *command]
    start = time.perf_counter()
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(
            leashed,
            stdout=stream,
            stderr=stream,
            stdin=subprocess.DEVNULL,
            # Unbuffered: the log grows as the work does, and what was said first stands first.
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
        )
        try:
            # Unlike Popen.wait, this tells the memory of this child from that of earlier ones.
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    return Finished(
        code=process.returncode,
        seconds=round(time.perf_counter() - start, 2),
        cpu_seconds=round(usage.ru_utime + usage.ru_stime, 2),
        peak_mb=round(usage.ru_maxrss * unit / 1e6),
    )


def how_it_ended(code: int) -> str:
    """An exit code in words."""
    return "it was killed, for want of memory perhaps" if code == -9 else f"exit code {code}"


def last_words(log: Path) -> str:
    """The last lines of a log, in one."""
    return " ".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-TAIL:])


def why_it_failed(code: int, log: Path) -> str:
    """The paragraph that a command ended with; without one, its last words and how it ended."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    for number in reversed(range(len(lines))):
        prefix = next((prefix for prefix in PREFIXES if lines[number].startswith(prefix)), None)
        if prefix is not None:
            return " ".join([lines[number].removeprefix(prefix), *lines[number + 1 :]]).strip()
    return f"The command ended without a result ({how_it_ended(code)}). {last_words(log)} See {log}."
