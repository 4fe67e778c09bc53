"""Which world the cameras are solved for: scenes that are known exactly, where the obvious one is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from jaxtyping import Float

from das3r_ns.frontend.geometric.bundle import worlds
from das3r_ns.frontend.geometric.bundle.adjustment import BundleAdjustmentConfig, bundle_adjust
from das3r_ns.frontend.geometric.bundle.first_cameras import Seed
from das3r_ns.frontend.geometric.bundle.flow_samples import sample_flows
from das3r_ns.frontend.geometric.bundle.known_poses import start_depth
from das3r_ns.frontend.geometric.bundle.result import BundleResult
from das3r_ns.frontend.geometric.bundle.state import State
from das3r_ns.frontend.geometric.pair_flows import PairFlows
from das3r_ns.scene import geometry as geo

WIDTH, HEIGHT = 224, 126
COARSE = BundleAdjustmentConfig(coarse_grid=20, fine_grid=28)
"""Few points, for speed; exact flow needs no more."""


def hillside(
    shift: float, *, ground: bool = True, mover: float = 0.0, count: int = 16
) -> tuple[PairFlows, Float[np.ndarray, "N 4 4"], float]:
    """A long lens that follows something: a hill 120 away, and ground from 8 to 14 over the lower third of the picture.

    Args:
        shift: How far the camera goes sideways.
        ground: Whether the ground is there.
        mover: Width of something that goes by at the lower edge, as a share of the picture.
        count: Number of frames.

    Returns:
        The flow, camera-to-world of every frame, and the focal.
    """
    focal = 2.2 * WIDTH
    intrinsics = geo.pinhole(focal, WIDTH, HEIGHT)
    time = np.linspace(0.0, 1.0, count)
    place = np.stack([shift * (time - 0.5), 0.02 * np.sin(7 * time), 0 * time], axis=1)
    aim = np.stack([3.2 * time - 1.6 + 0.1 * np.sin(9 * time), 0 * time + 0.7, 0 * time + 12], axis=1) - place
    turn = np.stack([-np.arctan2(aim[:, 1], aim[:, 2]), np.arctan2(aim[:, 0], aim[:, 2]), 0 * time], axis=1)
    c2w = geo.se3_exp(np.concatenate([np.zeros((count, 3)), turn], axis=1))
    c2w[:, :3, 3] = place
    pixels = geo.pixel_centres(HEIGHT, WIDTH).astype(np.float64)
    rays = geo.unproject(pixels, np.ones((HEIGHT, WIDTH)), intrinsics)
    depth = np.empty((count, HEIGHT, WIDTH))
    for i, pose in enumerate(c2w):
        direction = rays @ pose[:3, :3].T
        depth[i] = 120.0 / direction[..., 2]
        if ground:
            down = (1.6 - pose[1, 3]) / np.where(direction[..., 1] > 0, direction[..., 1], np.inf)
            seen = (down > 0) & (down * direction[..., 2] > 8) & (down * direction[..., 2] < 14)
            depth[i][seen] = down[seen]
    flows = {}
    for i, j in [(i, j) for i in range(count) for j in range(count) if abs(i - j) in (1, 2, 4, 8)]:
        flows[i, j], _ = geo.rigid_flow(depth[i], intrinsics, intrinsics, c2w[i], c2w[j])
        left = int((0.1 + 0.5 * time[i]) * WIDTH)
        flows[i, j][HEIGHT * 2 // 3 :, left : left + int(mover * WIDTH)] = [0.5 * WIDTH * (time[j] - time[i]), 0.0]
    return as_flows(flows, count), c2w, focal


def as_flows(fields: dict[tuple[int, int], Float[np.ndarray, "H W 2"]], count: int) -> PairFlows:
    """The flow with a little noise, everywhere as well textured."""
    rng = np.random.default_rng(0)
    noisy = {pair: (flow + 0.05 * rng.normal(size=flow.shape)).astype(np.float16) for pair, flow in fields.items()}
    height, width = next(iter(fields.values())).shape[:2]
    return PairFlows(height, width, count, noisy, np.full((count, height, width), 10.0, dtype=np.float16))


def path_error(result: BundleResult, c2w: Float[np.ndarray, "N 4 4"]) -> float:
    """Root mean square distance from the true path after alignment, over its length."""
    found, true = result.c2w_cv[:, :3, 3], c2w[:, :3, 3]
    scale, rotation, translation = geo.umeyama_sim3(found, true)
    error = scale * found @ rotation.T + translation - true
    return float(np.sqrt((error**2).sum(axis=1).mean()) / np.linalg.norm(np.diff(true, axis=0), axis=1).sum())


@pytest.mark.parametrize("shift", [2.5, 6.0])
def test_near_ground_before_a_far_hill_stands_still(shift: float) -> None:
    flows, c2w, focal = hillside(shift)
    result = bundle_adjust(flows, config=COARSE)
    assert result.camera_kind == "general"
    assert path_error(result, c2w) < 0.005
    assert result.focal == pytest.approx(focal, rel=0.15)


def test_a_pan_over_a_far_hill_stays_one_whatever_goes_by_at_the_edge() -> None:
    flows, _, _ = hillside(0.0, ground=False, mover=0.3)
    assert bundle_adjust(flows, config=COARSE).camera_kind == "rotation"


def rolling_ball(room: Any) -> Float[np.ndarray, "N H W"]:
    """Puts a ball before the camera that goes along with it and rolls; returns where it is not."""
    flows: PairFlows = room.flows
    intrinsics = geo.pinhole(room.focal, flows.width, flows.height)
    centre = np.array([0.1, -0.15, 1.0])
    pixels = geo.pixel_centres(flows.height, flows.width).astype(np.float64)
    rays = geo.unproject(pixels, np.ones((flows.height, flows.width)), intrinsics)
    square, along = (rays**2).sum(axis=-1), rays @ centre
    under = along**2 - square * (centre @ centre - 0.36**2)
    hit = under > 0
    depth = np.where(hit, (along - np.sqrt(np.maximum(under, 0.0))) / square, 1.0)
    spin = np.arange(flows.num_frames)[:, None] * np.array([0.02, 0.01, 0.06])
    c2w = geo.se3_exp(np.concatenate([np.zeros_like(spin), spin], axis=1))
    c2w[:, :3, 3] = -(c2w[:, :3, :3] @ centre)
    for (i, j), field in flows.fields.items():
        flow, _ = geo.rigid_flow(depth, intrinsics, intrinsics, c2w[i], c2w[j])
        field[hit] = flow[hit].astype(np.float16)
    return np.broadcast_to(~hit, (flows.num_frames, *hit.shape))


def test_the_world_behind_a_mover_is_followed_where_a_few_frames_show_it(make_room: Callable[..., Any]) -> None:
    room = make_room(count=12, noise=0.05, turn=0.0)
    off_the_ball = rolling_ball(room)
    assert off_the_ball.mean() < 0.55
    samples, frames = sample_flows(room.flows, 20, None), np.arange(4, 12)
    part = samples.subset(frames)
    true = geo.invert_rigid(geo.invert_rigid(room.c2w_cv[0]) @ room.c2w_cv)
    seed = start_depth(part, State(true[frames], np.ones(part.points.shape[:2]), room.focal))
    unmoved = State(np.tile(np.eye(4), (12, 1, 1)), np.ones(samples.points.shape[:2]), room.focal)
    found = worlds.other_world(samples, [Seed(frames, seed, 0.0)], unmoved)
    assert found is not None
    state, world = found
    assert room.path_error(geo.invert_rigid(state.w2c)) < 0.01
    column, row = samples.points.astype(int).T
    belongs = off_the_ball[np.arange(12), row, column].T
    assert world[belongs].mean() > 0.8
    assert world[~belongs].mean() < 0.2


def test_no_other_world_is_sought_where_the_first_explains_the_picture(make_room: Callable[..., Any]) -> None:
    room = make_room(count=6)
    samples = sample_flows(room.flows, 12, None)
    true = geo.invert_rigid(geo.invert_rigid(room.c2w_cv[0]) @ room.c2w_cv)
    state = start_depth(samples, State(true, np.ones(samples.points.shape[:2]), room.focal))
    assert worlds.other_world(samples, [], state) is None


def test_support_asks_the_edge_of_the_picture_more_than_its_middle(make_room: Callable[..., Any]) -> None:
    room = make_room(count=3)
    samples = sample_flows(room.flows, 12, None)
    offset = (np.abs(samples.points - samples.centre) / samples.centre).max(axis=-1)[samples.sources]
    perfect = np.zeros_like(samples.weights)
    assert worlds.support(samples, perfect) == pytest.approx(1.0)
    assert worlds.support(samples, np.full_like(perfect, -1.0)) == pytest.approx(0.0)
    edge, middle = (worlds.support(samples, np.where(part, 0.0, 50.0)) for part in (offset > 0.8, offset <= 0.8))
    assert edge > 2 * middle
