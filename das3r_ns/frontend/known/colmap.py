"""COLMAP's cameras of a video, from what does not move in it: pycolmap runs it (extra ``colmap``).

SIFT at the size of the video, matches along the video and incremental mapping (Schönberger and Frahm, "Structure-from-
Motion Revisited", CVPR 2016), one pinhole for all frames. What we found to move is left out of the features.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from jaxtyping import Float

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.known.registered import Registered
from das3r_ns.pictures import write_png
from das3r_ns.progress import Progress
from das3r_ns.scene import cache
from das3r_ns.scene.binary_masks import MaskSettings
from das3r_ns.video.clip import Clip

if TYPE_CHECKING:
    import pycolmap

MAX_FEATURES = 4096
"""Of a frame; COLMAP's own 8192 takes four times as long to match."""

LEAST_POINTS = 30
"""Triangulated points that a frame must see to count as registered. COLMAP asks for as many where it takes a pose from
points, but may take it from matches alone, and later drop points: it has been seen to place 21 frames on two."""

SEED = 0

BYTES_PER_FEATURE = 1000
"""In the database, with its matches."""


def check_pycolmap() -> None:
    """Make sure that COLMAP can be run at all.

    Raises:
        Das3rError: pycolmap is missing.
    """
    if importlib.util.find_spec("pycolmap") is None:
        raise Das3rError(
            "COLMAP's cameras (--cameras colmap) need pycolmap, which is not installed: pip install 'das3r-ns[colmap]'."
        )


def register(
    clip: Clip,
    dynamic: Float[np.ndarray, "N H W"],
    known_focal: float | None,
    root: Path,
    progress: Progress,
) -> Registered | None:
    """Run COLMAP on the frames of a video; the same every time.

    Args:
        clip: The video.
        dynamic: Dynamic probability of its N frames that can be decoded, at any resolution.
        known_focal: Focal in pixels of the video, which is kept; found if None.
        root: Folder in which frames, masks and database lie while it runs.
        progress: Where to report.

    Returns:
        The largest of COLMAP's models; None where there is none.

    Raises:
        Das3rError: The disk is full or cannot be written.
    """
    count, (width, height) = len(dynamic), clip.size
    needed = count * (width * height * 3 + MAX_FEATURES * BYTES_PER_FEATURE)
    with cache.writing(root / "colmap", needed) as work:
        with progress.stage("Writing frames at full size", count) as advance:
            cache.write_frames(work / "images", clip.original_images(advance))
            _write_masks(work / "masks", dynamic, (width, height))
        return _run(work, count, (width, height), known_focal, progress)


def _write_masks(folder: Path, dynamic: Float[np.ndarray, "N H W"], size: tuple[int, int]) -> None:
    """Black where COLMAP shall find no features, under the names that it looks for."""
    folder.mkdir()
    for path, probability in zip(cache.frame_paths(folder, len(dynamic)), dynamic, strict=True):
        moves = MaskSettings().mask(cv2.resize(probability, size, interpolation=cv2.INTER_LINEAR))
        write_png(path.with_name(f"{path.name}.png"), np.where(moves, 0, 255).astype(np.uint8))


def _run(
    work: Path, count: int, size: tuple[int, int], known_focal: float | None, progress: Progress
) -> Registered | None:
    import pycolmap

    images, database = work / "images", work / "database.db"
    reader = pycolmap.ImageReaderOptions(camera_model="SIMPLE_PINHOLE", mask_path=str(work / "masks"))
    if known_focal is not None:
        reader.camera_params = f"{known_focal},{size[0] / 2},{size[1] / 2}"
    extraction = pycolmap.FeatureExtractionOptions()
    extraction.sift.max_num_features = MAX_FEATURES
    pairing = pycolmap.SequentialPairingOptions(overlap=10, quadratic_overlap=True)
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = SEED
    single, cpu = pycolmap.CameraMode.SINGLE, pycolmap.Device.cpu
    with _quiet(pycolmap):
        with progress.stage("COLMAP: features"):
            # Listed first, for threads would number them in the order in which they are done, and numbers matter.
            pycolmap.Database.open(database).close()
            pycolmap.import_images(database, images, single, options=reader)
            pycolmap.extract_features(
                database, images, [], single, reader_options=reader, extraction_options=extraction, device=cpu
            )
        with progress.stage("COLMAP: matches"):
            pycolmap.match_sequential(database, pairing_options=pairing, verification_options=verification, device=cpu)
        with progress.stage("COLMAP: cameras", count) as advance:
            return largest(_models(pycolmap, work, known_focal is not None, advance))


def _models(
    colmap: Any, work: Path, focal_is_known: bool, on_frame: Callable[[], None]
) -> list[pycolmap.Reconstruction]:
    # One thread: with more, sums depend on the order in which they are taken, and small differences grow.
    options = colmap.IncrementalPipelineOptions(num_threads=1, random_seed=SEED)
    options.ba_refine_focal_length = options.mapper.abs_pose_refine_focal_length = not focal_is_known
    options.extract_colors = False
    (work / "models").mkdir()
    models = colmap.incremental_mapping(
        work / "database.db", work / "images", work / "models", options, next_image_callback=on_frame
    )
    return list(models.values())


def largest(models: list[pycolmap.Reconstruction]) -> Registered | None:
    """The model with the most frames that its points hold; None where there is no such frame."""
    model = max(models, key=lambda one: len(_held_frames(one)), default=None)
    poses = {} if model is None else _held_frames(model)
    if model is None or not poses:
        return None
    frames = sorted(poses)
    camera = next(iter(model.cameras.values()))
    return Registered(
        np.array(frames),
        np.stack([poses[frame] for frame in frames]),
        float(camera.focal_length),
        model.num_points3D(),
        float(model.compute_mean_reprojection_error()),
    )


def _held_frames(model: pycolmap.Reconstruction) -> dict[int, Float[np.ndarray, "4 4"]]:
    """Number -> camera-to-world of the frames that see enough of the model's points."""
    poses = {}
    for image in model.images.values():
        if image.has_pose and image.num_points3D >= LEAST_POINTS:
            rows = image.cam_from_world().inverse().matrix()
            poses[int(Path(image.name).stem)] = np.vstack([rows, [0.0, 0.0, 0.0, 1.0]])
    return poses


@contextmanager
def _quiet(colmap: Any) -> Iterator[None]:
    """Only errors in COLMAP's log, which else says several lines of each frame."""
    before = colmap.logging.minloglevel
    colmap.logging.minloglevel = int(colmap.logging.ERROR)
    try:
        yield
    finally:
        colmap.logging.minloglevel = before
