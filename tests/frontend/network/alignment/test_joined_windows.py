"""Similarities, and windows joined by them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from das3r_ns.errors import Das3rError
from das3r_ns.evaluation.metrics import ate_rmse, path_length
from das3r_ns.frontend.network.alignment import AlignmentResult, join_windows
from das3r_ns.frontend.similarity import Sim3, fit_similarity
from das3r_ns.frontend.windows import overlapping_windows
from das3r_ns.scene import geometry as geo


def random_sim3(rng: np.random.Generator, *batch: int) -> Sim3:
    """Similarities of any rotation and scales within a factor of about 3."""
    rotation = geo.se3_exp(np.concatenate([np.zeros((*batch, 3)), rng.normal(0, 1.5, (*batch, 3))], axis=-1))[
        ..., :3, :3
    ]
    return Sim3(np.exp(rng.normal(0, 0.5, batch)), rotation, rng.normal(0, 2, (*batch, 3)))


def test_group_axioms() -> None:
    rng = np.random.default_rng(0)
    a, b, c = (random_sim3(rng, 50) for _ in range(3))
    points = rng.normal(0, 1, (50, 3))
    np.testing.assert_allclose(((a @ b) @ c).matrix(), (a @ (b @ c)).matrix(), atol=1e-10)
    np.testing.assert_allclose((a @ a.inverse()).matrix(), np.tile(np.eye(4), (50, 1, 1)), atol=1e-12)
    np.testing.assert_allclose((a.inverse() @ a).matrix(), np.tile(np.eye(4), (50, 1, 1)), atol=1e-12)
    np.testing.assert_allclose((a @ Sim3.identity(50)).matrix(), a.matrix())
    np.testing.assert_allclose((a @ b).apply(points), a.apply(b.apply(points)), atol=1e-12)
    np.testing.assert_allclose((a @ b).matrix(), a.matrix() @ b.matrix(), atol=1e-12)
    np.testing.assert_allclose(a.inverse().apply(a.apply(points)), points, atol=1e-12)


def test_cameras_and_points_move_together() -> None:
    rng = np.random.default_rng(1)
    similarity, c2w = random_sim3(rng), geo.se3_exp(rng.normal(0, 1, 6))
    point = rng.normal(0, 1, 3)
    moved = similarity.apply_to_cameras(c2w)
    scaled_point = float(similarity.scale) * point
    np.testing.assert_allclose(
        geo.transform_points(moved, scaled_point), similarity.apply(geo.transform_points(c2w, point)), atol=1e-12
    )
    np.testing.assert_allclose(moved[:3, :3] @ moved[:3, :3].T, np.eye(3), atol=1e-12)


def test_fit_is_exact_and_robust() -> None:
    rng = np.random.default_rng(2)
    truth, points = random_sim3(rng, 5), rng.normal(0, 1, (5, 200, 3))
    target = truth.apply_many(points)
    fit, _ = fit_similarity(points, target, np.ones((5, 200)))
    np.testing.assert_allclose(fit.matrix(), truth.matrix(), atol=1e-10)
    target = target + 0.01 * rng.standard_normal(target.shape)
    target[:, :70] += rng.normal(0, 3, (5, 70, 3))
    fit, _ = fit_similarity(points, target, np.ones((5, 200)))
    np.testing.assert_allclose(fit.matrix(), truth.matrix(), atol=0.02)


def whole_video(make_surface_scene, make_path, count: int = 30) -> AlignmentResult:
    """A video's exact result."""
    scene = make_surface_scene(make_path(count, 0.15, 0.02), graph="swin-1-noncyclic")
    depth = scene.depth.astype(np.float32)
    confidence = np.full(depth.shape, 4.0, np.float32)
    return AlignmentResult(
        scene.c2w_cv, np.full(count, scene.focal), depth, confidence, confidence.copy(), 0 * depth, 0 * depth
    )


def cut(video: AlignmentResult, frames: list[int], similarity: Sim3, noise: float, seed: int) -> AlignmentResult:
    """One window of it, in a world of its own."""
    rng = np.random.default_rng(seed)
    jitter = geo.se3_exp(noise * rng.standard_normal((len(frames), 6)))
    parts = {}
    for name in ("focals", "confidence", "clean_confidence", "dynamic_mean", "dynamic_max"):
        parts[name] = getattr(video, name)[frames]
    depth = video.depth[frames] * np.exp(noise * rng.standard_normal(video.depth[frames].shape))
    return AlignmentResult(
        c2w_cv=similarity.apply_to_cameras(video.c2w_cv[frames] @ jitter),
        depth=(depth * float(similarity.scale)).astype(np.float32),
        messages=[f"seed {seed}"],
        **parts,
    )


