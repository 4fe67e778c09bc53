"""Corners that a lens darkens."""

from __future__ import annotations

import numpy as np
import pytest

from das3r_ns.frontend.geometric.falloff import at, falling, falloff_message, lens_falloff
from das3r_ns.frontend.geometric.flow import dis_flow
from das3r_ns.frontend.pairs import strided_pairs
from das3r_ns.scene import geometry as geo

TRUE = np.array([-0.35, -0.1])


@pytest.fixture(scope="module")
def pairs(demo_video) -> list[tuple[int, int]]:
    return strided_pairs(len(demo_video.images), (1, 2, 4))


def place(demo_video) -> np.ndarray:
    """Of every pixel from the centre, in half diagonals."""
    height, width = demo_video.images.shape[1:3]
    centre = np.array([width, height]) / 2
    return (geo.pixel_centres(height, width) - centre) / np.linalg.norm(centre)


def darkened(images: np.ndarray, logarithm: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(images * np.exp(logarithm)), 0, 255).astype(np.uint8)


def test_dark_corners_are_measured_under_any_light(demo_video, pairs) -> None:
    square = np.square(place(demo_video)).sum(axis=-1)[..., None]
    flicker = np.where(np.arange(len(demo_video.images)) % 2, 0.15, -0.15)[:, None, None, None]
    images = darkened(demo_video.images, TRUE[0] * square + TRUE[1] * square**2 + flicker)
    found = lens_falloff(images, dis_flow(images, pairs))
    assert found is not None and falling(found)
    for far in (0.3, 0.6):
        assert at(found, far) == pytest.approx(at(TRUE, far), abs=0.03)
    assert "% in the corners" in falloff_message(found)


def test_pictures_of_even_light_have_none(demo_video, pairs) -> None:
    assert lens_falloff(demo_video.images, dis_flow(demo_video.images, pairs)) is None


def test_what_is_darker_on_one_side_is_no_falloff(demo_video, pairs) -> None:
    images = darkened(demo_video.images, 0.4 * place(demo_video)[..., :1] - 0.3)
    assert lens_falloff(images, dis_flow(images, pairs)) is None


def test_a_camera_that_stands_does_not_tell(demo_video) -> None:
    square = np.square(place(demo_video)).sum(axis=-1)[..., None]
    images = np.repeat(darkened(demo_video.images[:1], TRUE[0] * square), 4, axis=0)
    assert lens_falloff(images, dis_flow(images, strided_pairs(4, (1, 2)))) is None


def test_no_flow_says_nothing(demo_video) -> None:
    dark = np.zeros_like(demo_video.images[:3])
    assert lens_falloff(dark, dis_flow(dark, strided_pairs(3, (1,)))) is None


@pytest.mark.filterwarnings("error")
def test_two_frames_do_not_tell(demo_video) -> None:
    square = np.square(place(demo_video)).sum(axis=-1)[..., None]
    images = darkened(demo_video.images[[0, 8]], TRUE[0] * square + TRUE[1] * square**2)
    assert lens_falloff(images, dis_flow(images, [(0, 1), (1, 0)])) is None
