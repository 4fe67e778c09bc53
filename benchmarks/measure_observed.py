"""How well a scene of the clean plates finds which hidden pixels some frame sees, on a set that knows it itself.

``python benchmarks/measure_observed.py SET --work-dir FOLDER --output OUTPUT.json [--plates PLATES]``

Of the pixels under the set's masks: the share that some frame sees, by the set's own ``observed`` pictures and by a
scene trained on its clean plates (das3r_ns/evaluation/observed.py), and where the two differ. With the clean plates of
a run, also the PSNR over the hidden pixels that results from either.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro

from das3r_ns.evaluation.ground_truth import GroundTruth
from das3r_ns.evaluation.metrics import psnr_over
from das3r_ns.evaluation.observed import with_observed
from das3r_ns.files import link_files, write_json


@dataclass
class Arguments:
    """Compare observed pixels found from clean plates with a set's own."""

    set: tyro.conf.Positional[Path]
    """Folder of the set, with its ground truth."""
    work_dir: Path
    """Folder for the scene of its clean plates."""
    output: Path
    """JSON file to write."""
    plates: Path | None = None
    """What `das3r clean-plate` wrote for a run on its frames."""


def main(arguments: Arguments) -> None:
    """Measure and write the result."""
    truth = GroundTruth(arguments.set)
    frames = range(truth.num_frames)
    bare = arguments.work_dir / "set"
    for part in ("frames", "masks", "clean"):
        link_files(sorted((arguments.set / part).iterdir()), bare / part)
    made = with_observed(GroundTruth(bare), arguments.work_dir)
    masks = [truth.mask(i) for i in frames]
    known, found = ([t.observed(i) > 0 for i in frames] for t in (truth, made))
    moving, true, said = (np.concatenate([p.ravel() for p in pictures]) for pictures in (masks, known, found))
    true, said = true[moving], said[moving]
    result: dict[str, object] = {
        "set": arguments.set.resolve().name,
        "seen_percent": round(100 * float(true.mean()), 2),
        "said_to_be_seen_percent": round(100 * float(said.mean()), 2),
        "seen_but_not_said_percent_of_seen": round(100 * float((true & ~said).sum() / max(true.sum(), 1)), 2),
        "said_but_not_seen_percent_of_unseen": round(100 * float((said & ~true).sum() / max((~true).sum(), 1)), 1),
    }
    if arguments.plates is not None:
        pictures = [cv2.imread(str(arguments.plates / f"frames/{i:05d}.png")) for i in frames]
        plates = [picture[..., ::-1].astype(np.float32) / 255 for picture in pictures]
        for name, seen in (("psnr_hidden_by_the_set", known), ("psnr_hidden_by_clean_plates", found)):
            values = [psnr_over(plates[i], truth.clean(i), masks[i] & seen[i]) for i in frames]
            result[name] = round(float(np.nanmean(values)), 2)
    write_json(arguments.output, result)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
