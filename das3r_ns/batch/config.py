"""Settings of ``das3r batch``. Only light imports, for ``--help``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from das3r_ns.frontend.config import FrontEndConfig, unset_front_end

StepName = Literal["masks", "train", "export", "clean-plate"]
STEPS: tuple[StepName, ...] = ("masks", "train", "export", "clean-plate")
"""In the order in which a video goes through them."""
Preset = Literal["das3r", "das3r-light", "das3r-paper"]


@dataclass
class BatchConfig:
    """Which videos, what to do with them, and where."""

    videos: tyro.conf.Positional[tuple[str, ...]]
    """Videos: files, folders of frames, folders of such videos, patterns ('shots/*.mp4'), and manifests (.csv, .yaml)
    with options for each video. With --storage also URLs of files, of folders of frames, and patterns of such."""
    output_dir: Path
    """Folder for the results: a folder for every video, batch.json and batch.html. What is finished in it is not done
    again."""
    preset: Preset | None = None
    """How to train; if not given, das3r where there is a GPU and das3r-light elsewhere."""
    steps: tuple[str, ...] = STEPS
    """What to do with every video, of masks, train, export and clean-plate; also with commas between."""
    max_num_iterations: int | None = None
    """Steps of every training; those of the preset if not given."""
    address: str | None = None
    """A Ray cluster: auto (the one that this machine belongs to), HOST:PORT or ray://HOST:PORT. Its machines see the
    videos and the output folder under the same paths, unless there is a --storage. If not given, this machine alone."""
    storage: str | None = None
    """URL of a folder in a store that all machines reach, for clusters that share no file system: s3://BUCKET/FOLDER,
    gs://, file:///FOLDER, whatever fsspec knows. Results go there; every step works in a scratch folder of its machine,
    and the output folder gets the report alone. A step is finished when its record is in the store."""
    scratch_dir: Path | None = None
    """With --storage: folder of every machine below which steps work, under the same path, and the same in later calls;
    if not given, that for temporary files."""
    jobs: int | None = None
    """Most videos that are worked on at the same time; if not given, as many as keep every machine busy."""
    cpus: int = 4
    """CPUs of one step; fewer where no machine has so many."""
    memory: float | None = None
    """Memory of one step in GB; if not given, what the length and size of the video make likely."""
    retries: int = 3
    """How often a step begins again whose machine or process was lost. One that ends with an error does not."""
    retry_failed: bool = False
    """Also do again what has failed before."""
    front_end: Annotated[FrontEndConfig, tyro.conf.arg(name="")] = field(default_factory=unset_front_end)
    """How cameras, depth and what moves are found; --long-side 0 is the preset's own."""
