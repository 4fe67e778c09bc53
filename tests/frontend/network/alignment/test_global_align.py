"""The default alignment, against exact truth."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from das3r_ns.errors import Das3rError
from das3r_ns.evaluation.metrics import ate_rmse, path_length
from das3r_ns.frontend.network.alignment import AlignmentConfig, global_align
from das3r_ns.frontend.network.alignment.result import AlignmentResult
from das3r_ns.frontend.network.predictions import PairPredictions
from das3r_ns.scene import geometry as geo

FEW = AlignmentConfig(max_samples=768)
"""Quick; four times fewer samples double the error that noise leaves."""


def assert_finite(result: AlignmentResult) -> None:
    """No value of a result may be NaN or infinite, no depth zero, no camera skewed."""
    for name in ("c2w_cv", "focals", "depth", "confidence", "clean_confidence", "dynamic_mean", "dynamic_max"):
        value = getattr(result, name)
        assert value is None or np.isfinite(value).all(), name
    assert (result.depth > 0).all() and (result.focals > 0).all()
    rotation = result.c2w_cv[:, :3, :3]
    np.testing.assert_allclose(
        rotation @ np.swapaxes(rotation, 1, 2), np.tile(np.eye(3), (len(rotation), 1, 1)), atol=1e-6
    )


def relative_depth_error(result: AlignmentResult, depth: np.ndarray) -> np.ndarray:
    """Share by which the depth is wrong, after one scale for all frames."""
    return np.abs(result.depth / np.median(result.depth / depth) - depth) / depth


@pytest.mark.parametrize("with_flow", [False, True])
def test_beats_the_official_aligner(align_scene, with_flow: bool) -> None:
    # Officially: ATE 0.161 and 0.120, focal 4.5 % off, 30 and 48 CPU seconds.
    start = time.process_time()
    result = global_align(align_scene.predictions, align_scene.flows if with_flow else None)
    assert time.process_time() - start < 30
    assert ate_rmse(result.c2w_cv, align_scene.c2w_cv) < (5e-4 if with_flow else 0.003)
    np.testing.assert_allclose(result.focals, align_scene.focal, rtol=0.005)
    error = relative_depth_error(result, align_scene.depth)
    assert error[~align_scene.moving].mean() < 0.003  # officially 0.0100 and 0.0075
    assert result.messages == []
    assert_finite(result)


def _garble(predictions: PairPredictions, kind: str, rng: np.random.Generator) -> list[int]:
    """Replace 4 of 70 pairs by nonsense of which the network is very sure."""
    bad = rng.choice(len(predictions.pairs), 4, replace=False).tolist()
    points1, points2 = predictions.points1.clone(), predictions.points2.clone()
    for e in bad:
        other = int(rng.integers(len(predictions.pairs)))
        if kind == "noise":
            for points in (predictions.points1, predictions.points2):
                points[e] = torch.from_numpy(rng.normal([0, 0, 4], 2, points[e].shape))
        elif kind == "other frames":
            predictions.points1[e], predictions.points2[e] = points1[other], points2[other - 17]
        else:
            turn = torch.from_numpy(geo.se3_exp(np.append([0, 0, 0], rng.normal(0, 1, 3)))[:3, :3])
            predictions.points2[e] = (1.5 * points2[e].double() @ turn + torch.from_numpy(rng.normal(0, 2, 3))).half()
        predictions.confidence1[e] = predictions.confidence2[e] = 30
    return bad


@pytest.mark.parametrize(("kind", "seed"), [("noise", 0), ("other frames", 1), ("wrong motion", 2)])
def test_confident_nonsense_changes_nothing(align_scene, kind: str, seed: int) -> None:
    bad = _garble(align_scene.predictions, kind, np.random.default_rng(seed))
    result = global_align(align_scene.predictions, config=AlignmentConfig(max_samples=1536))
    assert ate_rmse(result.c2w_cv, align_scene.c2w_cv) < 0.004
    np.testing.assert_allclose(result.focals, align_scene.focal, rtol=0.005)
    (message,) = result.messages
    assert message.startswith("4 of 70 pairs fit no common scene")
    assert all(f"({i}, {j})" in message for i, j in (align_scene.predictions.pairs[e] for e in bad))


def test_frame_without_a_good_pair_is_said_and_placed_between_its_neighbours(align_scene) -> None:
    rng = np.random.default_rng(0)
    predictions = align_scene.predictions
    for e, pair in enumerate(predictions.pairs):
        if 5 in pair:
            for points in (predictions.points1, predictions.points2):
                points[e] = torch.from_numpy(rng.normal([0, 0, 4], 2, points[e].shape))
    result = global_align(predictions, config=FEW)
    assert any("frame 5 " in message for message in result.messages)
    assert_finite(result)
    assert (result.clean_confidence[5] == 0).all()
    others = np.delete(np.arange(12), 5)
    assert ate_rmse(result.c2w_cv[others], align_scene.c2w_cv[others]) < 0.01
    # An arc is 1 % of its radius off its chord here.
    assert ate_rmse(result.c2w_cv, align_scene.c2w_cv) < 0.1


def test_everything_is_nonsense(align_scene) -> None:
    rng = np.random.default_rng(0)
    predictions = align_scene.predictions
    for points in (predictions.points1, predictions.points2):
        points[:] = torch.from_numpy(rng.normal(0, 2, points.shape))
    assert_finite(global_align(predictions, config=FEW))
    for points in (predictions.points1, predictions.points2):
        points[:] = 0
    assert_finite(global_align(predictions, config=FEW))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_finite_prediction_names_its_pair(align_scene, value: float) -> None:
    align_scene.predictions.points2[3, 5, 7, 1] = value
    i, j = align_scene.predictions.pairs[3]
    with pytest.raises(Das3rError, match=f"frames {i} and {j} .*points2"):
        global_align(align_scene.predictions)


def test_messages_count_from_the_start_of_the_video(make_surface_scene, make_path) -> None:
    scene = make_surface_scene(make_path(6, 0.3, 0.05))
    wrong = [number for number, pair in enumerate(scene.predictions.pairs) if 4 in pair]
    for points in (scene.predictions.points1, scene.predictions.points2):
        points[wrong] = torch.randn(points[wrong].shape, generator=torch.Generator().manual_seed(0))
    messages = global_align(scene.predictions, first_frame=50).messages
    assert any("left out: (50, 54), (51, 54), " in message for message in messages), messages
    assert any("predictions of frame 54 fit" in message for message in messages), messages
    scene.predictions.confidence1[0, 3, 3] = torch.nan
    i, j = scene.predictions.pairs[0]
    with pytest.raises(Das3rError, match=f"frames {50 + i} and {50 + j} "):
        global_align(scene.predictions, first_frame=50)


def test_two_frames(make_surface_scene, make_path) -> None:
    scene = make_surface_scene(make_path(2, 0.3, 0.05))
    result = global_align(scene.predictions)
    assert_finite(result)
    np.testing.assert_allclose(result.focals, scene.focal, rtol=0.02)
    assert relative_depth_error(result, scene.depth).mean() < 0.01
    turn = result.c2w_cv[1, :3, :3].T @ scene.c2w_cv[1, :3, :3]
    assert np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))) < 0.5


def test_camera_that_only_turns(make_surface_scene, make_path) -> None:
    scene = make_surface_scene(make_path(5, 0.0, 0.06))
    result = global_align(scene.predictions)
    assert_finite(result)
    centres = result.c2w_cv[:, :3, 3] / np.median(result.depth)
    assert np.linalg.norm(centres, axis=1).max() < 0.01
    np.testing.assert_allclose(result.c2w_cv[:, :3, :3], scene.c2w_cv[:, :3, :3], atol=0.01)
    np.testing.assert_allclose(result.focals, scene.focal, rtol=0.02)


def test_frames_that_are_never_view_1(make_surface_scene, make_path) -> None:
    scene = make_surface_scene(make_path(5, 0.2, 0.05), graph="oneref-2")
    result = global_align(scene.predictions)
    assert_finite(result)
    assert ate_rmse(result.c2w_cv, scene.c2w_cv) < 0.03


def test_depth_unprojects_to_the_same_world_in_the_convention_of_the_estimate(make_surface_scene, make_path) -> None:
    scene = make_surface_scene(make_path(3, 0.3, 0.05), noise=0.0)
    result = global_align(scene.predictions)
    flow, valid = geo.rigid_flow(
        result.depth[0], result.intrinsics[0], result.intrinsics[1], result.c2w_cv[0], result.c2w_cv[1]
    )
    k = geo.pinhole(scene.focal, 41, 31)
    truth, _ = geo.rigid_flow(scene.depth[0], k, k, scene.c2w_cv[0], scene.c2w_cv[1])
    np.testing.assert_allclose(flow[valid], truth[valid], atol=0.02)


def test_known_poses_and_focal_are_kept(make_surface_scene, make_path) -> None:
    scene = make_surface_scene(make_path(4, 0.3, 0.05))
    world = geo.se3_exp(np.array([1.0, 2.0, 3.0, 0.3, -0.2, 0.5]))
    known = world @ scene.c2w_cv
    result = global_align(scene.predictions, known_c2w_cv=known, known_focal=scene.focal)
    np.testing.assert_array_equal(result.c2w_cv, known)
    np.testing.assert_array_equal(result.focals, scene.focal)
    np.testing.assert_allclose(np.median(result.depth / scene.depth), 1.0, rtol=0.01)  # they set the scale
    still = np.tile(world, (4, 1, 1))
    assert_finite(global_align(scene.predictions, known_c2w_cv=still))


def test_focal_of_each_frame(make_surface_scene, make_path) -> None:
    scene = make_surface_scene(make_path(4, 0.3, 0.05))
    result = global_align(scene.predictions, config=AlignmentConfig(focal="per_frame"))
    np.testing.assert_allclose(result.focals, scene.focal, rtol=0.03)
    assert np.ptp(result.focals) > 0


def test_flow_of_another_resolution(align_scene) -> None:
    import cv2

    flows = align_scene.flows
    flows.fields = {k: 2 * cv2.resize(f.astype(np.float32), (128, 96)) for k, f in flows.fields.items()}
    flows.width, flows.height, flows.texture = 128, 96, np.full((12, 96, 128), 10, np.float16)
    result = global_align(align_scene.predictions, flows, FEW)
    assert ate_rmse(result.c2w_cv, align_scene.c2w_cv) < 0.001


def test_smoothness_does_not_shrink_the_trajectory(align_scene) -> None:
    result = global_align(align_scene.predictions, config=AlignmentConfig(max_samples=768, temporal_weight=1.0))
    scale, _, _ = geo.umeyama_sim3(result.c2w_cv[:, :3, 3], align_scene.c2w_cv[:, :3, 3])
    by_depth = 1 / np.median(result.depth / align_scene.depth)
    # Officially, the path is a fifth shorter than the depth would have it.
    assert abs(by_depth / scale - 1) < 0.02
    assert by_depth * path_length(result.c2w_cv) > 0.9 * path_length(align_scene.c2w_cv)


def test_user_errors(align_scene) -> None:
    predictions = align_scene.predictions
    with pytest.raises(Das3rError, match="3 known poses for 12 frames"):
        global_align(predictions, known_c2w_cv=np.tile(np.eye(4), (3, 1, 1)))
    with pytest.raises(Das3rError, match="known focal -1"):
        global_align(predictions, known_focal=-1.0)
    with pytest.raises(Das3rError, match="64 x 48"):
        global_align(predictions, static_weight=np.ones((12, 4, 4)))
    predictions.pairs = [(i + (i > 4), j + (j > 4)) for i, j in predictions.pairs]
    with pytest.raises(Das3rError, match=r"Frames \[5\] are in no pair"):
        global_align(predictions)
