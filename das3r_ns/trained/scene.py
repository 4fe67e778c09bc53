"""A trained run together with the video it was trained on: its cameras at any size, its renders, its frames."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.models.splatfacto import SplatfactoModel
from nerfstudio.pipelines.base_pipeline import Pipeline
from torch import Tensor

from das3r_ns.data.dataparser import Das3rVideoDataParser, nerfstudio_poses, training_size
from das3r_ns.errors import Das3rError
from das3r_ns.scene.geometry import resize_intrinsics
from das3r_ns.scene.shutter import Shutter
from das3r_ns.scene.static_weight import static_weight
from das3r_ns.splats.held_out_cameras import trained_poses
from das3r_ns.trained.run import open_run, training_images

if TYPE_CHECKING:
    from das3r_ns.frontend.prepared import PreparedScene

OPENGL_FROM_OPENCV = np.array([1.0, -1.0, -1.0])
"""Signs of the camera axes; its own inverse."""


class TrainedScene:
    """Splats and cameras of a run, in nerfstudio's world unless said otherwise.

    Frames are those of the video, in order, also those held out from training: N of them. A size is (width, height).

    Args:
        pipeline: A trained pipeline on the dataparser ``das3r-video``.
        name: What to call it in error messages.

    Raises:
        Das3rError: It is something else.
    """

    def __init__(self, pipeline: Pipeline, name: str = "the run") -> None:
        parser = getattr(pipeline.datamanager, "dataparser", None)
        if not isinstance(parser, Das3rVideoDataParser) or not isinstance(pipeline.model, SplatfactoModel):
            raise Das3rError(
                f"{name} is no run of das3r on a video. Take the config.yml of `ns-train das3r`, das3r-light or "
                "das3r-paper."
            )
        self.name = name
        self.pipeline = pipeline
        self.model = pipeline.model
        self.parser = parser

    @classmethod
    def open(cls, config_path: Path) -> TrainedScene:
        """The run of a ``config.yml`` with its latest checkpoint.

        Raises:
            Das3rError: There is no such file, no checkpoint, or it is not a run of das3r.
        """
        return cls(open_run(config_path), str(config_path))

    @property
    def video(self) -> PreparedScene:
        """The video and the estimate of the front end."""
        return self.parser.prepared

    @property
    def num_frames(self) -> int:
        """Number of frames N."""
        return self.video.estimate.num_frames

    @property
    def working_size(self) -> tuple[int, int]:
        """Width and height that the front end worked at."""
        return self.video.estimate.width, self.video.estimate.height

    @cached_property
    def placement(self) -> tuple[Float[Tensor, "3 4"], float]:
        """Rigid motion from the estimate's world to nerfstudio's, float64, and the scale applied after it."""
        _, transform, scale = nerfstudio_poses(self.video.estimate)
        return transform, scale

    def c2w_gl(self, refined: bool = True) -> Float[Tensor, "N 3 4"]:
        """Camera-to-world of every frame, OpenGL axes, float64.

        Args:
            refined: As training refined them (frames held out keep the front end's pose); else the front end's own.
        """
        poses, _, _ = nerfstudio_poses(self.video.estimate)
        if not refined:
            return poses
        dataset = training_images(self.pipeline)
        poses[dataset.metadata["frame_indices"]] = torch.from_numpy(trained_poses(self.model, dataset.cameras))
        return poses

    @cached_property
    def _refined(self) -> Float[Tensor, "N 3 4"]:
        return self.c2w_gl()

    def c2w_cv(self, refined: bool = True) -> Float[np.ndarray, "N 4 4"]:
        """:meth:`c2w_gl` with OpenCV axes."""
        c2w = np.tile(np.eye(4), (self.num_frames, 1, 1))
        c2w[:, :3] = (self._refined if refined else self.c2w_gl(refined=False)).numpy()
        c2w[:, :3, :3] *= OPENGL_FROM_OPENCV
        return c2w

    def to_estimate(
        self, c2w_cv: Float[np.ndarray, "N 4 4"], points: Float[np.ndarray, "M 3"]
    ) -> tuple[Float[np.ndarray, "N 4 4"], Float[np.ndarray, "M 3"]]:
        """Poses and points of nerfstudio's world in the world and unit of the front end's estimate."""
        transform, scale = self.placement
        rotation, translation = transform[:, :3].numpy(), transform[:, 3].numpy()
        poses = c2w_cv.copy()
        poses[:, :3, :3] = rotation.T @ c2w_cv[:, :3, :3]
        poses[:, :3, 3] = (c2w_cv[:, :3, 3] / scale - translation) @ rotation
        return poses, (points / scale - translation) @ rotation

    def seed_points(self) -> tuple[Float[np.ndarray, "M 3"], UInt8[np.ndarray, "M 3"]]:
        """The points that the Gaussians started from, float64, and their colours."""
        metadata = training_images(self.pipeline).metadata
        return metadata["points3D_xyz"].double().cpu().numpy(), metadata["points3D_rgb"].cpu().numpy()

    def intrinsics(self, size: tuple[int, int]) -> Float[np.ndarray, "N 3 3"]:
        """Pinhole matrices in pixels of pinhole pictures of ``size``, the first pixel's centre at (0.5, 0.5)."""
        return resize_intrinsics(self.video.estimate.intrinsics, self.working_size, size)

    def camera(self, frame: int, size: tuple[int, int], matrix: Float[np.ndarray, "3 3"] | None = None) -> Cameras:
        """Camera of a frame, refined, for pictures of ``size``; with another matrix than its own, if given."""
        k = torch.from_numpy(self.intrinsics(size)[frame] if matrix is None else matrix).float()
        return Cameras(
            camera_to_worlds=self._refined[frame : frame + 1].float(),
            fx=k[None, None, 0, 0],
            fy=k[None, None, 1, 1],
            cx=k[None, None, 0, 2],
            cy=k[None, None, 1, 2],
            width=size[0],
            height=size[1],
            camera_type=CameraType.PERSPECTIVE,
        ).to(self.pipeline.device)

    @torch.no_grad()
    def render(
        self, frame: int, size: tuple[int, int], matrix: Float[np.ndarray, "3 3"] | None = None
    ) -> dict[str, Float[np.ndarray, "H W C"]]:
        """Every output of the model at the camera and in the light of a frame, as float32 arrays.

        Args:
            frame: Number of the frame.
            size: Of the picture.
            matrix: As in :meth:`camera`.
        """
        self.model.eval()
        camera = self.camera(frame, size, matrix)
        camera.metadata = {"frame": frame}  # by which the model knows its light
        outputs = self.model.get_outputs_for_camera(camera)
        return {key: cast(Tensor, value).float().cpu().numpy() for key, value in outputs.items() if value.ndim == 3}

    def render_at_working_size(self, frame: int) -> dict[str, Float[np.ndarray, "H W C"]]:
        """:meth:`render` at the working size, of a run that was trained at a larger one too.

        Drawn smaller than they were trained, fine Gaussians would be too thick; so colours are averaged over what is
        drawn at the trained size. What lies between two depths is none: depth is that of one pixel of these.
        """
        # Not that of the images of the pipeline: where the video is gone, they are of the working size.
        trained = training_size(self.parser.config.train_size, self.working_size, self.video.pinhole_size)
        if trained[0] <= self.working_size[0]:
            return self.render(frame, self.working_size)
        exact = {"depth": cv2.INTER_NEAREST}
        return {
            key: cv2.resize(value, self.working_size, interpolation=exact.get(key, cv2.INTER_AREA)).reshape(
                *self.working_size[::-1], -1
            )
            for key, value in self.render(frame, trained).items()
        }

    def render_as_filmed(self, frame: int) -> dict[str, Float[np.ndarray, "H W C"]]:
        """:meth:`render` at the size and in the geometry of the video, its lens and all.

        What the lens shows is drawn by a wider pinhole camera, and bent; pixels that mean nothing in between, such as
        depth, are interpolated too.
        """
        lens, shutter = self.video.lens, self.video.estimate.shutter
        if lens is None:
            outputs = self.render(frame, self.video.original_size)
            return outputs if shutter is None else {k: _rolled(shutter, v, frame) for k, v in outputs.items()}
        size, wider = lens.covering
        outputs = self.render(frame, size, wider @ self.intrinsics(lens.pinhole_size)[frame])
        if shutter is not None:
            outputs = {key: _rolled(shutter, value, frame, wider @ lens.pinhole) for key, value in outputs.items()}
        bend = lens.distorted_map(wider @ lens.pinhole)
        return {
            key: cv2.remap(value, *bend, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).reshape(
                *bend[0].shape, value.shape[2]
            )
            for key, value in outputs.items()
        }

    def static_weight_as_filmed(self, frame: int) -> Float[np.ndarray, "H W"]:
        """:meth:`static_weight` at the size and in the geometry of the video."""
        lens, shutter = self.video.lens, self.video.estimate.shutter
        weight = self.static_weight(frame, self.video.pinhole_size)
        weight = weight if shutter is None else shutter.filmed_picture(weight, frame)
        return weight if lens is None else lens.distorted_picture(weight)

    def static_weight(self, frame: int, size: tuple[int, int]) -> Float[np.ndarray, "H W"]:
        """Static weight of the front end (1 = static), grown as for the training, interpolated at ``size``."""
        return static_weight(self.video.estimate.not_static[frame], self.parser.config.mask_dilation, size)

    def frames(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """The frames as the video has them, RGB, one after the other.

        Raises:
            Das3rError: The video is gone, which is said at once, or a frame cannot be decoded.
        """
        return islice(self.video.clip.original_images(), self.num_frames)


def _rolled(
    shutter: Shutter, output: Float[np.ndarray, "H W C"], frame: int, matrix: Float[np.ndarray, "3 3"] | None = None
) -> Float[np.ndarray, "H W C"]:
    """An output of the model as the rolling shutter shows it; ``matrix`` as of :meth:`Shutter.filmed_picture`."""
    return shutter.filmed_picture(output, frame, matrix=matrix).reshape(output.shape)
