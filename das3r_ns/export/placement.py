"""Where the exported world lies: turned so that up is up, and in metres where a length is known."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from das3r_ns.errors import Das3rError
from das3r_ns.export.cameras import ExportedCameras
from das3r_ns.export.gravity import height_above_ground, static_surface, up_direction
from das3r_ns.scene.geometry import transform_points, unproject
from das3r_ns.trained.scene import TrainedScene

Z = np.array([0.0, 0.0, 1.0])
_NUMBER = r"(\d+\.?\d*|\.\d+)"
SCALE_BY = re.compile(rf"(\d+):{_NUMBER},{_NUMBER}-(\d+):{_NUMBER},{_NUMBER}={_NUMBER}")


@dataclass(frozen=True)
class Placement:
    """A turn and then a scale, about the origin."""

    rotation: Float[np.ndarray, "3 3"]
    scale: float = 1.0
    metric: bool = False
    """Whether the unit is the metre."""

    def then(self, rotation: Float[np.ndarray, "3 3"]) -> Placement:
        """The same with another turn after it."""
        return replace(self, rotation=rotation @ self.rotation)

    def cameras(self, cameras: ExportedCameras) -> ExportedCameras:
        """Cameras and points in the new world."""
        turned = cameras.turned(self.rotation)
        turned.c2w_cv[:, :3, 3] *= self.scale
        return replace(turned, xyz=turned.xyz * self.scale)

    def gaussians(self, columns: dict[str, Float[np.ndarray, " N"]]) -> dict[str, Float[np.ndarray, " N"]]:
        """Gaussians in the new world: places, sizes, turns and view-dependent colours.

        Args:
            columns: :func:`~das3r_ns.export.gaussians.gaussian_columns`.
        """
        if self.scale == 1.0 and np.array_equal(self.rotation, np.eye(3)):
            return columns
        new = dict(columns)

        def put(names: list[str], values: Float[np.ndarray, "N C"]) -> None:
            new.update(zip(names, values.astype(np.float32).T, strict=True))

        def stacked(names: list[str]) -> Float[np.ndarray, "N C"]:
            return np.stack([columns[name] for name in names], axis=1).astype(np.float64)

        put(list("xyz"), stacked(list("xyz")) @ self.rotation.T * self.scale)
        scales = [f"scale_{i}" for i in range(3)]
        put(scales, stacked(scales) + np.log(self.scale))
        rots = [f"rot_{i}" for i in range(4)]
        quats = stacked(rots)
        lengths = np.linalg.norm(quats, axis=1, keepdims=True)
        turned = Rotation.from_matrix(self.rotation) * Rotation.from_quat(
            np.roll(np.where(lengths > 0, quats, 1), -1, 1)
        )
        put(rots, np.roll(turned.as_quat(), 1, axis=1) * lengths)
        rest = [name for name in columns if name.startswith("f_rest")]
        if rest:
            # Channel by channel; degree l has the 2 l + 1 coefficients after the first l^2 - 1.
            colours = stacked(rest).reshape(len(columns["x"]), 3, -1)
            for degree in range(1, round((colours.shape[2] + 1) ** 0.5)):
                band = slice(degree**2 - 1, (degree + 1) ** 2 - 1)
                colours[..., band] = colours[..., band] @ turned_harmonics(self.rotation, degree).T
            put(rest, colours.reshape(len(colours), -1))
        return new


def turned_harmonics(rotation: Float[np.ndarray, "3 3"], degree: int) -> Float[np.ndarray, "C C"]:
    """Matrix that turns the coefficients of one degree of spherical harmonics, in gsplat's order and with its signs.

    A function that is turned has, at R d, the value that it had at d. The harmonics of a degree are closed under turns,
    so the matrix follows from their values at a few directions.
    """
    from gsplat.cuda._torch_impl import _eval_sh_bases_fast

    directions = np.random.default_rng(0).normal(size=(8 * (2 * degree + 1), 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)

    def values(at: Float[np.ndarray, "K 3"]) -> Float[np.ndarray, "K C"]:
        return _eval_sh_bases_fast((degree + 1) ** 2, torch.from_numpy(at))[:, degree**2 :].numpy()

    return np.linalg.lstsq(values(directions @ rotation.T), values(directions), rcond=None)[0]


def upright(scene: TrainedScene, scale_by: str = "", camera_height: float = 0.0) -> Placement:
    """From the world of the Gaussians to one with z up, the cameras' middle at the origin.

    Args:
        scene: A trained run.
        scale_by: "frame:x,y-frame:x,y=METRES", two pixels of the video's pictures and their distance; "" = none.
        camera_height: Of the cameras above the ground, metres; 0 = not known.

    Raises:
        Das3rError: The length is not as it should be, or cannot be measured.
    """
    if scale_by and camera_height:
        raise Das3rError("--scale-by and --camera-height both say how long things are. Give one of them.")
    if camera_height < 0:
        raise Das3rError(f"--camera-height is {camera_height:g}; it must be more than 0, in metres.")
    estimate = scene.video.estimate
    transform, to_gaussians = scene.placement
    metres = measured_length(scene, scale_by) if scale_by else None
    surface = static_surface(estimate)
    up = up_direction(estimate, surface)
    if camera_height:
        height = height_above_ground(estimate, up, surface)
        if height is None:
            raise Das3rError(
                "No level ground was found below the cameras, so that their height above it says nothing. Give a "
                "length that the pictures show instead (--scale-by)."
            )
        metres = camera_height / height
    turn = Rotation.align_vectors(Z[None], (transform[:, :3].numpy() @ up)[None])[0]
    scale = 1.0 if metres is None else metres / to_gaussians
    return Placement(turn.as_matrix(), scale, metres is not None)


def measured_length(scene: TrainedScene, scale_by: str) -> float:
    """Metres in a unit of the estimate, from two pixels whose distance is known.

    Raises:
        Das3rError: The text is wrong, a pixel lies outside the pictures or shows something that moves.
    """
    found = SCALE_BY.fullmatch(scale_by.replace(" ", ""))
    if not found:
        raise Das3rError(
            f'"{scale_by}" is no length (--scale-by). Name two pixels of the pictures and their distance in metres: '
            '"frame:x,y-frame:x,y=METRES", such as "0:120,340-0:480,352=1.8"; frames are counted from 0.'
        )
    *pixels, metres = (float(text) for text in found.groups())
    ends = [_point(scene, int(frame), x, y) for frame, x, y in (pixels[:3], pixels[3:])]
    distance = float(np.linalg.norm(ends[0] - ends[1]))
    if metres <= 0 or distance <= 0:
        raise Das3rError(f'"{scale_by}" is no length (--scale-by): the points, or their distance, are nothing apart.')
    return metres / distance


def _point(scene: TrainedScene, frame: int, x: float, y: float) -> Float[np.ndarray, "3"]:
    estimate, (width, height) = scene.video.estimate, scene.video.original_size
    if frame >= estimate.num_frames or x > width or y > height:
        raise Das3rError(
            f"The pixel {x:g},{y:g} of frame {frame} does not exist (--scale-by): there are {estimate.num_frames} "
            f"frames, counted from 0, of {width} x {height} pixels."
        )
    pixel, size = np.array([x, y]), (width, height)
    if estimate.lens is not None:
        lens = estimate.lens.at(size)
        pixel, size = lens.to_pinhole(pixel), lens.pinhole_size
    if estimate.shutter is not None:
        matrix = estimate.shutter.matrix(size)
        scale, centre = matrix[[0, 1], [0, 1]], matrix[:2, 2]
        pixel = estimate.shutter.to_level((pixel - centre) / scale, frame) * scale + centre
    pixel = pixel * [estimate.width / size[0], estimate.height / size[1]]
    column, row = np.clip(np.floor(pixel).astype(int), 0, [estimate.width - 1, estimate.height - 1])
    if estimate.not_static[frame, row, column] >= 0.5:
        raise Das3rError(
            f"The pixel {x:g},{y:g} of frame {frame} shows something that moves (--scale-by), so that its depth is not "
            "known. Take pixels of the static scene."
        )
    point = unproject(pixel, estimate.depth[frame, row, column], estimate.intrinsics[frame])
    return transform_points(estimate.c2w_cv[frame], point)
