"""The formula scene that the official aligner was run on, and small exact scenes of other cameras."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from jaxtyping import Float

from das3r_ns.frontend.geometric.pair_flows import PairFlows
from das3r_ns.frontend.network.predictions import PairPredictions
from das3r_ns.frontend.pairs import make_pairs
from das3r_ns.scene import geometry as geo

REFERENCE = Path(__file__).parents[3] / "reference"


@dataclass
class AlignScene:
    """Predictions with their truth."""

    predictions: PairPredictions
    flows: PairFlows
    c2w_cv: Float[np.ndarray, "N 4 4"]
    depth: Float[np.ndarray, "N H W"]
    moving: np.ndarray
    focal: float


@pytest.fixture(scope="session")
def align_inputs() -> dict[str, np.ndarray]:
    """What the official aligner was run on."""
    return dict(np.load(REFERENCE / "align_inputs.npz"))


@pytest.fixture()
def align_scene(align_inputs: dict[str, np.ndarray]) -> AlignScene:
    """12 frames of 64 x 48, 70 directed pairs with 1 % noise, a moving ball, exact flow; fresh for each test."""
    stored = {name: values.copy() for name, values in align_inputs.items()}
    pairs = [(int(i), int(j)) for i, j in stored["edges"]]
    names = ("pts1", "pts2", "conf1", "conf2", "dynamic_mask1")
    predictions = PairPredictions(pairs, *(torch.from_numpy(stored[name]) for name in names))
    fields = {pair: np.moveaxis(stored["flow"][e], 0, -1) for e, pair in enumerate(pairs)}
    flows = PairFlows(48, 64, 12, fields, np.full((12, 48, 64), 10, np.float16))
    return AlignScene(predictions, flows, stored["gt_poses"], stored["gt_depth"], stored["gt_ball"], 55.0)


@pytest.fixture(scope="session")
def official() -> dict[str, np.ndarray]:
    """What the official aligner made of that scene."""
    return dict(np.load(REFERENCE / "align_official.npz"))


def surface_scene(
    c2w: Float[np.ndarray, "N 4 4"], graph: str = "complete", focal: float = 40.0, noise: float = 0.002
) -> SimpleNamespace:
    """Predictions of 40 x 30 pixels of a wavy wall before the given cameras."""
    n, height, width = len(c2w), 30, 40
    rng = np.random.default_rng(0)
    u, v = np.meshgrid(np.arange(width) - width / 2, np.arange(height) - height / 2)
    rays = np.stack([u / focal, v / focal, np.ones_like(u)], axis=-1)
    depth = np.full((n, height, width), 4.0)
    for _ in range(40):  # to where the ray meets the wall
        world = np.einsum("nij,nhwj->nhwi", c2w[:, :3, :3], rays * depth[..., None]) + c2w[:, None, None, :3, 3]
        wall = 4.0 + 0.4 * np.sin(1.3 * world[..., 0]) * np.cos(1.1 * world[..., 1]) + 0.2 * np.sin(2 * world[..., 1])
        depth = depth + 0.7 * (wall - world[..., 2])
    world = np.einsum("nij,nhwj->nhwi", c2w[:, :3, :3], rays * depth[..., None]) + c2w[:, None, None, :3, 3]
    pairs = make_pairs(n, graph)
    parts: tuple[list, list] = ([], [])
    for i, j in pairs:
        w2c, scale = geo.invert_rigid(c2w[i]), rng.uniform(0.6, 1.6)
        for part, frame in zip(parts, (i, j), strict=True):
            points = geo.transform_points(w2c, world[frame])
            part.append(scale * (points + noise * 4 * rng.standard_normal(points.shape)))
    points1, points2 = (torch.tensor(np.stack(part), dtype=torch.float32) for part in parts)
    confidence = torch.full(points1.shape[:3], 4.0)
    predictions = PairPredictions(pairs, points1, points2, confidence, confidence.clone())
    return SimpleNamespace(predictions=predictions, c2w_cv=c2w, depth=depth, focal=focal)


@pytest.fixture(scope="session")
def make_surface_scene() -> Callable[..., SimpleNamespace]:
    """Builds :func:`surface_scene`."""
    return surface_scene


@pytest.fixture(scope="session")
def make_path() -> Callable[..., Float[np.ndarray, "N 4 4"]]:
    """Cameras that walk sideways by ``speed`` a frame while they turn by ``turn`` radians; the first at the origin."""

    def make(count: int, speed: float, turn: float) -> Float[np.ndarray, "N 4 4"]:
        k = np.arange(count)[:, None]
        c2w = geo.se3_exp(np.concatenate([np.zeros((count, 3)), -k * turn * np.array([[0.2, 1.0, 0.1]])], axis=1))
        c2w[:, :3, 3] = k * speed * np.array([1.0, 0.2, 0.1])
        return c2w

    return make
