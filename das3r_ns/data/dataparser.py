"""``das3r-video``: a casual video as a nerfstudio dataset, for das3r and for any other nerfstudio method.

Only light imports here: nerfstudio loads this module at the start of every ns-* command.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import torch
import tyro
from jaxtyping import Float
from nerfstudio.cameras.camera_utils import auto_orient_and_center_poses
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor

from das3r_ns.errors import Das3rError, Das3rExit
from das3r_ns.frontend.config import FrontEndConfig, FrontEndName

if TYPE_CHECKING:
    from das3r_ns.frontend.prepared import PreparedScene
    from das3r_ns.scene.estimate import SceneEstimate

EvalSplit = Literal["none", "paper"]

AUTO_LONG_SIDE = 1600
"""Long side in pixels up to which 'auto' trains at the size of the video."""
MIN_LONG_SIDE = 64
"""Training images of a smaller long side show nothing."""

NEAR_DEPTH = 0.5
"""Scaled depth of the nearest hundredth of the static scene, at least: viewers with a near plane at 0.2 show it all."""
MEDIAN_DEPTH = 1.0
"""Scaled median depth, at least. Splatfacto's absolute lengths (split above 0.01, cull above 0.5, position steps of
1.6e-4) are made for cameras within +-1 that look at something about 1 away. Here the depth is scaled, not the camera
path, for a hand-held path can be arbitrarily short."""


MAX_DEPTH = 6e4
"""Scaled depth up to which the training is told of it: what half precision can hold."""


@dataclass
class FrontEndOptions(FrontEndConfig):
    """The front end's settings on nerfstudio's command lines, where its name has a short spelling besides the full one:
    ``--pipeline.datamanager.dataparser.front-end monst3r`` for ``...front-end.front-end monst3r``."""

    front_end: Annotated[FrontEndName, tyro.conf.arg(aliases=("--pipeline.datamanager.dataparser.front-end",))] = "auto"


@dataclass
class Das3rVideoDataParserConfig(DataParserConfig):
    """A video (a folder of frames or a video file); cameras, depth and masks come from das3r's front end."""

    _target: type = field(default_factory=lambda: Das3rVideoDataParser)
    """target class to instantiate"""
    data: Path = Path()
    """Folder of frames (jpg, png, webp) or video file."""
    front_end: FrontEndConfig = field(default_factory=FrontEndOptions)
    """How cameras, depth and what moves are found."""
    eval_split: EvalSplit = "none"
    """Frames held out for evaluation: 'none' trains and evaluates on all of them; 'paper' holds out frames 5, 15, 25,
    ... and trains on the others."""
    train_size: Literal["auto", "working", "original"] | int = "working"
    """Size of the training images: that of the front end ('working'), that of the video ('original'), or that of the
    video up to a long side of so many pixels; 'auto' is 1600 where training runs on a GPU, else 'working'."""
    mask_dilation: int = 2
    """Pixels (of the working size) by which what moves is grown, so that mixed pixels on its outline do not train."""
    seeds: Literal["fused", "paper"] = "fused"
    """'fused': one cloud made from all frames' static depth. 'paper': one point per confident pixel of every training
    frame."""
    max_points: int = 1_000_000
    """Most seed points; the spacing of the fused cloud grows until it fits."""
    keep_dynamic_points: bool = False
    """Seed from pixels that move too (with their low staticness)."""
    anyway: bool = False
    """Train also where the front end's own verdict on its cameras is that the clip is not solved."""
    require_cache: bool = False
    """Fail rather than run the front end when its result is not in the cache."""
    kept: Path = Path()
    """Folder of the run that has what is needed to open it without the video; training sets it."""


