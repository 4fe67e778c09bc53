"""The steps of a video: the command that each runs, what it needs, and what its result depends on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from das3r_ns import __version__
from das3r_ns.batch.cluster import Needs
from das3r_ns.batch.config import STEPS, StepName
from das3r_ns.batch.look import Look
from das3r_ns.batch.videos import OPTIONS, Video
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.windows import AT_ONCE, WINDOW
from das3r_ns.presets import read_preset

PYTHON, TARGET = "{python}", "{target}"
"""In a command: the interpreter of the machine it runs on, and the folder to write."""
DAS3R = (PYTHON, "-c", "from das3r_ns.cli.main import entrypoint; entrypoint()")
NS_TRAIN = (PYTHON, "-c", "from nerfstudio.scripts.train import entrypoint; entrypoint()")
FOLLOWS: dict[StepName, StepName] = {"train": "masks", "export": "train", "clean-plate": "train"}
"""Which step a step waits for."""
REQUIRES: dict[StepName, StepName] = {"export": "train", "clean-plate": "train"}
"""Which step's result a step reads."""
MB = 1_000_000


@dataclass(frozen=True)
class Step:
    """One step of one video, ready to be run on any machine of the cluster."""

    name: StepName
    video: str
    folder: Path
    """Of the video in the output folder."""
    command: tuple[str, ...]
    """With PYTHON and TARGET in the places of what the machine puts there."""
    key: str
    """Hash of everything that the result depends on."""
    data: Path
    front_end: FrontEndConfig
    cpus: int = 1
    url: str | None = None
    """What the video is fetched by where it is not at its path."""

    @property
    def target(self) -> Path:
        """Where the result lies."""
        return self.folder / self.name

    @property
    def record(self) -> Path:
        """What is known of it: written last, so where it is, the result is whole."""
        return self.folder / "batch" / f"{self.name}.json"

    @property
    def log(self) -> Path:
        """What its command printed; there as soon as it has begun."""
        return self.folder / "batch" / f"{self.name}.txt"

    def known(self) -> dict[str, Any] | None:
        """The record of an earlier run of the same, whether it went well or not."""
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return record if record.get("key") == self.key and ("failed" in record or self.target.is_dir()) else None


def steps_of(video: Video, look: Look, output_dir: Path, wanted: tuple[StepName, ...], cpus: int) -> list[Step]:
    """The steps of a video, in order.

    Args:
        video: With its preset.
        look: What it was found to be.
        output_dir: Of the batch.
        wanted: Which steps.
        cpus: For each.
    """
    folder = (output_dir / video.name).resolve()
    common = (video.data, video.settings(), cpus, video.url)
    return [
        Step(name, video.name, folder, command(video, name, folder), key(video, look, name), *common)
        for name in STEPS
        if name in wanted
    ]


def command(video: Video, name: StepName, folder: Path) -> tuple[str, ...]:
    """What a step runs: the single command, as a user would type it."""
    options = video.options
    config = str(folder / "train" / video.name / str(options.preset) / "run" / "config.yml")
    trained = ("--load-config", config, "--output-dir", TARGET)
    if name == "masks":
        written = _front_end_options(dataclasses.asdict(video.settings()), "--")
        extra = ("--threshold", str(options.threshold), "--dilation", str(options.dilation))
        return (*DAS3R, "masks", "--data", str(video.data), "--output-dir", TARGET, *extra, *written)
    if name == "train":
        steps = options.max_num_iterations
        return (
            *(*NS_TRAIN, str(options.preset), "--data", str(video.data), "--output-dir", TARGET),
            *("--experiment-name", video.name, "--timestamp", "run", "--vis", "tensorboard"),
            *(() if steps is None else ("--max-num-iterations", str(steps))),
            *(("--pipeline.datamanager.dataparser.anyway", "True") if options.anyway else ()),
            *_front_end_options(video.front_end, "--pipeline.datamanager.dataparser.front-end."),
        )
    if name == "export":
        return (*DAS3R, "export", *trained, *(("--format", *options.format) if options.format else ()))
    flags = [f"--{flag.replace('_', '-')}" for flag in ("fill_holes", "strict_holes") if getattr(options, flag)]
    return (*DAS3R, "clean-plate", *trained, *flags)


def _front_end_options(settings: Any, prefix: str) -> list[str]:
    default, words = FrontEndConfig(), []
    for name, value in settings.items():
        option = f"{prefix}{name.replace('_', '-')}"
        if prefix == "--" and value == getattr(default, name):
            continue
        if isinstance(value, bool) and prefix == "--":
            words.append(option if value else f"--no-{option.removeprefix('--')}")
        else:
            words += [option, str(value)]
    return words


def key(video: Video, look: Look, name: StepName) -> str:
    """Hash of what the result of a step depends on: the frames and the front end as its cache sees them, and options.

    The version of the package is part of it from the training on: the front end has one of its own.
    """
    options = {option: getattr(video.options, option) for option in OPTIONS}
    masks = {option: options.pop(option) for option in ("threshold", "dilation")}
    steps, preset = options.pop("max_num_iterations"), options.pop("preset")
    depends: dict[str, Any] = {"front_end": look.key}
    if name == "masks":
        depends |= masks
    else:
        # The path too: it stands in the config.yml, by which the run is opened.
        depends |= {"data": str(video.data), "version": __version__}
        depends |= {"preset": read_preset(str(preset)), "steps": steps, "anyway": options["anyway"]}
        depends |= {"set": {name: str(value) for name, value in sorted(video.front_end.items())}}
    if name == "export":
        depends |= {"format": options["format"]}
    if name == "clean-plate":
        depends |= {option: options[option] for option in ("fill_holes", "strict_holes")}
    text = json.dumps([name, depends], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def needs(name: StepName, look: Look, cpus: int, gpus: int, memory_gb: float | None) -> Needs:
    """What a step is given.

    Args:
        name: Of the step.
        look: What the video was found to be.
        cpus: For each step.
        gpus: For what runs on a GPU: 1, or 0 where there is none.
        memory_gb: What the user has said, if anything.
    """
    frame = look.working_size[0] * look.working_size[1]
    pixels = look.frames * frame
    at_once = WINDOW * frame if look.front_end == "geometric" and look.frames > AT_ONCE else pixels
    full = look.size[0] * look.size[1]
    # Fitted from above to what das3r bench and benchmarks/reach.py have measured (docs/results.md).
    # Of the windows of a long video their pictures, depth, confidence and dynamic probability stay, twice for a moment.
    kept = 20 * (pixels - at_once)
    likely = 900 * MB + 100 * pixels + 160 * full
    if name == "masks":
        likely = 600 * MB + 200 * at_once + kept + 96 * full
    memory = likely if memory_gb is None else memory_gb * 1000 * MB
    on_gpu = gpus if name != "masks" or look.front_end == "monst3r" else 0
    return Needs(cpus, on_gpu, int(memory))
