"""Metrics against cases worked out by hand, and against numbers that the paper's own functions gave."""

import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
from evo.core import metrics as evo_metrics
from evo.core import trajectory as evo_trajectory
from scipy.spatial.transform import Rotation

from das3r_ns.evaluation.metrics import (
    MAX_PSNR,
    aligned_sim3,
    ate_percent,
    ate_rmse,
    boundary,
    boundary_f,
    focal_error,
    mask_iou,
    path_length,
    psnr_over,
    psnr_paper,
    psnr_static,
    recall,
    rpe,
)


def cameras(centres: np.ndarray) -> np.ndarray:
    poses = np.tile(np.eye(4), (len(centres), 1, 1))
    poses[:, :3, 3] = centres
    return poses


def test_mask_iou_by_hand() -> None:
    predicted = np.zeros((4, 2, 4), dtype=bool)
    truth = np.zeros((4, 2, 4), dtype=bool)
    predicted[0, :, :2] = True  # 4 pixels against 4, 2 shared: 2 / 6
    truth[0, :, 1:3] = True
    predicted[1, 0, 0] = True  # something where nothing moves
    truth[2, 0, 0] = True  # nothing where something moves; frame 3 is empty in both
    assert mask_iou(predicted, truth) == pytest.approx([1 / 3, 0.0, 0.0, 1.0])


def test_mask_iou_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match="shape"):
        mask_iou(np.zeros((1, 2, 2), dtype=bool), np.zeros((2, 2, 2), dtype=bool))


def test_ate_is_zero_after_a_similarity_and_known_for_a_known_error() -> None:
    rng = np.random.default_rng(0)
    truth = cameras(rng.normal(size=(12, 3)))
    rotation = Rotation.from_rotvec([0.3, -1.0, 0.4]).as_matrix()
    moved = cameras(truth[:, :3, 3] @ rotation.T * 3.7 + [5.0, -2.0, 1.0])
    assert ate_rmse(moved, truth) == pytest.approx(0.0, abs=1e-12)

    # A cross whose arms are displaced along z alternately by +-h: no similarity explains any of it.
    h = 0.1
    cross = cameras(np.array([[1.0, 0, 0], [0, 1.0, 0], [-1.0, 0, 0], [0, -1.0, 0]]))
    bent = cross.copy()
    bent[:, 2, 3] = [h, -h, h, -h]
    # The best scale shrinks the bent cross a little: s = 1 / (1 + h^2), which leaves h / sqrt(1 + h^2).
    expected = h / math.sqrt(1 + h * h)
    assert ate_rmse(bent, cross) == pytest.approx(expected)
    assert path_length(cross) == pytest.approx(3 * math.sqrt(2))
    assert ate_percent(bent, cross) == pytest.approx(100 * expected / (3 * math.sqrt(2)))


def test_ate_of_a_camera_that_stands_still() -> None:
    still = cameras(np.zeros((5, 3)))
    assert ate_rmse(still, still) == 0.0
    assert math.isnan(ate_percent(still, still))


def test_focal_error_compares_at_one_resolution() -> None:
    estimated = np.tile(np.diag([440.0, 440.0, 1.0]), (3, 1, 1))
    truth = np.diag([800.0, 800.0, 1.0])
    assert focal_error(estimated, 480, truth, 960) == pytest.approx(0.1)


def test_psnr_by_hand() -> None:
    target = np.full((4, 5, 3), 0.5)
    render = target + 0.1
    render[:2] = 7.0  # clamped to 1: an error of 0.5
    dynamic = np.zeros((4, 5), dtype=bool)
    dynamic[:2] = True
    assert psnr_static(render, target, dynamic) == pytest.approx(20.0)
    assert psnr_paper(render, target, dynamic) == pytest.approx(20.0 + 10 * math.log10(2))
    assert psnr_over(render, target, dynamic) == pytest.approx(-20 * math.log10(0.5))
    assert psnr_over(target, target, dynamic) == MAX_PSNR
    assert math.isnan(psnr_over(render, target, np.zeros_like(dynamic)))