@dataclass
class Das3rVideoDataParser(DataParser):
    """Turns a SceneEstimate into nerfstudio's cameras, masks and seed points."""

    config: Das3rVideoDataParserConfig

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs: dict | None) -> DataparserOutputs:
        """Dataset of one split.

        Args:
            split: "train", "val" or "test" (the last two are the same).

        Raises:
            Das3rExit: The user can mend it; also a SystemExit, so that ns-* commands show its message and no traceback.
        """
        del kwargs
        try:
            return self._outputs(split)
        except Das3rError as error:
            raise Das3rExit(str(error)) from None

    @cached_property
    def prepared(self) -> PreparedScene:
        """The video and its estimate; the front end runs where its result is not in the cache, unless forbidden.

        Where the video of a trained run, its cache or what was given with it is gone: what the run has kept.
        """
        from das3r_ns.frontend.kept import kept_scene
        from das3r_ns.progress import Progress

        try:
            return self._found()
        except Das3rError:
            config, progress = self.config, Progress()
            opened = config.require_cache and config.kept != Path()
            scene = kept_scene(config.data, config.kept, config.front_end, progress) if opened else None
            if scene is None:
                raise
        progress.say(
            f"{config.data}, what the front end kept beside it, or what it was given (masks, cameras, weights) is gone "
            f"or has changed: {config.kept} is used."
        )
        return scene

    def keep(self, directory: Path) -> None:
        """Keep in a folder what is needed to open the run without the video.

        Raises:
            Das3rError: The folder cannot be written.
        """
        from das3r_ns.frontend.kept import keep_scene

        keep_scene(self.prepared, directory)
        self.config.kept = directory

    def _found(self) -> PreparedScene:
        from das3r_ns.frontend.frames import find_frames
        from das3r_ns.frontend.run import load_or_estimate
        from das3r_ns.progress import Progress

        self._check_numbers()
        if self.config.data == Path():
            raise Das3rError(
                "No video was named. Add `--data VIDEO`, where VIDEO is a folder of frames or a video file (for the "
                "current folder give its full path)."
            )
        if self.config.eval_split != "none":  # a video too short for it is refused before the front end runs
            clip = find_frames(self.config.data, self.config.front_end, Progress())
            split_frames(len(clip.names), self.config.eval_split)
        prepared = load_or_estimate(self.config.data, self.config.front_end, require_cache=self.config.require_cache)
        if not self.config.require_cache and not self.config.anyway:  # who opens a trained run is never refused
            _check_solved(prepared)
        if self.config.front_end.front_end == "auto" and not self.config.require_cache:
            # Kept with the training's settings: ns-viewer shall want this result, whatever weights have come by then.
            name = prepared.estimate.provenance.get("front_end", "auto")
            self.config.front_end = dataclasses.replace(self.config.front_end, front_end=name)
        return prepared

    def _check_numbers(self) -> None:
        """Raise a :class:`Das3rError` where one makes no sense."""
        from das3r_ns.data.seed_points import LEAST_POINTS

        config = self.config
        if isinstance(config.train_size, int) and config.train_size < MIN_LONG_SIDE:
            raise Das3rError(
                f"A long side of {config.train_size} pixels is too small for training images (train-size): take "
                f"{MIN_LONG_SIDE} at least, or 'working', 'original' or 'auto'."
            )
        if config.max_points < LEAST_POINTS:
            raise Das3rError(
                f"{config.max_points} seed points are too few for a scene (max-points): take {LEAST_POINTS} at least, "
                "better the usual 1,000,000, of which only as many are used as there are to see."
            )
        if config.mask_dilation < 0:
            raise Das3rError(
                f"What moves cannot be grown by {config.mask_dilation} pixels (mask-dilation): take 0 or more."
            )

    @cached_property
    def _fingerprint(self) -> str:
        from das3r_ns.data.training_data import estimate_fingerprint

        return estimate_fingerprint(self.prepared.estimate)

    def _outputs(self, split: str) -> DataparserOutputs:
        from das3r_ns.data.training_data import static_files

        prepared = self.prepared
        estimate = prepared.estimate
        trained = size = training_size(self.config.train_size, self.working_size, prepared.pinhole_size)
        if self.config.require_cache and not prepared.has_images_at(size):
            size = self.working_size  # of these a run keeps its own
        image_filenames = prepared.image_paths_at(size)
        train, held_out = split_frames(estimate.num_frames, self.config.eval_split)
        frames = train if split == "train" else held_out
        files = static_files(
            estimate, self._fingerprint, prepared.cache_dir, self.config.mask_dilation, size, image_filenames
        )
        poses, transform, scale = nerfstudio_poses(estimate)
        metadata = {
            "static_weight_filenames": [files.weights[i] for i in frames],
            "frame_indices": torch.tensor(frames),
            "camera_kind": estimate.camera_kind,
            "enlarged": trained[0] / estimate.width,
        }
        if split == "train":
            metadata |= self._points(train, transform, scale)
            depth = np.clip(estimate.depth[frames] * scale, 0, MAX_DEPTH)
            stored = np.stack([depth, estimate.confidence[frames]], axis=-1).astype(np.float16)
            metadata["measured_depth"] = torch.from_numpy(stored)
        if estimate.light is not None:
            metadata["light"] = torch.from_numpy(estimate.light[frames])
        if estimate.falloff is not None:
            # The corner's distance from the centre in focals, which do not depend on the size of a picture.
            focal = float(np.median(estimate.intrinsics[:, 0, 0]))
            corner = (estimate.width**2 + estimate.height**2) ** 0.5 / (2 * focal)
            metadata["falloff"] = (*estimate.falloff.tolist(), corner)
        cameras = _cameras(estimate, poses, frames, size)
        metadata["focal"] = float(cameras.fx.median()) * trained[0] / size[0]
        return DataparserOutputs(
            image_filenames=[image_filenames[i] for i in frames],
            cameras=cameras,
            scene_box=SceneBox(aabb=torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])),
            mask_filenames=[files.masks[i] for i in frames],
            dataparser_transform=transform.float(),
            dataparser_scale=scale,
            metadata=metadata,
        )

    @property
    def working_size(self) -> tuple[int, int]:
        """Width and height that the front end worked at."""
        return self.prepared.estimate.width, self.prepared.estimate.height

    def _points(self, train: list[int], transform: Float[Tensor, "3 4"], scale: float) -> dict[str, Tensor]:
        from das3r_ns.data.seed_points import SeedSettings, seed_points
        from das3r_ns.frontend.geometric.torch_kernels.choice import dense_device

        front_end = self.config.front_end
        points = seed_points(
            self.prepared.estimate,
            self._fingerprint,
            self.prepared.cache_dir,
            self.prepared.image_paths,
            train,
            SeedSettings(self.config.seeds, self.config.max_points, self.config.keep_dynamic_points),
            lambda: dense_device(front_end.device, front_end.kernels),
        )
        xyz = (torch.from_numpy(points.xyz).double() @ transform[:, :3].T + transform[:, 3]) * scale
        metadata = {
            "points3D_xyz": xyz.float(),
            "points3D_rgb": torch.from_numpy(points.rgb),
            "points3D_staticness": torch.from_numpy(points.staticness),
        }
        if points.pixel is not None:
            metadata["points3D_pixel"] = torch.from_numpy(points.pixel)
        return metadata