def windows_of(video: AlignmentResult, noise: float) -> tuple[list[AlignmentResult], list[list[int]]]:
    """Windows of ten frames, five of them shared, each in a world of its own."""
    rng = np.random.default_rng(3)
    frames = [list(window) for window in overlapping_windows(video.num_frames, 10, 0.5)]
    return [cut(video, numbers, random_sim3(rng), noise, k) for k, numbers in enumerate(frames)], frames


def test_exact_windows_join_exactly(make_surface_scene, make_path) -> None:
    video = whole_video(make_surface_scene, make_path)
    joined = join_windows(*windows_of(video, 0.0))
    scale = float(np.median(joined.depth / video.depth))
    np.testing.assert_allclose(joined.depth, scale * video.depth, rtol=1e-4)
    np.testing.assert_allclose(joined.c2w_cv[:, :3, :3], video.c2w_cv[:, :3, :3], atol=1e-4)
    np.testing.assert_allclose(joined.c2w_cv[:, :3, 3], scale * video.c2w_cv[:, :3, 3], atol=1e-3 * scale)
    assert joined.messages == [f"Frames {5 * k} to {5 * k + 9}: seed {k}" for k in range(5)]


def test_drift_is_bounded(make_surface_scene, make_path) -> None:
    video = whole_video(make_surface_scene, make_path)
    joined = join_windows(*windows_of(video, 0.01))
    assert ate_rmse(joined.c2w_cv, video.c2w_cv) < 0.02 * path_length(video.c2w_cv)
    ratio = np.median(joined.depth / video.depth, axis=(1, 2))
    assert ratio.max() / ratio.min() < 1.03
    np.testing.assert_allclose(joined.c2w_cv[0], np.eye(4), atol=1e-12)


def test_garbage_in_shared_frames_does_not_spoil_the_join(make_surface_scene, make_path) -> None:
    video = whole_video(make_surface_scene, make_path, 15)
    results, frames = windows_of(video, 0.0)
    results[1].depth[:2] *= np.random.default_rng(0).uniform(0.2, 3, results[1].depth[:2].shape).astype(np.float32)
    results[1].clean_confidence[:2] = 0
    joined = join_windows(results, frames)
    assert ate_rmse(joined.c2w_cv, video.c2w_cv) < 1e-3 * path_length(video.c2w_cv)


def test_camera_that_stands_still_joins_by_depth(make_surface_scene, make_path) -> None:
    video = whole_video(make_surface_scene, make_path)
    video = replace(video, c2w_cv=np.tile(np.eye(4), (30, 1, 1)), depth=np.repeat(video.depth[:1], 30, axis=0))
    joined = join_windows(*windows_of(video, 0.0))
    ratio = np.median(joined.depth / video.depth, axis=(1, 2))
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)
    np.testing.assert_allclose(joined.c2w_cv, video.c2w_cv, atol=1e-3)


def test_refinement_sees_the_whole(make_surface_scene, make_path) -> None:
    results, frames = windows_of(whole_video(make_surface_scene, make_path), 0.0)
    seen = []
    joined = join_windows(results, frames, refine=lambda result: seen.append(result.num_frames) or result)
    assert seen == [30] and joined.num_frames == 30


def test_windows_that_are_placed_already_stay_there(make_surface_scene, make_path) -> None:
    video = whole_video(make_surface_scene, make_path)
    frames = [list(window) for window in overlapping_windows(video.num_frames, 10, 0.5)]
    results = [cut(video, numbers, Sim3.identity(), 0.0, k) for k, numbers in enumerate(frames)]
    results[1].depth[:] *= 1.5  # a wrong depth must not move known cameras
    joined = join_windows(results, frames, placed=True)
    np.testing.assert_allclose(joined.c2w_cv, video.c2w_cv, atol=1e-9)


def test_windows_without_shared_frames(make_surface_scene, make_path) -> None:
    results, frames = windows_of(whole_video(make_surface_scene, make_path), 0.0)
    with pytest.raises(Das3rError, match=r"20 to 29\) shares no frame"):
        join_windows([results[0], results[4]], [frames[0], frames[4]])
