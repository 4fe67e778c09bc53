"""The box of ``make_room`` with a picture on its walls, so that points can be found again in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from jaxtyping import Float, UInt8

from das3r_ns.frontend.geometric.bundle.flow_samples import best_points, grid_shape
from das3r_ns.frontend.geometric.bundle.result import BundleResult
from das3r_ns.scene import geometry as geo


@dataclass(frozen=True)
class Film:
    """A video of the box with its exact flow."""

    room: Any
    images: UInt8[np.ndarray, "N H W 3"]

    def solution(self, c2w: Float[np.ndarray, "N 4 4"] | None = None, focal: float | None = None) -> BundleResult:
        """The exact depth under these cameras (the true ones where None), as the dense adjustment would give it."""
        flows, depth = self.room.flows, self.room.depth
        unit = float(np.median(depth))
        c2w = np.array(geo.invert_rigid(self.room.c2w_cv[0]) @ self.room.c2w_cv if c2w is None else c2w)
        c2w[:, :3, 3] /= unit
        rows, columns = grid_shape(flows.width, flows.height, 40)
        y, x = best_points(flows.texture[0], rows, columns)
        count, shape = len(depth), (rows, columns)
        inverse_depth = (unit / depth[:, y, x]).reshape(count, *shape)
        points = np.tile(np.stack([x + 0.5, y + 0.5], axis=-1).reshape(1, *shape, 2), (count, 1, 1, 1))
        return BundleResult(
            width=flows.width,
            height=flows.height,
            c2w_cv=c2w,
            focal=focal or self.room.focal,
            focal_std=0.01,
            points=points,
            inverse_depth=inverse_depth,
            information=np.ones_like(inverse_depth),
            residual=0.1,
        )

    def shaken(self, shift: float = 0.01, turn: float = 0.002) -> Float[np.ndarray, "N 4 4"]:
        """The true cameras, each a little off (world units, radians); frame 0 stays the world."""
        rng = np.random.default_rng(3)
        count = len(self.room.c2w_cv)
        noise = rng.normal(size=(count, 6)) * ([shift] * 3 + [turn] * 3)
        noise[0] = 0.0
        return geo.invert_rigid(self.room.c2w_cv[0]) @ self.room.c2w_cv @ geo.se3_exp(noise)


def wall_paint(points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n"]:
    """Grey levels of points in space: many waves, none of them shorter than a few pixels of the picture."""
    rng = np.random.default_rng(1)
    grey = np.full(points.shape[:-1], 128.0)
    for _ in range(40):
        wave = rng.normal(size=3)
        wave *= rng.uniform(4.0, 14.0) / np.linalg.norm(wave)
        grey += 9.0 * np.sin(points @ wave + rng.uniform(0, 2 * np.pi))
    return np.clip(grey, 0.0, 255.0)


def film(make_room: Callable[..., Any], *, grain: float = 2.0, **settings: Any) -> Film:
    """Render a room; the mover has a paint of its own, which goes with it."""
    room = make_room(**settings)
    count, height, width = room.depth.shape
    intrinsics = geo.pinhole(room.focal, width, height)
    pixels = geo.pixel_centres(height, width).astype(np.float64)
    rng = np.random.default_rng(2)
    images = np.empty((count, height, width, 3), dtype=np.uint8)
    for i in range(count):
        points = geo.transform_points(room.c2w_cv[i], geo.unproject(pixels, room.depth[i], intrinsics))
        grey = wall_paint(points)
        moves = room.static_weight[i] == 0
        if moves.any():
            left = pixels[moves][:, 0].min()
            own = np.stack([pixels[..., 0] - left, pixels[..., 1] - 0.4 * i, np.zeros((height, width))], axis=-1)
            grey[moves] = wall_paint(own * 0.03)[moves]
        grey += grain * rng.normal(size=grey.shape)
        images[i] = np.clip(np.rint(grey), 0, 255).astype(np.uint8)[..., None]
    return Film(room, images)


@pytest.fixture(scope="session")
def make_film(make_room: Callable[..., Any]) -> Callable[..., Film]:
    """``make_film(grain=, **settings of make_room)``."""
    return lambda **settings: film(make_room, **settings)