def picture(ident: int, height: int, width: int) -> np.ndarray:
    """Formula picture [H, W, 3] in [-1, 1] that the paper's functions were run on."""

    def noise(seed: int) -> np.ndarray:
        h = (np.arange(height * width, dtype=np.uint64) * np.uint64(0x9E3779B1) + np.uint64(seed)).astype(np.uint32)
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
            h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)
        return h.reshape(height, width) / 4294967296.0

    y, x = np.meshgrid(np.arange(height) / height, np.arange(width) / width, indexing="ij")
    disc = ((x - 0.3 - 0.1 * ident) % 1.0 - 0.5) ** 2 + (y - 0.5) ** 2 < 0.04
    channels = []
    for c in range(3):
        wave = np.sin(2 * np.pi * ((1.3 + 0.4 * c) * x + 0.21 * ident) + 0.7 * c)
        wave *= 0.5 * np.cos(2 * np.pi * (0.9 + 0.3 * c) * y + 0.5 * ident)
        stripes = 0.3 * np.sin(2 * np.pi * (5.0 + c) * (x + 0.6 * y) + 1.1 * ident)
        grain = 0.2 * (2.0 * noise(zlib.crc32(f"img{ident}.{c}".encode())) - 1.0)
        channels.append(np.clip(wave + stripes + 0.5 * disc * (1 - c) + grain, -1.0, 1.0))
    return np.stack(channels, axis=-1)


def test_psnr_equals_the_papers_functions() -> None:
    target = picture(0, 48, 64) * 0.5 + 0.5
    render = 0.85 * target + 0.15 * (picture(1, 48, 64) * 0.5 + 0.5)
    dynamic = picture(3, 48, 64)[..., 0] > 0.2
    assert (~dynamic).mean() == pytest.approx(0.6246745, abs=1e-6)
    assert psnr_paper(render, target, dynamic) == pytest.approx(31.958389, abs=1e-4)
    assert psnr_static(render, target, dynamic) == pytest.approx(29.914927, abs=1e-4)
    assert psnr_over(render, target, np.ones_like(dynamic)) == pytest.approx(29.883753, abs=1e-4)


def test_recall_counts_frames_above_a_half() -> None:
    assert recall(np.array([0.2, 0.5, 0.51, 0.9])) == 0.5


def test_the_boundary_is_one_pixel_wide_and_the_border_of_the_picture_is_none() -> None:
    mask = np.zeros((5, 6), dtype=bool)
    mask[1:4, 2:] = True  # reaches the right border
    expected = [
        ".XXXXX",  # above the mask, and diagonally before its corner
        ".X....",
        ".X....",
        ".XXXXX",
        "......",
    ]
    assert ["".join(".X"[int(v)] for v in row) for row in boundary(mask)] == expected
    assert not boundary(np.ones((4, 4), dtype=bool)).any()


def test_boundary_f_by_hand() -> None:
    truth = np.zeros((60, 80), dtype=bool)  # diagonal 100: a tolerance of 0.008 is one pixel, rounded up
    truth[:, 40:] = True  # the boundary is column 39
    moved = {shift: np.roll(truth, shift, axis=1) for shift in (0, 1, 2)}
    for shift in (1, 2):
        moved[shift][:, :2] = False
    assert boundary_f(moved[0], truth) == 1.0
    assert boundary_f(moved[1], truth) == 1.0
    assert boundary_f(moved[2], truth) == 0.0
    assert boundary_f(moved[2], truth, tolerance=0.02) == 1.0
    # The upper half alone: what is predicted is right but for its lower end, and half of the truth is found.
    half = truth.copy()
    half[30:] = False
    edges = boundary(half)
    assert edges.sum() == 30 + 40  # a column of 30 (with the corner) and the 40 pixels of the lower end
    precision = (30 + 1) / 70  # the column, and the first pixel of the lower end, one beside the true column
    found = (30 + 1) / 60  # the column, and the true pixel below it
    assert boundary_f(half, truth) == pytest.approx(2 * precision * found / (precision + found))


