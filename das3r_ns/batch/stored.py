"""On a worker that shares no file system: what a look or a step needs is fetched, what it made is put to the store."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from das3r_ns.batch.look import Look, look_at
from das3r_ns.batch.steps import FOLLOWS, REQUIRES, STEPS
from das3r_ns.batch.storage import Storage, StorageError, fetch_video
from das3r_ns.batch.work import MARKER, Interrupted, Record, StepFailed, name_in_configs, run_step
from das3r_ns.errors import Das3rError
from das3r_ns.files import temporary_directory
from das3r_ns.frontend.known.masks import FOLDER as MASKS
from das3r_ns.scene import cache

if TYPE_CHECKING:
    from das3r_ns.batch.steps import Step
    from das3r_ns.batch.videos import Video

INPUT, CACHE = "input", "cache"
"""Folders of a video: of the scratch folder, with the video; of the store, with what the front end keeps beside it."""


def record_name(step: Step) -> str:
    """Of a step's record in the store."""
    return f"{step.video}/batch/{step.record.name}"


def look_stored(video: Video, storage: Storage, home: Path) -> Look:
    """Fetch a video and look at it; see :func:`~das3r_ns.batch.look.look_at`.

    Args:
        video: With its URL; its path is below ``home``.
        storage: Which this machine must reach.
        home: Path that stands for the scratch folder.
    """
    try:
        check_seen(storage)
        with temporary_directory(home) as scratch:
            data = scratch / video.data.relative_to(home)
            _fetch_input(str(video.url), data, scratch / video.name / INPUT)
            look = look_at(data, video.settings())
            return look if look.failed is None else Look(failed=look.failed.replace(str(data), str(video.url)))
    except (Das3rError, OSError) as error:
        return Look(failed=str(error))


def run_stored(step: Step, storage: Storage, home: Path) -> Record:
    """Run a step in a scratch folder; its record is put last, so that nothing half-written passes for finished.

    Args:
        step: Its paths are below ``home``.
        storage: For what it reads and what it leaves.
        home: Path that stands for the scratch folder.

    Raises:
        StepFailed: As of :func:`~das3r_ns.batch.work.run_step`.
        Interrupted: Likewise, or the store was lost.
    """
    try:
        check_seen(storage)
        storage.remove(record_name(step))
        for name in (step.name, f"{CACHE}/{step.name}"):
            storage.remove(f"{step.video}/{name}")
        with temporary_directory(home) as scratch:
            return _run_in(scratch, step, storage, home)
    except StorageError as error:
        raise Interrupted(str(error)) from None


def _run_in(scratch: Path, step: Step, storage: Storage, home: Path) -> Record:
    here = _moved(step, home, scratch)
    kept = _fetch(here, storage, home)
    failed = None
    try:
        record = run_step(here)
        name_in_configs(here.target, scratch.name, home.name)
        storage.put(_files(here.target), here.folder, step.video)
        _put_cache(here, kept, storage)
    except Interrupted as error:
        raise Interrupted(str(error).replace(str(scratch), storage.url)) from None
    except StepFailed as error:
        record = json.loads(here.record.read_text(encoding="utf-8"))
        record["failed"] = failed = str(error).replace(str(scratch), storage.url)
    finally:
        beside = [file for file in _files(here.record.parent) if file != here.record]
        storage.put(beside, here.folder, step.video)
    storage.write(record_name(step), (json.dumps(record, indent=1) + "\n").encode())
    if failed is not None:
        raise StepFailed(failed)
    return record


def _moved(step: Step, home: Path, scratch: Path) -> Step:
    return dataclasses.replace(
        step,
        folder=scratch / step.folder.relative_to(home),
        data=scratch / step.data.relative_to(home),
        command=tuple(word.replace(str(home), str(scratch)) for word in step.command),
    )


def _fetch(here: Step, storage: Storage, home: Path) -> set[Path]:
    """Fetch what a step reads; gives the results of the front end that came with it."""
    inputs = here.folder / INPUT
    _fetch_input(str(here.url), here.data, inputs)
    before = [name for name in STEPS[: STEPS.index(here.name)] if name in FOLLOWS.values()]
    whole = storage.read(f"{here.video}/batch/{name}.json" for name in before)
    for name in before:
        if f"{here.video}/batch/{name}.json" in whole:
            storage.get(f"{here.video}/{CACHE}/{name}", inputs)
    if needed := REQUIRES.get(here.name):
        storage.get(f"{here.video}/{needed}", here.folder / needed)
        name_in_configs(here.folder / needed, home.name, here.folder.parent.name)
    return _results(inputs)


def _fetch_input(url: str, data: Path, inputs: Path) -> None:
    fetch_video(url, data.parent, cache.FOLDER)
    if data.parent != inputs:  # frames/: the masks lie beside it
        Storage(url.rstrip("/").rpartition("/")[0]).get(MASKS, data.parent / MASKS)


def _put_cache(here: Step, kept: set[Path], storage: Storage) -> None:
    """Put what the front end has found, where it is not what was fetched: later steps open the run by it."""
    inputs = here.folder / INPUT
    new = _results(inputs) - kept
    files = [file for result in new for file in _files(result)]
    storage.put(files, inputs, f"{here.video}/{CACHE}/{here.name}")


def _results(inputs: Path) -> set[Path]:
    return {path.parent for path in inputs.rglob(f"*{cache.FOLDER}/*/{cache.SCENE}")}


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def check_seen(storage: Storage) -> None:
    """Make sure that this machine sees the store that the batch sees.

    Raises:
        StorageError: It does not.
    """
    if not storage.read([MARKER]):
        raise StorageError(
            f"A machine of the cluster does not see what {storage.url} holds (--storage). Name a store that all of "
            "them reach, or without --storage an output folder that all of them see."
        )
