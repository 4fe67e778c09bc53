"""How well a scene of the clean plates finds which hidden pixels some frame sees, on a set that knows it itself.

``python benchmarks/measure_observed.py SET --work-dir FOLDER --output OUTPUT.json [--plates PLATES]``

Of the pixels under the set's masks: the share that some frame sees, by the set's own ``observed`` pictures and by a
scene trained on its clean plates (das3r_ns/evaluation/observed.py), and where the two differ; the latter also for the
same rule with the set's exact depth. With the clean plates of a run, also the PSNR over the hidden pixels that results
from either.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Bool
from measure_clean_plate import read

from das3r_ns.evaluation.ground_truth import GroundTruth
from das3r_ns.evaluation.metrics import psnr_over
from das3r_ns.evaluation.observed import with_observed
from das3r_ns.files import link_files, write_json
from das3r_ns.scene.observed import grown, observed_count

SKY = 200.0
"""Depth where nothing is hit, as the sets themselves have it."""


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


def percent(chosen: Bool[np.ndarray, "N H W"], among: Bool[np.ndarray, "N H W"]) -> float:
    """Share of the pixels of ``among`` that are chosen, in percent."""
    return round(100 * float(chosen[among].sum()) / max(int(among.sum()), 1), 2)


def differences(
    known: Bool[np.ndarray, "N H W"], found: Bool[np.ndarray, "N H W"], masks: Bool[np.ndarray, "N H W"]
) -> dict[str, float]:
    """Where what was found to be seen differs from what is, under the masks."""
    return {
        "found_percent": percent(found, masks),
        "seen_but_not_found_percent_of_seen": percent(~found, known & masks),
        "found_but_not_seen_percent_of_unseen": percent(found, ~known & masks),
    }


def by_exact_depth(truth: GroundTruth, masks: Bool[np.ndarray, "N H W"]) -> Bool[np.ndarray, "N H W"]:
    """The rule of observed.py with the set's own depth and cameras."""
    files = sorted((truth.directory / "clean_depth").glob("*.npz"))
    depth = np.stack([np.load(file)["depth"].astype(np.float32) for file in files])
    depth[depth == 0] = SKY
    masked, focal = grown(masks), float(truth.intrinsics[0, 0])
    return np.stack([observed_count(i, masked, depth, truth.c2w_cv, focal) > 0 for i in range(len(depth))])


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
    result: dict[str, object] = {
        "set": arguments.set.resolve().name,
        "seen_percent": percent(np.stack(known), np.stack(masks)),
        "by_clean_plates": differences(np.stack(known), np.stack(found), np.stack(masks)),
    }
    if (arguments.set / "clean_depth").is_dir():
        exact = by_exact_depth(truth, np.stack(masks))
        result["by_exact_depth"] = differences(np.stack(known), exact, np.stack(masks))
    if arguments.plates is not None:
        plates = [read(arguments.plates / f"frames/{i:05d}.png") for i in frames]
        for name, seen in (("psnr_hidden_by_the_set", known), ("psnr_hidden_by_clean_plates", found)):
            values = [psnr_over(plates[i], truth.clean(i), masks[i] & seen[i]) for i in frames]
            result[name] = round(float(np.nanmean(values)), 2)
    write_json(arguments.output, result)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
