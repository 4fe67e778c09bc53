"""A video with exact flow: a camera inside a box, which hides nothing of itself, and a flat thing that slides by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from jaxtyping import Float

from das3r_ns.frontend.geometric.pair_flows import PairFlows
from das3r_ns.frontend.pairs import strided_pairs
from das3r_ns.scene import geometry as geo

HALF_SIZE = np.array([3.0, 2.0, 5.0])


@dataclass(frozen=True)
class Room:
    """Exact flow of a video in the box, and what made it."""

    flows: PairFlows
    c2w_cv: Float[np.ndarray, "N 4 4"]
    focal: float
    depth: Float[np.ndarray, "N H W"]
    static_weight: Float[np.ndarray, "N H W"]

    def path_error(self, c2w: Float[np.ndarray, "N 4 4"]) -> float:
        """RMS distance of other cameras from the true ones after the best similarity, as a share of the path."""
        truth = self.c2w_cv[:, :3, 3]
        scale, rotation, translation = geo.umeyama_sim3(c2w[:, :3, 3], truth)
        aligned = scale * c2w[:, :3, 3] @ rotation.T + translation
        length = np.linalg.norm(np.diff(truth, axis=0), axis=1).sum()
        return float(np.sqrt(((aligned - truth) ** 2).sum(axis=1).mean()) / length)


def camera_path(count: int, *, speed: float, turn: float) -> Float[np.ndarray, "N 4 4"]:
    """A camera that moves forwards and sideways by ``speed`` a frame while it turns by ``turn`` radians."""
    steps = np.arange(count)[:, None]
    c2w = geo.se3_exp(np.concatenate([np.zeros((count, 3)), steps * np.array([0.3, 1.0, 0.2]) * turn], axis=1))
    c2w[:, :3, 3] = steps * np.array([0.8, 0.1, 1.0]) * speed - [0.5, 0.0, 2.0]
    return c2w


def box_depth(
    c2w: Float[np.ndarray, "4 4"], intrinsics: Float[np.ndarray, "3 3"], height: int, width: int
) -> Float[np.ndarray, "H W"]:
    """Camera z at which the ray of each pixel leaves the box."""
    pixels = geo.pixel_centres(height, width).astype(np.float64)
    directions = geo.unproject(pixels, np.ones((height, width)), intrinsics) @ c2w[:3, :3].T
    return ((np.sign(directions) * HALF_SIZE - c2w[:3, 3]) / directions).min(axis=-1)


def build_room(
    *,
    count: int = 6,
    speed: float = 0.08,
    turn: float = 0.015,
    focal: float = 280.0,
    size: tuple[int, int] = (320, 192),
    noise: float = 0.0,
    mover: bool = False,
    strides: tuple[int, ...] = (1, 2, 4),
    zoom: Float[np.ndarray, " N"] | None = None,
    c2w: Float[np.ndarray, "N 4 4"] | None = None,
) -> Room:
    """Flow of a video of ``size`` (width, height), with noise in pixels and a mover over 30 % of the picture.

    ``zoom``: factor on the focal of every frame. ``c2w``: cameras of a path of their own.
    """
    rng = np.random.default_rng(0)
    width, height = size
    factors = np.ones(count) if zoom is None else zoom
    intrinsics = [geo.pinhole(focal * factor, width, height) for factor in factors]
    c2w = camera_path(count, speed=speed, turn=turn) if c2w is None else c2w
    depth = np.stack([box_depth(pose, k, height, width) for pose, k in zip(c2w, intrinsics, strict=True)])
    static = np.ones((count, height, width), dtype=np.float32)
    left = np.linspace(0.1 * width, 0.5 * width, count).astype(int)
    if mover:
        for i in range(count):
            static[i, int(0.1 * height) : int(0.95 * height), left[i] : left[i] + int(0.35 * width)] = 0.0
    fields = {}
    for i, j in strided_pairs(count, strides):
        flow, _ = geo.rigid_flow(depth[i], intrinsics[i], intrinsics[j], c2w[i], c2w[j])
        flow[static[i] == 0] = [left[j] - left[i], 0.4 * (j - i)]
        flow = np.clip(flow, -1e4, 1e4)  # what lies behind the other camera
        fields[i, j] = (flow + noise * rng.normal(size=flow.shape)).astype(np.float16)
    texture = np.full((count, height, width), 10.0, dtype=np.float16)
    return Room(PairFlows(height, width, count, fields, texture), c2w, focal, depth, static)


@pytest.fixture(scope="session")
def room_depth() -> Callable[..., Float[np.ndarray, "H W"]]:
    """:func:`box_depth`."""
    return box_depth


@pytest.fixture(scope="session")
def make_room() -> Callable[..., Room]:
    """:func:`build_room`."""
    return build_room
