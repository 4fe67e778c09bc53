"""``python -m das3r_ns`` is the command ``das3r``."""

import os
import subprocess
import sys

import pytest


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


@pytest.mark.parametrize("words", [["--help"], ["demo", "--help"], ["weights"]])
def test_a_reader_that_leaves_early_sees_no_traceback(words: list[str], tmp_path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    environment = {**os.environ, "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "das3r_ns", *words]
    result = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, env=environment)
    os.close(writing)
    assert result.returncode == 141 and result.stderr == ""
