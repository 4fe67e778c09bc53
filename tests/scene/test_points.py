"""Seed points on the demo video with exact depth."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.spatial import KDTree

from das3r_ns.scene import geometry as geo
from das3r_ns.scene.estimate import SceneEstimate
from das3r_ns.scene.points import SeedPoints, fused_points, per_pixel_points

ALL = range(12)


def in_picture(points: SeedPoints, estimate: SceneEstimate, frame: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices, image coordinates and camera z of the points inside one frame's picture."""
    camera = geo.transform_points(geo.invert_rigid(estimate.c2w_cv[frame]), points.xyz)
    xy, z = geo.project(camera, estimate.intrinsics[frame])
    inside = (z > 0) & (xy >= 0).all(-1) & (xy[:, 0] < estimate.width) & (xy[:, 1] < estimate.height)
    return np.flatnonzero(inside), xy[inside], z[inside]


@pytest.fixture(scope="module")
def fused(demo_video) -> SeedPoints:
    return fused_points(demo_video.estimate, demo_video.images, ALL, 1_000_000)


def test_points_lie_on_the_static_surfaces(demo_video, fused: SeedPoints) -> None:
    for frame in (0, 6, 11):
        _, xy, z = in_picture(fused, demo_video.estimate, frame)
        depth = demo_video.clean_depth[frame][xy[:, 1].astype(int), xy[:, 0].astype(int)]
        # Behind: hidden in this frame. In front: a floater, or a mover; only pixels on a depth edge may be so.
        assert (z < 0.98 * depth).mean() < 0.02
        assert (np.abs(z / depth - 1) < 0.02).mean() > 0.85


def test_a_surface_seen_twelve_times_is_seeded_about_once(demo_video, fused: SeedPoints) -> None:
    one_frame = demo_video.estimate.height * demo_video.estimate.width
    assert 0.5 * one_frame < len(fused.xyz) < 3 * one_frame


@pytest.mark.parametrize("budget", [20_000, 3_000])
def test_a_budget_is_kept_used_and_covers_every_frame(demo_video, budget: int) -> None:
    estimate = demo_video.estimate
    points = fused_points(estimate, demo_video.images, ALL, budget)
    assert 0.4 * budget < len(points.xyz) <= budget
    spacing = np.sqrt(estimate.height * estimate.width / budget)
    for frame in ALL:
        _, xy, _ = in_picture(points, estimate, frame)
        static = estimate.dynamic_probability[frame] == 0
        gap, _ = KDTree(xy).query(geo.pixel_centres(estimate.height, estimate.width)[static])
        assert np.percentile(gap, 99) < 4 * spacing


def test_a_budget_of_less_than_a_point_a_frame_is_kept(demo_video) -> None:
    far_apart = demo_video.estimate.c2w_cv.copy()
    far_apart[:, 0, 3] = 100.0 * np.arange(12)  # no frame sees the points of another
    estimate = dataclasses.replace(demo_video.estimate, c2w_cv=far_apart)
    assert len(fused_points(estimate, demo_video.images, ALL, 5).xyz) == 5


def test_colours_and_staticness_are_those_of_the_frames(demo_video, fused: SeedPoints) -> None:
    index, xy, z = in_picture(fused, demo_video.estimate, 5)
    row, column = xy[:, 1].astype(int), xy[:, 0].astype(int)
    seen = np.abs(z / demo_video.clean_depth[5][row, column] - 1) < 0.01
    seen &= demo_video.estimate.dynamic_probability[5][row, column] == 0
    difference = fused.rgb[index[seen]].astype(int) - demo_video.images[5][row[seen], column[seen]]
    assert np.abs(difference).mean() < 8
    np.testing.assert_array_equal(fused.staticness, 1.0)
    assert fused.xyz.dtype == fused.staticness.dtype == np.float32


def test_movers_seed_only_when_asked(demo_video) -> None:
    points = fused_points(demo_video.estimate, demo_video.images, ALL, 50_000, keep_dynamic=True)
    index, xy, z = in_picture(points, demo_video.estimate, 6)
    row, column = xy[:, 1].astype(int), xy[:, 0].astype(int)
    moving = demo_video.estimate.dynamic_probability[6] == 1
    on_mover = moving[row, column] & (np.abs(z / demo_video.estimate.depth[6][row, column] - 1) < 0.02)
    # One for every 3 x 3 pixels: each frame's movers need their own.
    assert 0.05 * moving.sum() < on_mover.sum() < 0.3 * moving.sum()
    assert points.staticness[index[on_mover]].mean() < 0.3
    assert (points.staticness > 0.95).mean() > 0.7


