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
from jaxtyping import Bool, Float, UInt8

from das3r_ns.errors import Das3rError
from das3r_ns.files import link_files, replace_directory, temporary_directory

if TYPE_CHECKING:
    from das3r_ns.evaluation.ground_truth import GroundTruth

SAME_DEPTH = 0.02
"""Share of its depth that a point may lie behind what a frame shows and still be seen there. With the exact depth of
synthetic scenes anything from 1 to 2 % finds their own observed pixels, to 0.1 %."""

PRESET, FRONT_END, ITERATIONS = "das3r-light", "geometric", 2500
"""What the clean scene is made with, whatever is measured: its depth shall be the same for all."""


def grown(masks: Bool[np.ndarray, "N H W"]) -> Bool[np.ndarray, "N H W"]:
    """Masks and the pixels beside them."""
    return np.stack([cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0 for mask in masks])


def observed_count(
    number: int,
    masked: Bool[np.ndarray, "N H W"],
    clean_depth: Float[np.ndarray, "N H W"],
    c2w_cv: Float[np.ndarray, "N 4 4"],
    focal: float,
) -> UInt8[np.ndarray, "H W"]:
    """In how many frames (255 = as many or more) the static point behind each pixel of one is visible, not masked.

    It is visible where no static surface lies in front of it, by more than SAME_DEPTH of its depth: at one of the nine
    pixels about its place at least, since a point at the edge of something nearer falls on either side of that edge.

    Args:
        number: The one frame.
        masked: What moves in every frame.
        clean_depth: Camera z without what moves; positive.
        c2w_cv: Camera-to-world of every frame, OpenCV axes.
        focal: In pixels; the principal point is the middle of the picture.
    """
    n, height, width = masked.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) + np.float32(0.5)
    depth = clean_depth[number].astype(np.float32)
    local = np.stack([(x - width / 2) / focal * depth, (y - height / 2) / focal * depth, depth]).reshape(3, -1)
    count = np.zeros(height * width, np.int32)
    for other in range(n):
        between = np.linalg.inv(c2w_cv[other]) @ c2w_cv[number]
        seen = between[:3, :3].astype(np.float32) @ local.astype(np.float32) + between[:3, 3:].astype(np.float32)
        z = np.maximum(seen[2], 1e-6)
        column = np.floor(seen[0] / z * focal + width / 2).clip(-1, width).astype(np.int32)
        row = np.floor(seen[1] / z * focal + height / 2).clip(-1, height).astype(np.int32)
        within = (seen[2] > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        place = row.clip(0, height - 1) * width + column.clip(0, width - 1)
        farthest = cv2.dilate(clean_depth[other].astype(np.float32), np.ones((3, 3), np.uint8))
        visible = farthest.ravel()[place] > z * (1 - SAME_DEPTH)
        count += within & visible & ~masked[other].ravel()[place]
    return count.clip(max=255).astype(np.uint8).reshape(height, width)


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
                if not cv2.imwrite(str(temporary / f"{path.stem}.png"), picture):
                    raise Das3rError(f"{pictures} cannot be written.")
            replace_directory(temporary, pictures)
    return truth.completed("observed", pictures)


def _count_by_clean_scene(truth: GroundTruth, folder: Path, iterations: int) -> list[UInt8[np.ndarray, "H W"]]:
    from das3r_ns.evaluation.methods import method_config
    from das3r_ns.evaluation.trained_scene import TrainedScene
    from das3r_ns.evaluation.training import train

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
