"""Light that changes from frame to frame."""

from __future__ import annotations

import numpy as np
import pytest

from das3r_ns.frontend.geometric.flow import dis_flow
from das3r_ns.frontend.geometric.light import described, evenly_lit, frame_light
from das3r_ns.frontend.pairs import strided_pairs

STRIDES = (1, 2, 4)


def relit(images: np.ndarray, light: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(images * np.exp(light)[:, None, None]), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def gains(demo_video) -> np.ndarray:
    """Exposure that rises by half, and colours that go from cold to warm."""
    time = np.linspace(-1, 1, len(demo_video.images))[:, None]
    light = 0.2 * time + 0.08 * time * np.array([1.0, 0.0, -1.0])
    return light - np.median(light, axis=0)


def test_gains_are_measured(demo_video, gains: np.ndarray) -> None:
    images = relit(demo_video.images, gains)
    light = frame_light(images, dis_flow(images, strided_pairs(len(images), STRIDES)))
    assert light is not None
    np.testing.assert_allclose(light, gains, atol=0.02)
    assert "1.2" in described(light)


def test_gains_are_measured_where_all_has_one_level(gains: np.ndarray) -> None:
    images = relit(np.full((len(gains), 60, 80, 3), 120, np.uint8), gains)
    light = frame_light(images, dis_flow(images, strided_pairs(len(images), STRIDES)))
    assert light is not None
    np.testing.assert_allclose(light, gains, atol=0.02)


def test_a_lamp_that_flickers_is_not_smoothed(demo_video) -> None:
    flicker = np.where(np.arange(len(demo_video.images)) % 2, 0.12, -0.12)[:, None] * np.ones(3)
    images = relit(demo_video.images, flicker)
    light = frame_light(images, dis_flow(images, strided_pairs(len(images), STRIDES)))
    assert light is not None
    np.testing.assert_allclose(np.diff(light, axis=0), np.diff(flicker, axis=0), atol=0.02)


def test_steady_light_is_none(demo_video) -> None:
    images = demo_video.images
    assert frame_light(images, dis_flow(images, strided_pairs(len(images), STRIDES))) is None


def test_evenly_lit_frames_are_those_of_steady_light(demo_video, gains: np.ndarray) -> None:
    images = relit(demo_video.images, gains)
    mended = evenly_lit(images, gains)
    kept = (images > 0) & (images < 255)
    off = np.abs(mended.astype(int) - demo_video.images)[kept]
    assert off.max() <= 2  # two roundings
    assert (mended[images == 255] == 255).all()


def test_steady_frames_stay_as_they_are(demo_video) -> None:
    assert evenly_lit(demo_video.images, None) is demo_video.images


def test_haze_is_no_gain(demo_video) -> None:
    """Stray light that comes and goes: it adds to all colours alike."""
    images = demo_video.images
    haze = np.linspace(0, 50, len(images))[:, None, None, None]
    hazy = np.clip(np.rint(images * 0.8 + haze), 0, 255).astype(np.uint8)
    assert frame_light(hazy, dis_flow(hazy, strided_pairs(len(images), STRIDES))) is None


def test_no_flow_says_nothing(demo_video) -> None:
    dark = np.zeros_like(demo_video.images[:3])
    assert frame_light(dark, dis_flow(dark, strided_pairs(3, (1,)))) is None