def test_what_hangs_in_the_air_is_dropped(demo_video, fused: SeedPoints) -> None:
    """One frame claims, confidently, a wall halfway to the scene; the others see through it."""
    depth = demo_video.estimate.depth.copy()
    depth[5, 30:60, 60:100] = 0.5 * demo_video.clean_depth[5, 30:60, 60:100]
    estimate = dataclasses.replace(demo_video.estimate, depth=depth)
    points = fused_points(estimate, demo_video.images, ALL, 1_000_000)
    distance, _ = KDTree(fused.xyz).query(points.xyz)
    assert (distance > 0.3).sum() < 0.1 * 30 * 40


def test_guessed_depth_is_seeded_sparsely_and_leaves_no_hole(demo_video) -> None:
    confidence = demo_video.estimate.confidence.copy()
    confidence[:, :40] = 0
    estimate = dataclasses.replace(demo_video.estimate, confidence=confidence)
    points = fused_points(estimate, demo_video.images, [0], 1_000_000)
    _, xy, _ = in_picture(points, estimate, 0)
    guessed = (xy[:, 1] < 40).sum()
    static = (estimate.dynamic_probability[0, :40] == 0).sum()
    assert 0.05 * static < guessed < 0.2 * static


@pytest.mark.parametrize("kind", ["rotation", "tripod"])
def test_a_camera_without_parallax_is_seeded_densely(demo_video, kind) -> None:
    estimate = dataclasses.replace(
        demo_video.estimate,
        c2w_cv=np.tile(np.eye(4), (12, 1, 1)),
        depth=np.full_like(demo_video.estimate.depth, 3.0),
        confidence=np.zeros_like(demo_video.estimate.confidence),
        camera_kind=kind,
    )
    points = fused_points(estimate, demo_video.images, ALL, 1_000_000)
    assert 0.8 * 160 * 90 < len(points.xyz) < 1.5 * 160 * 90


def test_per_pixel_points_come_in_order_and_project_back_onto_their_pixel(demo_video) -> None:
    frames = [0, 3, 9]
    confidence = demo_video.estimate.confidence.copy()
    confidence[3, :10] = 0
    estimate = dataclasses.replace(demo_video.estimate, confidence=confidence)
    points = per_pixel_points(estimate, demo_video.images, frames, 10_000_000)
    assert points.pixel is not None
    assert len(points.pixel) == 3 * 90 * 160 - 10 * 160
    order = np.ravel_multi_index(tuple(points.pixel.T), (3, 90, 160))
    assert (np.diff(order) > 0).all()
    for position, frame in enumerate(frames):
        mine = points.pixel[:, 0] == position
        camera = geo.transform_points(geo.invert_rigid(estimate.c2w_cv[frame]), points.xyz[mine].astype(np.float64))
        xy, _ = geo.project(camera, estimate.intrinsics[frame])
        np.testing.assert_allclose(xy, points.pixel[mine][:, [2, 1]] + 0.5, atol=1e-3)
    row, column = points.pixel[0, 1:]
    np.testing.assert_array_equal(points.rgb[0], demo_video.images[0, row, column])
    assert points.staticness.min() == 0


def test_per_pixel_points_thin_to_a_lattice_and_survive_a_guess_everywhere(demo_video) -> None:
    estimate = dataclasses.replace(demo_video.estimate, confidence=np.zeros_like(demo_video.estimate.confidence))
    points = per_pixel_points(estimate, demo_video.images, ALL, 50_000)
    assert points.pixel is not None
    assert set(points.pixel[:, 1]) == set(range(0, 90, 2))
    assert len(points.xyz) == 12 * 45 * 80


@pytest.mark.parametrize("keep_dynamic", [False, True])
def test_what_is_fixed_to_the_camera_seeds_nothing(demo_video, keep_dynamic: bool) -> None:
    fixed = np.zeros((90, 160), bool)
    fixed[:, :80] = True
    # Magenta, so that a point of it would be known anywhere.
    images = demo_video.images.copy()
    images[:, fixed] = (255, 0, 255)
    estimate = dataclasses.replace(demo_video.estimate, fixed=fixed)
    for points in (
        fused_points(estimate, images, ALL, 20_000, keep_dynamic),
        per_pixel_points(estimate, images, ALL, 20_000),
    ):
        assert len(points.xyz) > 1000
        assert not (points.rgb == (255, 0, 255)).all(axis=1).any()
