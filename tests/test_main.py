"""``python -m das3r_ns`` is the command ``das3r``."""

import subprocess
import sys


def test_the_package_runs_as_the_command() -> None:
    result = subprocess.run([sys.executable, "-m", "das3r_ns", "--help"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("usage: das3r ")
    assert "train-motion" in result.stdout


def test_an_error_is_a_sentence_and_a_status(tmp_path) -> None:
    command = [sys.executable, "-m", "das3r_ns", "masks", "--data", str(tmp_path / "none.mp4")]
    result = subprocess.run([*command, "--output-dir", str(tmp_path / "out")], capture_output=True, text=True)
    assert result.returncode == 1
    assert "none.mp4" in result.stderr
    assert "Traceback" not in result.stderr