def _check_solved(prepared: PreparedScene) -> None:
    """Raise a :class:`Das3rError` where the front end's verdict is that the clip is not solved."""
    verdict = prepared.verdict
    if verdict is not None and verdict.word == "not solved":
        raise Das3rError(
            f"{prepared.data} is not trained on: {verdict.message} `das3r masks` shows what was found. To train all "
            "the same, add `--pipeline.datamanager.dataparser.anyway True`."
        )


def training_size(
    wanted: Literal["auto", "working", "original"] | int, working: tuple[int, int], video: tuple[int, int]
) -> tuple[int, int]:
    """Width and height of the training images.

    Args:
        wanted: The option ``train-size``.
        working: Size that the front end worked at.
        video: Size of the (pinhole) pictures of the video.
    """
    from das3r_ns.video.clip import working_size

    if wanted == "working" or (wanted == "auto" and max(working) >= min(AUTO_LONG_SIDE, max(video))):
        return working
    long_side = wanted if isinstance(wanted, int) else AUTO_LONG_SIDE if wanted == "auto" else max(video)
    return video if max(video) <= long_side else working_size(video, long_side)


def split_frames(num_frames: int, eval_split: EvalSplit) -> tuple[list[int], list[int]]:
    """Training and evaluation frames.

    The paper's split holds out every frame whose index i has (i + 5) % 10 == 0: 5, 15, 25, ...

    Args:
        num_frames: Length of the video.
        eval_split: ``none`` uses every frame for both.

    Raises:
        Das3rError: The video is too short to hold a frame out.
    """
    frames = list(range(num_frames))
    if eval_split == "none":
        return frames, frames
    if num_frames <= 5:
        raise Das3rError(
            f"The evaluation split 'paper' holds out frames 5, 15, 25, ..., but the video has only {num_frames} frames "
            "(0 to " + str(num_frames - 1) + "). Use a longer video or the split 'none'."
        )
    return [i for i in frames if (i + 5) % 10], [i for i in frames if (i + 5) % 10 == 0]


