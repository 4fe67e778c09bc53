"""Commands in processes of their own: cost, reasons, and their end with that of their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from das3r_ns.batch.command import run_command, why_it_failed

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not end a child with its parent")


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


def test_the_memory_is_that_of_this_command(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    small = run_command(python("print('hello')"), log)
    assert small.code == 0 and 0 < small.seconds < 60 and log.read_text() == "hello\n"
    # In a process of its own, for what this one has is the least that shows, and tests before may have left much.
    both = (
        "import sys; from pathlib import Path; from das3r_ns.batch.command import run_command\n"
        "for code in (\"b'x' * 1_500_000_000\", 'None'):\n"
        f"    print(run_command([sys.executable, '-c', code], Path({str(log)!r})).peak_mb)"
    )
    large, nothing = map(int, subprocess.check_output([sys.executable, "-c", both], text=True).split())
    assert large > 1500 > 500 > nothing > 0


def test_the_paragraph_of_an_error_is_the_reason(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    code = "import sys; print('Stage: 3 s', flush=True); sys.exit('das3r: The file\\nis broken.')"
    assert why_it_failed(run_command(python(code), log).code, log) == "The file is broken."
    code = "import sys; sys.exit('\\nerror: Nothing is there.')"  # inside a command of nerfstudio's
    assert why_it_failed(run_command(python(code), log).code, log) == "Nothing is there."


def test_without_a_paragraph_the_last_words_are(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    code = run_command(python("raise KeyError('gnu')"), log).code
    assert "exit code 1" in why_it_failed(code, log) and "KeyError: 'gnu'" in why_it_failed(code, log)
    code = run_command(python("import os; os.kill(os.getpid(), 9)"), log).code
    assert code == -9 and "for want of memory" in why_it_failed(code, log)


@LINUX
def test_it_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    child = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    parent = f"from das3r_ns.batch.command import run_command; from pathlib import Path\n\
run_command([{sys.executable!r}, '-c', {child!r}], Path({str(tmp_path / 'log.txt')!r}))"
    process = subprocess.Popen(
        [sys.executable, "-c", parent], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "log.txt").is_file() or not (tmp_path / "log.txt").read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    number = int((tmp_path / "log.txt").read_text())
    assert psutil.pid_exists(number)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while psutil.pid_exists(number) and psutil.Process(number).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.02)
