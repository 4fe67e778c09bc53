"""Where the results of a batch lie: in a folder that all machines see, or in a store, beside scratch folders."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath

from das3r_ns.batch.cluster import Task
from das3r_ns.batch.look import look_at
from das3r_ns.batch.pictures import AFTER, BEFORE, MASK
from das3r_ns.batch.report import PAGE
from das3r_ns.batch.steps import Step
from das3r_ns.batch.storage import MAGIC, Storage, StorageError
from das3r_ns.batch.stored import INPUT, look_stored, record_name, run_stored
from das3r_ns.batch.videos import Video
from das3r_ns.batch.work import MARKER, Record, run_step
from das3r_ns.errors import Das3rError
from das3r_ns.files import write_json, write_text
from das3r_ns.video.image_folder import SUBFOLDERS

SCRATCH = "das3r-batch-scratch"
"""A name that nothing else has: in what is stored it stands for the scratch folder of whoever works on it."""


class SharedFolder:
    """The output folder, on a file system that all machines see.

    Args:
        output: The folder.
    """

    def __init__(self, output: Path) -> None:
        self.output = self.steps_in = output
        """Where the paths of steps begin."""

    def __str__(self) -> str:
        return str(self.output)

    def check(self) -> None:
        """Make sure that results can be kept."""

    def begin(self) -> None:
        """Leave the sign by which machines know that they see the results."""
        if not (self.output / MARKER).is_file():
            write_json(self.output / MARKER, {"videos": {}})

    def settle(self, video: Video) -> Video:
        """A video as it is worked on here."""
        if video.url is not None:
            raise Das3rError(
                f"{video.url} is the URL of a video, and these are fetched only where results are stored by one too "
                "(--storage). Name a path, or a storage."
            )
        return video

    def look(self, video: Video) -> Task:
        """The task of looking at a video."""
        return Task("look", look_at, (video.data, video.settings(), self.output / MARKER))

    def task(self, step: Step) -> Task:
        """The task of a step."""
        return Task(step.name, run_step, (step, self.output / MARKER))

    def known(self, steps: Iterable[Step]) -> dict[tuple[str, str], Record]:
        """The records that are there of steps, by video and step."""
        records = {(step.video, step.name): step.known() for step in steps}
        return {name: record for name, record in records.items() if record is not None}

    def save(self, step: Step, record: Record) -> None:
        """Keep the record of a step that could not write its own."""
        write_json(step.record, record)

    def lost(self, step: Step, why: str) -> str:
        """The paragraph of a step that has never come to an end."""
        return f"Its process or machine was lost each time it was tried ({why}). See {step.log}."

    def gather(self, videos: Iterable[str]) -> None:
        """Have what the report shows of videos in the output folder."""

    def publish(self) -> None:
        """The report has been written."""


class Stored(SharedFolder):
    """A store; the output folder, of this machine alone, gets the report and what it shows.

    Args:
        output: The folder.
        storage: The store.
        scratch: Folder of every machine, under the same path; what is fetched and made lies below it for the while.
    """

    def __init__(self, output: Path, storage: Storage, scratch: Path) -> None:
        super().__init__(output)
        self.storage, self.steps_in = storage, scratch.resolve() / SCRATCH

    def __str__(self) -> str:
        return self.storage.url

    def check(self) -> None:
        """Make sure that the store can be written."""
        self.storage.check()

    def begin(self) -> None:
        """Leave the sign by which machines know that they see the store; an earlier report goes on being one."""
        found = self.storage.read([MARKER]).get(MARKER)
        if found is None:
            super().begin()
            self.storage.put([self.output / MARKER], self.output, "")
            return
        write_text(self.output / MARKER, found.decode())
        others = [name for name in json.loads(found)["videos"] if not (self.output / name).is_dir()]
        for name in others:
            (self.output / name).mkdir()
        self.gather(others)

    def settle(self, video: Video) -> Video:
        """The video with its URL, and with the path in the scratch folder that it is fetched to."""
        if found := [sign for sign in MAGIC if sign in video.name]:
            raise Das3rError(
                f"The name of the video {video.name} has the sign {found[0]} in it, which means a pattern in a store "
                "(--storage). Give it another one in a manifest (column name)."
            )
        path = PurePosixPath(video.url or video.data.as_posix())
        # What belongs to a folder of this name lies beside it.
        inside = Path(path.parent.name, path.name) if path.name in SUBFOLDERS else Path(path.name)
        data = self.steps_in / video.name / INPUT / inside
        return dataclasses.replace(video, data=data, url=video.url or str(video.data))

    def look(self, video: Video) -> Task:
        """The task of fetching a video and looking at it."""
        return Task("look", look_stored, (video, self.storage, self.steps_in))

    def task(self, step: Step) -> Task:
        """The task of a step, from what it fetches to what it puts."""
        return Task(step.name, run_stored, (step, self.storage, self.steps_in))

    def known(self, steps: Iterable[Step]) -> dict[tuple[str, str], Record]:
        """The records that are in the store; they are put last, so that what they speak of is whole."""
        keys = {record_name(step): step for step in steps}
        records = {}
        for name, content in self.storage.read(keys).items():
            try:
                record = json.loads(content)
            except ValueError:  # half of one, in a store that is a file system
                continue
            if record.get("key") == keys[name].key:
                records[keys[name].video, keys[name].name] = record
        return records

    def save(self, step: Step, record: Record) -> None:
        """Keep the record of a step, unless it is the store that is lost."""
        with suppress(StorageError):  # else it is missing, and will be done again
            self.storage.write(record_name(step), json.dumps(record, indent=1).encode())

    def lost(self, step: Step, why: str) -> str:
        """Likewise."""
        log = f"{self.storage.url}/{step.video}/batch/{step.log.name}"
        return f"Its process, its machine or the store was lost each time it was tried ({why}). See {log}."

    def gather(self, videos: Iterable[str]) -> None:
        """Fetch what the report shows of videos."""
        shown = [*(f"batch/{picture}" for picture in (BEFORE, MASK, AFTER)), "masks/das3r.json"]
        for name, content in self.storage.read(f"{video}/{name}" for video in videos for name in shown).items():
            (self.output / name).parent.mkdir(parents=True, exist_ok=True)
            (self.output / name).write_bytes(content)

    def publish(self) -> None:
        """Put the report into the store."""
        self.storage.put([self.output / MARKER, self.output / PAGE], self.output, "")
