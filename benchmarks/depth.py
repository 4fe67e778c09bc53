"""Depth of the static scene against the truth: by optical flow alone, and with stereo, in one run.

``python benchmarks/depth.py SET [SET ...] --workspace FOLDER --output OUTPUT.json``: each SET is a folder in the layout
of ``das3r demo``, with ``clean_depth/`` and ``poses.txt``; the front end runs on links to its frames. Counted are the
pixels outside the true masks at which something was hit; the unit of length is that of the best similarity between true
and estimated camera centres.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from workspace import link_video

from das3r_ns.evaluation.ground_truth import GroundTruth
from das3r_ns.evaluation.machine import describe_machine, machine_line
from das3r_ns.evaluation.plates import masks_at, to_size
from das3r_ns.files import write_json
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.run import load_or_estimate
from das3r_ns.scene.estimate import SceneEstimate
from das3r_ns.scene.geometry import umeyama_sim3

SHARES = (0.01, 0.02, 0.05, 0.1)
"""Relative errors below which pixels are counted."""


@dataclass
class Arguments:
    """Compare the depth of the front end with the truth, without and with stereo."""

    sets: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of the sets."""
    workspace: Path
    """Folder for links and results; what the front end has cached there is deleted first."""
    output: Path
    """JSON file to write."""
    long_side: int = 480
    """Longer side, in pixels, at which the front end works."""


def relative_errors(estimate: SceneEstimate, folder: Path) -> Float[np.ndarray, " P"]:
    """Relative error of the depth at every static pixel of all frames."""
    truth = GroundTruth(folder)
    size = (estimate.width, estimate.height)
    numbers = list(range(estimate.num_frames))
    scale, _, _ = umeyama_sim3(estimate.c2w_cv[:, :3, 3], truth.c2w_cv[:, :3, 3])
    static = masks_at(truth, numbers, size) == 0
    errors = []
    for i in numbers:
        with np.load(folder / "clean_depth" / f"{i:05d}.npz") as stored:
            depth = to_size(stored["depth"].astype(np.float32), size)
        counted = static[i] & (depth > 0)
        errors.append(np.abs(scale * estimate.depth[i][counted] / depth[counted] - 1.0))
    return np.concatenate(errors)


def main(arguments: Arguments) -> None:
    """Measure and print a table."""
    rows = []
    shown = Table("set", "depth", *(f"within {share:.0%}" for share in SHARES), "median error", "front end, s")
    for folder in arguments.sets:
        video = link_video(folder, arguments.workspace / folder.name)
        for cache in video.rglob(".das3r"):
            shutil.rmtree(cache)
        for stereo in (False, True):
            start = time.perf_counter()
            config = FrontEndConfig(front_end="geometric", long_side=arguments.long_side, stereo=stereo)
            errors = relative_errors(load_or_estimate(video, config).estimate, folder)
            seconds = time.perf_counter() - start
            within = {str(share): round(float((errors < share).mean()), 4) for share in SHARES}
            median = round(float(np.median(errors)), 4)
            name = "stereo" if stereo else "flow"
            rows.append({"set": folder.name, "depth": name, "within": within, "median": median})
            shares = [f"{share:.1%}" for share in within.values()]
            shown.add_row(folder.name, name, *shares, f"{median:.2%}", f"{seconds:.0f}")
    write_json(arguments.output, {"machine": describe_machine(), "rows": rows})
    Console().print(shown, machine_line(describe_machine()))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
