"""SceneEstimate: the only thing that passes from a front end to the splats."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from das3r_ns.scene.geometry import resize_intrinsics
from das3r_ns.scene.lens import Lens
from das3r_ns.scene.shutter import Shutter

CameraKind = Literal["general", "rotation", "tripod"]
"""What the camera did: ``general`` has parallax (depth is measured), ``rotation`` turned without parallax (depth is a
smooth guess), ``tripod`` stood still (all poses are equal)."""


def depth_tolerance(confidence: Any) -> Any:
    """Relative difference up to which a depth may be wrong: 5 % where it is well measured, 30 % for a guess.

    Args:
        confidence: See :class:`SceneEstimate`; an array or a tensor of any shape.
    """
    return 0.05 + 0.25 * (1.0 - confidence)


@dataclass(frozen=True)
class SceneEstimate:
    """Cameras, depth and dynamic probability of every frame of one video.

    N frames of H x W pixels at the working resolution. Pixel (row 0, column 0) has its centre at (0.5, 0.5). The world
    frame is the camera frame of frame 0 and its unit of length is arbitrary. Poses that the user knew keep their unit
    and their places to each other exactly; where frame 0 stands in their own world is in the provenance (known, poses).
    """

    frame_names: list[str]
    """Name of each frame, in time order."""
    c2w_cv: Float[np.ndarray, "N 4 4"]
    """Camera-to-world, OpenCV axes (x right, y down, z forward), float64."""
    intrinsics: Float[np.ndarray, "N 3 3"]
    """Pinhole matrix in pixels of the working resolution, float64."""
    depth: Float[np.ndarray, "N H W"]
    """Camera z, in world units, float32, positive and finite everywhere."""
    confidence: Float[np.ndarray, "N H W"]
    """How well the depth is measured, 0 (a guess) to 1, float32."""
    dynamic_probability: Float[np.ndarray, "N H W"]
    """Probability that what the pixel shows moves, 0 to 1, float32."""
    camera_kind: CameraKind = "general"
    """Whether the depth could be measured at all."""
    lens: Lens | None = None
    """How the pinhole pictures that all of this is about come from those of the video; None = they are the same. Its
    ``size`` may be any size of the video's picture."""
    shutter: Shutter | None = None
    """How the level pictures that all of this is about come from those of the video (of its lens' pinhole, where it has
    one), whose rows were read one after the other; None = they are the same."""
    light: Float[np.ndarray, "N 3"] | None = None
    """Logarithm of the gain of each frame's colours against the middle of the clip, float64; None = steady light."""
    falloff: Float[np.ndarray, " 2"] | None = None
    """How the lens darkens its picture: a0 s + a1 s^2 is the logarithm of what it leaves, s the squared distance from
    the centre of the pictures that this is about, in half diagonals, float64; None = it does not."""
    fixed: Bool[np.ndarray, "H W"] | None = None
    """Which pixels show what is fixed to the camera (a bonnet, a logo): neither static nor moving, and no part of the
    scene; None = none do."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Front end, version, settings, seconds per stage and what was said to the user; JSON values only."""

    def __post_init__(self) -> None:
        n, h, w = self.depth.shape
        shapes = {
            "c2w_cv": (n, 4, 4),
            "intrinsics": (n, 3, 3),
            "confidence": (n, h, w),
            "dynamic_probability": (n, h, w),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"SceneEstimate.{name} has shape {getattr(self, name).shape}, expected {shape}")
        if self.light is not None and self.light.shape != (n, 3):
            raise ValueError(f"SceneEstimate.light has shape {self.light.shape}, expected {(n, 3)}")
        if self.falloff is not None and self.falloff.shape != (2,):
            raise ValueError(f"SceneEstimate.falloff has shape {self.falloff.shape}, expected (2,)")
        if self.shutter is not None and len(self.shutter.motion) != n:
            raise ValueError(f"SceneEstimate.shutter knows the motion of {len(self.shutter.motion)} frames, not of {n}")
        if self.fixed is not None and self.fixed.shape != (h, w):
            raise ValueError(f"SceneEstimate.fixed has shape {self.fixed.shape}, expected {(h, w)}")
        if len(self.frame_names) != n:
            raise ValueError(f"SceneEstimate.frame_names holds {len(self.frame_names)} names for {n} frames")
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, np.ndarray) and not np.isfinite(value).all():
                raise ValueError(f"SceneEstimate.{item.name} holds a value that is not finite")

    def lenses(self, size: tuple[int, int]) -> list[Lens] | None:
        """The lens of every frame for pictures of the video of ``size``, as its model has it; None without one.

        They bend the pictures alike, but focals may not be quite that of :attr:`lens`, or differ.
        """
        if self.lens is None:
            return None
        lens = self.lens.at(size)
        matrices = resize_intrinsics(self.intrinsics, (self.width, self.height), lens.pinhole_size)
        return [lens.seen_with(k) for k in matrices]

    @cached_property
    def not_static(self) -> Float[np.ndarray, "N H W"]:
        """Dynamic probability, and 1 where a pixel is fixed to the camera: neither shows the static scene."""
        return self.dynamic_probability if self.fixed is None else np.maximum(self.dynamic_probability, self.fixed)

    @property
    def num_frames(self) -> int:
        """Number of frames N."""
        return self.depth.shape[0]

    @property
    def height(self) -> int:
        """Height H of the working resolution, in pixels."""
        return self.depth.shape[1]

    @property
    def width(self) -> int:
        """Width W of the working resolution, in pixels."""
        return self.depth.shape[2]
