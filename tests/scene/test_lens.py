"""Lenses: OpenCV's own projection is the truth."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from das3r_ns.scene import geometry as geo
from das3r_ns.scene.lens import MAX_STRETCH, Lens

SIZE = (384, 216)
LENSES = {
    "action": Lens.central(SIZE, 0.62 * 384, -0.28, 0.06),
    "phone": Lens.central(SIZE, 300.0, 0.08, -0.05),
    "mild": Lens(SIZE, 300.0, 310.0, 188.0, 111.0, -0.05, 0.01, 0.001, -0.002),
    "folds": Lens.central(SIZE, 0.5 * 384, -0.25),
}


@pytest.fixture(params=LENSES)
def lens(request) -> Lens:
    return LENSES[request.param]


def grid(size: tuple[int, int], step: int = 7) -> np.ndarray:
    return geo.pixel_centres(size[1], size[0])[::step, ::step].astype(np.float64)


def test_pixels_lie_where_opencv_projects_them(lens: Lens) -> None:
    pixels = grid(lens.pinhole_size)
    points = geo.unproject(pixels, np.full(pixels.shape[:2], 3.0), lens.pinhole)
    expected, _ = cv2.projectPoints(points.reshape(-1, 3), np.zeros(3), np.zeros(3), lens.matrix, lens.coefficients)
    np.testing.assert_allclose(lens.from_pinhole(pixels).reshape(-1, 2), expected[:, 0], atol=1e-9)


def test_there_and_back(lens: Lens) -> None:
    pixels = grid(lens.pinhole_size)
    np.testing.assert_allclose(lens.to_pinhole(lens.from_pinhole(pixels)), pixels, atol=1e-3)


def test_the_pinhole_picture_shows_only_what_the_video_shows(lens: Lens) -> None:
    pixels = grid(lens.pinhole_size, 1)
    seen = lens.from_pinhole(pixels)
    assert (seen > 0).all()
    assert (seen < lens.size).all()


def test_the_pinhole_picture_reaches_to_the_edges_of_the_video() -> None:
    lens = LENSES["action"]
    width, height = lens.pinhole_size
    left, top = lens.from_pinhole(np.array([[0.0, height / 2], [width / 2, 0.0]]))
    np.testing.assert_allclose([left[0], top[1]], 0.0, atol=1e-3)
    assert width * height == pytest.approx(lens.size[0] * lens.size[1], rel=0.06)
    assert lens.pinhole[0, 0] == pytest.approx(lens.pinhole[1, 1], rel=0.001)


def test_a_lens_too_wide_for_a_pinhole_is_cropped_where_it_stretches() -> None:
    lens = LENSES["folds"]
    corner = np.hypot(*lens.view)
    assert corner == pytest.approx(lens.max_radius, rel=0.01)
    ends = lens.distort(np.array([[corner - 1e-4, 0.0], [corner + 1e-4, 0.0]])) / lens.fx
    assert 2e-4 / (ends[1, 0] - ends[0, 0]) == pytest.approx(MAX_STRETCH, rel=0.02)


def test_pictures_there_and_back(lens: Lens, check_pictures) -> None:
    check_pictures(lens, 0.4, 1e-2)


def test_colours_and_other_sizes(lens: Lens) -> None:
    image = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    assert lens.undistorted([image, image]).shape == (2, *lens.pinhole_size[::-1], 3)
    large = lens.at((768, 432))
    np.testing.assert_allclose(large.distort(lens.directions[::9, ::9]), 2 * lens.distort(lens.directions[::9, ::9]))
    np.testing.assert_allclose(large.pinhole_size, 2 * np.array(lens.pinhole_size), rtol=0.06)
    assert large.distorted_picture(image[:100, :150]).shape == (432, 768, 3)


def test_no_distortion_is_the_same_picture() -> None:
    lens = Lens.central(SIZE, 250.0)
    image = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    assert lens.displacement() == 0.0
    np.testing.assert_allclose(lens.pinhole, lens.matrix, atol=1e-9)
    np.testing.assert_array_equal(lens.undistorted_picture(image), image)


def test_displacement_is_the_most_that_a_pixel_moves() -> None:
    lens = LENSES["action"]
    r = np.hypot(192, 108) / lens.fx
    assert lens.displacement() == pytest.approx(abs(r**3 * (lens.k1 + lens.k2 * r**2)) * lens.fx / 384)


def test_another_focal_of_the_same_pictures_is_another_lens_of_the_same_bend(lens: Lens) -> None:
    longer = lens.pinhole * [[1.2], [1.2], [1.0]]
    longer[:2, 2] = lens.pinhole[:2, 2]
    other = lens.seen_with(longer)
    np.testing.assert_allclose(other.pinhole, longer)
    pixels = grid(lens.pinhole_size)
    np.testing.assert_allclose(other.from_pinhole(pixels), lens.from_pinhole(pixels), atol=1e-9)
    points = geo.unproject(pixels, np.ones(pixels.shape[:2]), longer).reshape(-1, 3)
    expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), other.matrix, other.coefficients)
    np.testing.assert_allclose(lens.from_pinhole(pixels).reshape(-1, 2), expected[:, 0], atol=1e-9)


def test_a_wider_picture_covers_what_the_pinhole_one_does_not(lens: Lens) -> None:
    (width, height), wider = lens.covering
    x, y = lens.distorted_map(wider @ lens.pinhole)
    assert (x > -0.51).all() and (x < width - 0.49).all() and (y > -0.51).all() and (y < height - 0.49).all()
    assert width * height < 1.1 * MAX_STRETCH * SIZE[0] * SIZE[1]
    x, y = lens.distorted_map(lens.pinhole)
    within = (x > -0.5) & (x < lens.pinhole_size[0] - 0.5) & (y > -0.5) & (y < lens.pinhole_size[1] - 0.5)
    assert (within != lens.beyond).mean() > 0.999


def test_json(lens: Lens) -> None:
    assert Lens.from_json(json.loads(json.dumps(lens.to_json()))) == lens
