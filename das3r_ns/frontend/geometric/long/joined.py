"""Windows of a long video made one scene: each is brought into the world of those before it, and fades into them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from das3r_ns.frontend.geometric.long.records import joined_records
from das3r_ns.frontend.similarity import Sim3, blended_camera, register_points
from das3r_ns.frontend.windows import POOR_FIT, badly_joined, fade_in
from das3r_ns.scene import geometry as geo
from das3r_ns.scene.estimate import CameraKind, SceneEstimate

SAMPLES = 400
"""Points of each shared frame that windows are registered by."""

LEAST_TRUST = 1e-3
"""Trust in a point whose depth is a guess, or which moves."""


@dataclass
class Joined:
    """What is kept of every frame of a long video; in the types of the cache, for it is all that grows with it."""

    c2w_cv: Float[np.ndarray, "N 4 4"]
    intrinsics: Float[np.ndarray, "N 3 3"]
    depth: Float[np.ndarray, "N H W"]
    """float32."""
    confidence: Float[np.ndarray, "N H W"]
    """float16."""
    dynamic: Float[np.ndarray, "N H W"]
    """Dynamic probability, float16."""
    light: Float[np.ndarray, "N 3"]
    """Logarithm of the gain of each frame; 0 where the light of its window does not change."""
    known: Bool[np.ndarray, " N"]
    """Which frames are there."""
    measured: Bool[np.ndarray, " N"]
    """Which of them come from a window whose camera moved, so that their depth is no guess."""
    windows: list[range] = field(default_factory=list)
    kinds: list[CameraKind] = field(default_factory=list)
    """Of each window."""
    lit: bool = False
    """Whether the light changes in any."""
    falloffs: list[Float[np.ndarray, " 2"]] = field(default_factory=list)
    """Of the windows where the lens is seen to darken its picture."""
    records: list[dict[str, Any]] = field(default_factory=list)
    """Provenance of each window."""

    @classmethod
    def empty(cls, count: int, height: int, width: int) -> Joined:
        """Room for so many frames; memory is taken as they come."""
        maps = (count, height, width)
        return cls(
            np.tile(np.eye(4), (count, 1, 1)),
            np.tile(np.eye(3), (count, 1, 1)),
            np.zeros(maps, np.float32),
            np.zeros(maps, np.float16),
            np.zeros(maps, np.float16),
            np.zeros((count, 3)),
            np.zeros(count, bool),
            np.zeros(count, bool),
        )

    def add(self, frames: range, scene: SceneEstimate, place: Sim3 | None = None) -> str | None:
        """Join the next window.

        Args:
            frames: Its frames; it shares some with those before, if there are any.
            scene: What was found of them.
            place: Where its world lies in that of all, where that is known; None = it is registered.

        Returns:
            What to tell the user of how it fits, if it fits badly.
        """
        numbers, message = np.asarray(frames), None
        shared = np.flatnonzero(self.known[numbers])
        if place is None:
            place, misfit = (Sim3.identity(), 0.0) if len(shared) == 0 else self._register(scene, shared, numbers)
            if misfit > POOR_FIT:
                message = badly_joined(frames.start, frames.stop - 1, misfit)
        c2w_cv, depth = place.apply_to_cameras(scene.c2w_cv), scene.depth * np.float32(place.scale)
        light = np.zeros((len(frames), 3)) if scene.light is None else scene.light
        if len(shared):
            light = light + np.median(self.light[numbers[shared]] - light[shared], axis=0)
        share = fade_in(numbers, self.known)
        for local, frame in enumerate(frames):
            part = float(share[local])
            self.c2w_cv[frame] = blended_camera(self.c2w_cv[frame], c2w_cv[local], part)
            confidence = scene.confidence[local]
            if part < 1:
                confidence = np.maximum(self.confidence[frame], confidence)
            self.confidence[frame] = confidence
            for kept, new in (
                (self.intrinsics, scene.intrinsics),
                (self.depth, depth),
                (self.dynamic, scene.dynamic_probability),
                (self.light, light),
            ):
                kept[frame] = new[local] if part >= 1 else (1 - part) * kept[frame] + part * new[local]
        self.known[numbers] = True
        self.measured[numbers] |= scene.camera_kind == "general"
        self.windows.append(frames)
        self.kinds.append(scene.camera_kind)
        self.lit |= scene.light is not None
        if scene.falloff is not None:
            self.falloffs.append(scene.falloff)
        self.records.append(scene.provenance)
        return message

    def _register(self, scene: SceneEstimate, shared: np.ndarray, numbers: np.ndarray) -> tuple[Sim3, float]:
        """Similarity from the world of a window to that of all, and how badly it fits.

        The points of the shared frames tell it, and so does a camera that hardly moved in them. A depth that is a
        guess on either side tells the scale at best; cameras tell the rest then.
        """
        if scene.camera_kind == "general" and self.measured[numbers[shared]].all():
            both = [self._points(scene, int(local), int(numbers[local])) for local in shared]
            return register_points(*(np.concatenate(parts) for parts in zip(*both, strict=True)))
        frames = numbers[shared]
        scale = float(np.median(self.depth[frames]) / np.median(scene.depth[shared]))
        turn = Rotation.from_matrix(self.c2w_cv[frames, :3, :3] @ scene.c2w_cv[shared, :3, :3].swapaxes(1, 2)).mean()
        shift = self.c2w_cv[frames, :3, 3] - scale * turn.apply(scene.c2w_cv[shared, :3, 3])
        return Sim3(np.array(scale), turn.as_matrix(), np.median(shift, axis=0)), 0.0

    def _points(
        self, scene: SceneEstimate, local: int, frame: int
    ) -> tuple[Float[np.ndarray, "K 3"], Float[np.ndarray, "K 3"], Float[np.ndarray, " K"]]:
        """Some pixels of a frame as points of the window's world and of that of all, and how far they are believed."""
        height, width = scene.depth.shape[1:]
        step = max(1, int(np.sqrt(height * width / SAMPLES)))
        at = (slice(step // 2, None, step), slice(step // 2, None, step))
        pixels = geo.pixel_centres(height, width)[at]
        here, there = scene.depth[local][at].astype(np.float64), self.depth[frame][at].astype(np.float64)
        points = geo.transform_points(scene.c2w_cv[local], geo.unproject(pixels, here, scene.intrinsics[local]))
        goals = geo.transform_points(self.c2w_cv[frame], geo.unproject(pixels, there, self.intrinsics[frame]))
        stays = (1 - scene.dynamic_probability[local][at]) * (1 - self.dynamic[frame][at].astype(np.float32))
        trust = np.sqrt(scene.confidence[local][at] * self.confidence[frame][at].astype(np.float32)) * stays
        # Near points err less.
        weights = np.maximum(trust, LEAST_TRUST) / there * np.median(there)
        return points.reshape(-1, 3), goals.reshape(-1, 3), weights.ravel()

    @property
    def camera_kind(self) -> CameraKind:
        """What the camera did in all."""
        if "general" in self.kinds:
            return "general"
        return "rotation" if "rotation" in self.kinds else "tripod"

    def move(self, places: Sim3) -> None:
        """Move every frame by a similarity of its own: the camera with the world, and its depths with their unit."""
        self.c2w_cv = places.apply_to_cameras(self.c2w_cv)
        for frame, scale in enumerate(places.scale):
            self.depth[frame] *= np.float32(scale)

    def scene(self, names: list[str]) -> SceneEstimate:
        """The scene of all frames, in the world of the first camera; what was kept goes over into it.

        Args:
            names: Of all frames.
        """
        c2w_cv = geo.invert_rigid(self.c2w_cv[0]) @ self.c2w_cv
        c2w_cv[0] = np.eye(4)
        if self.camera_kind == "tripod":
            c2w_cv[:] = np.eye(4)
        elif self.camera_kind == "rotation":
            c2w_cv[:, :3, 3] = 0.0
        nothing = np.zeros((0, *self.depth.shape[1:]), np.float16)  # a view would hold what is not needed any more
        confidence, self.confidence = self.confidence.astype(np.float32), nothing
        dynamic, self.dynamic = self.dynamic.astype(np.float32), nothing
        return SceneEstimate(
            frame_names=names,
            c2w_cv=c2w_cv,
            intrinsics=self.intrinsics,
            depth=self.depth,
            confidence=confidence,
            dynamic_probability=dynamic,
            camera_kind=self.camera_kind,
            light=self.light - np.median(self.light, axis=0) if self.lit else None,
            falloff=np.mean(self.falloffs, axis=0) if 2 * len(self.falloffs) > len(self.windows) else None,
            provenance=joined_records(self.windows, self.records),
        )