def nerfstudio_poses(estimate: SceneEstimate) -> tuple[Float[Tensor, "N 3 4"], Float[Tensor, "3 4"], float]:
    """Camera-to-world in nerfstudio's convention: OpenGL axes, z up, cameras round the origin, sensible scale.

    Returns:
        c2w_gl: Poses, float64.
        transform: Rigid motion from the world frame of the estimate to nerfstudio's, before scaling, float64.
        scale: Factor from lengths of the estimate to nerfstudio's.
    """
    c2w_gl = torch.from_numpy(np.asarray(estimate.c2w_cv, dtype=np.float64) @ np.diag([1.0, -1.0, -1.0, 1.0]))
    _, transform = auto_orient_and_center_poses(c2w_gl.float(), method="up", center_method="poses")
    # nerfstudio computes in float32: its rotation is orthogonal to 1e-7 only.
    u, _, vt = torch.linalg.svd(transform[:, :3].double())
    rotation = u @ vt
    transform = torch.cat([rotation, -rotation @ c2w_gl[:, :3, 3].mean(0)[:, None]], dim=1)
    poses = transform @ c2w_gl
    scale = scene_scale(estimate)
    poses[:, :, 3] *= scale
    return poses, transform, scale


def scene_scale(estimate: SceneEstimate) -> float:
    """Factor after which the static scene lies at least NEAR_DEPTH and, in the median, MEDIAN_DEPTH away."""
    counts = (estimate.confidence > 0) & (estimate.not_static < 0.5)
    depth = estimate.depth[counts] if counts.any() else estimate.depth
    near, median = np.percentile(depth, [1, 50])
    return float(max(NEAR_DEPTH / near, MEDIAN_DEPTH / median))


def _cameras(
    estimate: SceneEstimate, c2w_gl: Float[Tensor, "N 3 4"], frames: list[int], size: tuple[int, int]
) -> Cameras:
    from das3r_ns.scene.geometry import resize_intrinsics

    # No half-pixel shift: nerfstudio and gsplat both put the centre of the first pixel at (0.5, 0.5), as we do.
    k = resize_intrinsics(estimate.intrinsics[frames], (estimate.width, estimate.height), size)
    fx, fy, cx, cy = (torch.from_numpy(v.astype(np.float32)) for v in (k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2]))
    return Cameras(
        camera_to_worlds=c2w_gl[frames].float(),
        fx=fx,
        fy=fy,
        cx=cx,
        cy=cy,
        width=size[0],
        height=size[1],
        camera_type=CameraType.PERSPECTIVE,
        metadata={},  # `ns-export cameras` wants one
    )
