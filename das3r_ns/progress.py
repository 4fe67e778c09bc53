"""What long work tells the user: a progress bar per stage, lines worth reading, and the time each stage took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.table import Table


class Progress:
    """Reports to stderr, so that what a command prints to stdout stays its own.

    ``seconds`` holds the wall time of each finished stage in order, ``messages`` everything that was said.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.seconds: dict[str, float] = {}
        self.messages: list[str] = []

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[], None]]:
        """Show a bar while the block runs, and record how long it took.

        Args:
            name: What is being done, as the user shall read it. A stage of the same name adds to its time.
            total: Number of steps; None shows a moving bar.

        Yields:
            A function to call after each step, from any thread.
        """
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        start = time.perf_counter()
        log = not self.console.is_terminal  # a file cannot redraw a bar: it gets one line at the end
        with RichProgress(*columns, console=self.console, transient=True, disable=log) as bar:
            task = bar.add_task(name, total=total)
            yield lambda: bar.advance(task)
        seconds = time.perf_counter() - start
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        if log:
            self.console.print(f"{name}: {seconds:.1f} s", highlight=False, markup=False)

    @contextmanager
    def live(self, draw: Callable[[], RenderableType]) -> Iterator[None]:
        """Show, in a terminal, what ``draw`` gives, anew several times a second, while the block runs.

        Args:
            draw: Called from a thread of its own.
        """
        if not self.console.is_terminal:
            yield
            return
        with Live(get_renderable=draw, console=self.console, refresh_per_second=2, transient=True):
            yield

    def say(self, message: str) -> None:
        """Print a line the user should read, and remember it."""
        self.messages.append(message)
        self.console.print(message, highlight=False, markup=False, soft_wrap=True)

    def print_seconds(self) -> None:
        """Print the time each stage took."""
        table = Table("Stage", "Seconds")
        table.columns[1].justify = "right"
        for name, seconds in self.seconds.items():
            table.add_row(name, f"{seconds:.1f}")
        self.console.print(table)
