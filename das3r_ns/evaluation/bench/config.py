"""Settings of ``das3r bench``. Only light imports, for ``--help``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from das3r_ns.frontend.config import FrontEndConfig, given, unset_front_end

Base = Literal["das3r", "das3r-light"]


@dataclass
class BenchConfig:
    """What to measure, on what, and how."""

    protocol: tyro.conf.Positional[str]
    """davis, sintel, tum or folder (any sets in the layout of `das3r demo`)."""
    data: Path
    """Root of the data set, as its owners distribute it."""
    output_dir: Path
    """Folder for the report (bench.html), bench.json, tables, logs and trained runs. What is in it is not measured
    again, so an interrupted run goes on where it was."""
    methods: tuple[str, ...] = ()
    """What to train: das3r, das3r-light, das3r-paper; the baselines splatfacto, splatfacto-masks, robust; the ablations
    das3r-no-masks, das3r-no-staticness, das3r-no-refinement, das3r-no-depth, das3r-no-camera-refinement,
    das3r-many-gaussians, das3r-degree-3. Nothing named: das3r on CUDA, das3r-light without."""
    sequences: tuple[str, ...] = ()
    """Only these sequences; all of the protocol if none is named."""
    front_end_only: bool = False
    """Measure masks and cameras, and train nothing."""
    max_iterations: int | None = None
    """Steps of every training; those of the preset if not given."""
    num_frames: int | None = None
    """Only so many frames of every sequence, from the first on, whatever the protocol says."""
    train_size: int | None = None
    """Long side in pixels of the images that are trained on and judged by; that of the front end if not given. Smaller
    ones, with seeds and Gaussians as many fewer as they have fewer pixels, take less time."""
    base: Base | None = None
    """The preset that gives baselines and ablations (and the front end's own measurement) their resolution, points and
    steps; if not given, the one that is among the methods, or else the one that fits the machine."""
    strict: bool = False
    """Also keep held-out frames from what the front end gives the splats: depth, masks and seeds then come from a
    second run of it, on the training frames alone."""
    refine_test_poses: bool = False
    """Also measure held-out frames after refining their cameras on them; shown in rows of their own."""
    plates: bool = True
    """Also measure clean plates, where the set has the true background. A set that does not say what of it other frames
    see has a scene trained on that background, once, to find out."""
    lpips: bool = False
    """Let torchvision download AlexNet's weights (233 MB) for LPIPS; without, it is measured where they are at hand."""
    address: str | None = None
    """A Ray cluster to measure on, sequences side by side: auto, HOST:PORT or ray://HOST:PORT. Its machines see data
    and output folder under the same paths. If not given, one after the other on this machine."""
    fresh: bool = False
    """Measure again what has been measured."""
    front_end: Annotated[FrontEndConfig, tyro.conf.arg(name="")] = field(default_factory=unset_front_end)
    """How cameras, depth and what moves are found; --long-side 0 is the method's own."""

    def applied(self, preset: FrontEndConfig) -> FrontEndConfig:
        """A preset's settings of the front end, with what differs here from the defaults."""
        return dataclasses.replace(preset, **given(self.front_end))

    def settings(self, part: Literal["front_end", "splats"]) -> dict[str, Any]:
        """What the figures of a part depend on, apart from sequence and method; JSON values."""
        kept: dict[str, Any] = {
            "protocol": self.protocol,
            "num_frames": self.num_frames,
            "front_end": plain(dataclasses.asdict(self.front_end)),
            "base": self.base,
        }
        if part == "splats":
            names = ("max_iterations", "train_size", "strict", "refine_test_poses", "plates", "lpips")
            kept |= {name: getattr(self, name) for name in names}
        return kept


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """The same with paths as text, for JSON."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
