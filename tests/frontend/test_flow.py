"""Optical flow of pictures that were moved by a known amount."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from das3r_ns.frontend.flow import dis_flow, picture_texture
from das3r_ns.frontend.pairs import strided_pairs


def textured(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = sum(
        cv2.resize(rng.uniform(0, 60, (height // s, width // s)).astype(np.float32), (width, height))
        for s in (4, 12, 40)
    )
    return np.repeat(np.clip(noise, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def shifted(count: int, step: tuple[int, int], size: tuple[int, int] = (120, 200)) -> np.ndarray:
    """Frames in which the picture moves by ``step`` (x, y) each."""
    margin = count * max(abs(step[0]), abs(step[1]))
    wide = textured(size[0] + 2 * margin, size[1] + 2 * margin)
    return np.stack(
        [
            wide[margin - i * step[1] : margin - i * step[1] + size[0], margin - i * step[0] :][:, : size[1]]
            for i in range(count)
        ]
    )


def test_flow_and_its_backward_error() -> None:
    flows = dis_flow(shifted(3, (3, -2)), strided_pairs(3, (1, 2)))
    np.testing.assert_allclose(np.median(flows.flow(0, 1), axis=(0, 1)), [3, -2], atol=0.1)
    np.testing.assert_allclose(np.median(flows.flow(2, 0), axis=(0, 1)), [-6, 4], atol=0.1)
    error = flows.backward_error(0, 1)
    assert np.median(error[np.isfinite(error)]) < 0.1
    assert np.isinf(error[:, -2:]).all()


def test_long_strides_start_from_short_ones() -> None:
    frames = shifted(9, (11, 3))
    chained = dis_flow(frames, strided_pairs(9, (1, 2, 4, 8))).flow(0, 8)
    alone = dis_flow(frames, [(0, 8)]).flow(0, 8)
    inside = np.s_[:80, :100]
    true = np.array([88, 24])
    assert np.median(np.linalg.norm(chained[inside] - true, axis=-1)) < 1.0
    assert np.median(np.linalg.norm(alone[inside] - true, axis=-1)) > 10.0


def test_frames_far_apart_are_matched_by_features() -> None:
    flows = dis_flow(shifted(2, (90, 30), size=(200, 320)), strided_pairs(2, (1,)))
    inside = flows.flow(0, 1)[:160, :220]
    assert np.median(np.linalg.norm(inside - [90, 30], axis=-1)) < 1.0


@pytest.mark.parametrize("value", [0, 128, 255])
def test_plain_pictures_have_no_texture_and_no_flow(value: int) -> None:
    flows = dis_flow(np.full((2, 60, 80, 3), value, dtype=np.uint8), strided_pairs(2, (1,)))
    assert not flows.texture.any()
    np.testing.assert_allclose(flows.flow(0, 1), 0.0)


def test_texture_counts_corners_and_not_straight_edges() -> None:
    edge = np.zeros((40, 40), dtype=np.uint8)
    edge[:, 20:] = 100
    corner = edge.copy()
    corner[:20] = 0
    assert picture_texture(edge)[20, 20] < 1.0
    assert picture_texture(corner)[20, 20] > 5.0
