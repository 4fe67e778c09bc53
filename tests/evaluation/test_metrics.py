"""Metrics against cases worked out by hand, and against numbers that the paper's own functions gave."""

import math
import zlib

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from das3r_ns.evaluation.metrics import (
    MAX_PSNR,
    ate_percent,
    ate_rmse,
    focal_error,
    mask_iou,
    path_length,
    psnr_over,
    psnr_paper,
    psnr_static,
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
