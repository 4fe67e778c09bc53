"""Which points of the static scene some frame sees, where movers hide them in others.

Synthetic sets say it themselves, from their exact depth. A real video whose clean plates are known does not, and the
depth rendered by the scene that is to be judged cannot say it either: pixels where it is wrong would drop out, and they
are the bad ones. So a scene is trained on the *clean plates*, in which nothing is hidden, and its depth decides.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import UInt8

from das3r_ns.errors import Das3rError
from das3r_ns.files import link_files, replace_directory, temporary_directory
from das3r_ns.pictures import write_png
from das3r_ns.scene.observed import grown, observed_count

if TYPE_CHECKING:
    from das3r_ns.evaluation.ground_truth import GroundTruth

PRESET, FRONT_END, ITERATIONS = "das3r-light", "geometric", 2500
"""What the clean scene is made with, whatever is measured: its depth shall be the same for all."""


def with_observed(truth: GroundTruth, folder: Path, iterations: int = ITERATIONS) -> GroundTruth:
    """The ground truth with pictures ``observed``: its own or, where it has none, made from its clean plates.

    Args:
        truth: With ``clean`` and ``masks``.
        folder: Where to train the clean scene and to keep the pictures; what an earlier call left there is used.
        iterations: Steps of the training.

    Raises:
        Das3rError: Pictures are missing or cannot be read, or the front end finds no cameras for the clean plates.
    """
    if truth.has("observed"):
        return truth
    pictures = folder / "observed"
    if not pictures.is_dir():
        counts = _count_by_clean_scene(truth, folder, iterations)
        with temporary_directory(pictures) as temporary:
            for path, count in zip(truth.frame_paths, counts, strict=True):
                # A point lies in the whole of the pixel it was found in.
                picture = cv2.resize(count, truth.size, interpolation=cv2.INTER_NEAREST)
                try:
                    write_png(temporary / f"{path.stem}.png", picture)
                except OSError as error:
                    raise Das3rError(f"{pictures} cannot be written ({error}).") from error
            replace_directory(temporary, pictures)
    return truth.completed("observed", pictures)


def _count_by_clean_scene(truth: GroundTruth, folder: Path, iterations: int) -> list[UInt8[np.ndarray, "H W"]]:
    from das3r_ns.evaluation.measured_training import train
    from das3r_ns.evaluation.methods import method_config
    from das3r_ns.trained.scene import TrainedScene

    frames = range(truth.num_frames)
    masks = [truth.mask(i) for i in frames]  # first: what cannot be read shall not cost a training
    clip = folder.resolve() / "clean"
    link_files([truth.path("clean", i) for i in frames], clip)
    config = method_config(PRESET, PRESET, iterations)
    parser = config.pipeline.datamanager.dataparser  # pyright: ignore[reportAttributeAccessIssue]
    parser.data = clip
    parser.front_end = dataclasses.replace(parser.front_end, front_end=FRONT_END)
    config.output_dir, config.experiment_name = folder.resolve() / "runs", "clean-scene"
    scene = TrainedScene(train(config)[0])
    size = scene.working_size
    depth = np.stack([scene.render(i, size)["depth"][..., 0] for i in frames])
    covered = [cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0 for mask in masks]
    masked, poses, focal = grown(np.stack(covered)), scene.c2w_cv(), float(scene.intrinsics(size)[0, 0, 0])
    return [observed_count(i, masked, depth, poses, focal) for i in frames]
