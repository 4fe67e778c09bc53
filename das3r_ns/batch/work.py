"""One step on a worker: its command into a temporary folder, which is renamed when it is whole, then its record."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from das3r_ns.batch.command import run_command, why_it_failed
from das3r_ns.batch.look import check_shared
from das3r_ns.errors import Das3rError
from das3r_ns.files import replace_directory, temporary_directory, write_json

if TYPE_CHECKING:
    from das3r_ns.batch.steps import Step

Record = dict[str, Any]
"""What a step leaves: its key, what it cost, and ``failed`` with a paragraph where it failed."""
MARKER = "batch.json"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
CONFIG = "*/*/run/config.yml"


class StepFailed(Exception):
    """A step ended with an error; the message is its paragraph, the record is written."""


class Interrupted(Exception):
    """A command was killed; it may go better the next time."""


def run_step(step: Step, shared: Path | None = None) -> Record:
    """Run a step.

    Args:
        step: What to run.
        shared: A file of the output folder, which this machine must see.

    Returns:
        Its record, which is also written: last, so that nothing half-written passes for finished.

    Raises:
        StepFailed: The command ended with an error.
        Interrupted: It was killed.
    """
    from das3r_ns.batch.pictures import draw_pictures

    step.record.unlink(missing_ok=True)  # from here on until the new one, what lies there is not to be trusted
    record: Record = {"step": step.name, "key": step.key, "date": date.today().isoformat()}
    try:
        check_shared(shared)
        with temporary_directory(step.target) as temporary:
            places = {"{python}": sys.executable, "{target}": str(temporary)}
            command = [places.get(word, word) for word in step.command]
            finished = run_command(command, step.log, dict.fromkeys(THREADS, str(step.cpus)))
            record |= {"seconds": finished.seconds, "cpu_s": finished.cpu_seconds, "peak_mb": finished.peak_mb}
            if finished.code < 0:
                raise Interrupted(why_it_failed(finished.code, step.log))
            if finished.code != 0:
                raise Das3rError(why_it_failed(finished.code, step.log))
            name_in_configs(temporary, temporary.name, step.target.name)
            record["bytes"] = sum(file.stat().st_size for file in temporary.rglob("*") if file.is_file())
            replace_directory(temporary, step.target)
        draw_pictures(step)
    except (Das3rError, OSError) as error:
        write_json(step.record, {**record, "failed": str(error)})
        raise StepFailed(str(error)) from None
    write_json(step.record, record)
    return record


def name_in_configs(folder: Path, old: str, new: str) -> None:
    """In the config.yml of a training, put one name of a folder in the place of another wherever it is part of a path.

    Args:
        folder: That ns-train wrote.
        old: A name that nothing else has.
        new: What comes in its place.
    """
    for path in folder.glob(CONFIG):
        path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
