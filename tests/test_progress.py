"""What long work tells the user."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import pytest
from rich.console import Console

from das3r_ns.progress import Progress


def test_stages_are_timed_in_order_and_add_up() -> None:
    log = io.StringIO()
    progress = Progress(Console(file=log))
    for name in ("Optical flow", "Cameras", "Optical flow"):
        with progress.stage(name, 8) as advance, ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: advance(), range(8)))
    assert list(progress.seconds) == ["Optical flow", "Cameras"]
    assert all(seconds > 0 for seconds in progress.seconds.values())
    assert [line.split(":")[0] for line in log.getvalue().splitlines()] == ["Optical flow", "Cameras", "Optical flow"]


def test_a_terminal_sees_a_bar_that_says_what_is_done() -> None:
    screen = io.StringIO()
    progress = Progress(Console(file=screen, force_terminal=True, width=100))
    with progress.stage("Optical flow", 3) as advance:
        advance()
    assert "Optical flow" in screen.getvalue() and "1/3" in screen.getvalue()


def test_messages_are_printed_as_they_are_and_remembered() -> None:
    log = io.StringIO()
    progress = Progress(Console(file=log, width=20))
    progress.say("a long line about [frames] in /some/folder/that/is/long")
    assert progress.messages == ["a long line about [frames] in /some/folder/that/is/long"]
    assert log.getvalue() == progress.messages[0] + "\n"


def test_a_stage_that_fails_is_not_timed() -> None:
    progress = Progress(Console(file=io.StringIO()))
    with pytest.raises(RuntimeError), progress.stage("Cameras"):
        raise RuntimeError
    assert not progress.seconds
