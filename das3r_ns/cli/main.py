"""Entry point of the ``das3r`` command. Subcommands import what is heavy when they run, so ``--help`` is quick."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated

import tyro

from das3r_ns.cli.batch import BatchCommand
from das3r_ns.cli.bench import BenchCommand
from das3r_ns.cli.clean_plate import CleanPlateCommand
from das3r_ns.cli.demo import DemoCommand
from das3r_ns.cli.export import ExportCommand
from das3r_ns.cli.masks import MasksCommand
from das3r_ns.cli.train_motion import TrainMotionCommand
from das3r_ns.cli.train_network import TrainNetworkCommand
from das3r_ns.cli.weights import WeightsCommand
from das3r_ns.errors import Das3rError

Command = (
    Annotated[DemoCommand, tyro.conf.subcommand("demo", prefix_name=False)]
    | Annotated[MasksCommand, tyro.conf.subcommand("masks", prefix_name=False)]
    | Annotated[CleanPlateCommand, tyro.conf.subcommand("clean-plate", prefix_name=False)]
    | Annotated[ExportCommand, tyro.conf.subcommand("export", prefix_name=False)]
    | Annotated[BatchCommand, tyro.conf.subcommand("batch", prefix_name=False)]
    | Annotated[BenchCommand, tyro.conf.subcommand("bench", prefix_name=False)]
    | Annotated[WeightsCommand, tyro.conf.subcommand("weights", prefix_name=False)]
    | Annotated[TrainMotionCommand, tyro.conf.subcommand("train-motion", prefix_name=False)]
    | Annotated[TrainNetworkCommand, tyro.conf.subcommand("train-network", prefix_name=False)]
)

INTERRUPTED, UNREAD = 130, 141
"""What a shell reports for a command that Ctrl-C ended, and for one that nobody reads any more."""


def entrypoint(args: Sequence[str] | None = None) -> None:
    """Parse the command line and run the subcommand; errors the user can mend are printed without a traceback.

    Where whoever reads what is printed has had enough, as `head` has, the command ends without a word.
    """
    try:
        try:
            _run(args)
        finally:
            sys.stdout.flush()  # at the end of Python it would be too late to catch
    except BrokenPipeError:
        if not _is_unread():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(UNREAD)


def _is_unread() -> bool:
    """Whether nobody reads stdout any more."""
    try:
        print(flush=True)
    except BrokenPipeError:
        return True
    return False


def _run(args: Sequence[str] | None) -> None:
    command = tyro.cli(
        Command,  # pyright: ignore[reportArgumentType]
        prog="das3r",
        description="The clean static 3D scene out of any casual video. Training: `ns-train das3r --data VIDEO`.",
        args=args,
    )
    # Of how nerfstudio calls torch, at its import: nothing that a user could do about.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"nerfstudio\.")
    try:
        command.run()
    except Das3rError as error:
        print(f"das3r: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("das3r: interrupted; nothing half-written was left behind.", file=sys.stderr)
        sys.exit(INTERRUPTED)