def test_boundary_f_without_a_boundary() -> None:
    nothing, something = np.zeros((9, 9), dtype=bool), np.zeros((9, 9), dtype=bool)
    something[3:6, 3:6] = True
    assert boundary_f(nothing, nothing) == 1.0
    assert boundary_f(nothing, something) == boundary_f(something, nothing) == 0.0
    with pytest.raises(ValueError, match="shape"):
        boundary_f(nothing, np.zeros((9, 8), dtype=bool))


def test_rpe_by_hand() -> None:
    # A straight path of four steps of length 1, of which the third wrongly turns the camera by 2 degrees.
    truth = cameras(np.array([[i, 0.0, 0.0] for i in range(5)]))
    turned = truth.copy()
    turned[3:, :3, :3] = Rotation.from_euler("y", 2.0, degrees=True).as_matrix()
    translation, rotation = rpe(turned, truth)
    # One step of four is wrong by 2 degrees; the step after it goes the right way in the world, but 2 degrees askew of
    # the camera: a chord of 2 sin(1 degree).
    assert rotation == pytest.approx(math.sqrt(2.0**2 / 4))
    assert translation == pytest.approx(2 * math.sin(math.radians(1.0)) / math.sqrt(4))


def test_rpe_does_not_see_a_similarity() -> None:
    rng = np.random.default_rng(1)
    truth = cameras(rng.normal(size=(9, 3)))
    truth[:, :3, :3] = Rotation.random(9, np.random.default_rng(2)).as_matrix()
    rotation = Rotation.from_rotvec([0.4, 0.2, -1.0]).as_matrix()
    moved = truth.copy()
    moved[:, :3, :3] = rotation @ truth[:, :3, :3]
    moved[:, :3, 3] = 0.2 * truth[:, :3, 3] @ rotation.T + [1.0, 2.0, 3.0]
    assert rpe(moved, truth) == pytest.approx((0.0, 0.0), abs=1e-6)
    np.testing.assert_allclose(aligned_sim3(moved, truth), truth, atol=1e-12)


def poses(rows: list[list[float]]) -> np.ndarray:
    """4 x 4 of rows of 12 numbers."""
    read = np.tile(np.eye(4), (len(rows), 1, 1))
    read[:, :3] = np.array(rows).reshape(-1, 3, 4)
    return read


REFERENCE = json.loads((Path(__file__).parents[1] / "reference/trajectory_errors.json").read_text())


@pytest.mark.parametrize("run", REFERENCE["runs"])
def test_trajectory_errors_are_those_of_evo(run: dict) -> None:
    """Figures that evo 1.28 gave, stored."""
    estimated, truth = poses(run["estimated"]), poses(REFERENCE["truth"])
    assert ate_rmse(estimated, truth) == pytest.approx(run["ate"], rel=1e-6)
    assert rpe(estimated, truth) == pytest.approx((run["rpe_t"], run["rpe_r"]), rel=1e-6)


def test_trajectory_errors_are_those_of_the_evo_installed_here() -> None:
    rng = np.random.default_rng(3)
    truth = cameras(rng.normal(size=(20, 3)))
    truth[:, :3, :3] = Rotation.random(20, np.random.default_rng(4)).as_matrix()
    estimated = cameras(2 * truth[:, :3, 3] + 0.1 * rng.normal(size=(20, 3)))
    estimated[:, :3, :3] = truth[:, :3, :3] @ Rotation.from_rotvec(0.05 * rng.normal(size=(20, 3))).as_matrix()
    reference = evo_trajectory.PosePath3D(poses_se3=list(truth))
    aligned = evo_trajectory.PosePath3D(poses_se3=list(estimated))
    aligned.align(reference, correct_scale=True)

    def rmse(metric) -> float:
        metric.process_data((reference, aligned))
        return metric.get_statistic(evo_metrics.StatisticsType.rmse)

    relation = evo_metrics.PoseRelation
    assert ate_rmse(estimated, truth) == pytest.approx(rmse(evo_metrics.APE(relation.translation_part)))
    kinds = (relation.translation_part, relation.rotation_angle_deg)
    assert rpe(estimated, truth) == pytest.approx([rmse(evo_metrics.RPE(kind, delta=1)) for kind in kinds])
