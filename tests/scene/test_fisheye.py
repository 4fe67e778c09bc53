"""Fisheye lenses: OpenCV's own projection is the truth."""

from __future__ import annotations

import json
import math

import cv2
import numpy as np
import pytest

from das3r_ns.errors import Das3rError
from das3r_ns.scene import geometry as geo
from das3r_ns.scene.fisheye import MAX_ANGLE, Fisheye, lens_from_json
from das3r_ns.scene.lens import MAX_STRETCH, Lens

SIZE = (384, 216)
LENSES = {
    "equidistant, 180 degrees along the diagonal": Fisheye(SIZE, 140.0, 140.0, 192.0, 108.0),
    "four terms, off the centre": Fisheye(SIZE, 142.0, 144.0, 190.0, 110.0, 0.05, -0.01, k3=0.004, k4=-0.001),
    "folds": Fisheye(SIZE, 190.0, 190.0, 192.0, 108.0, -0.15, k3=-0.01),
    "nearly a pinhole": Fisheye(SIZE, 200.0, 200.0, 192.0, 108.0, 1 / 3, 2 / 15, k3=17 / 315, k4=62 / 2835),
    "long": Fisheye(SIZE, 700.0, 700.0, 192.0, 108.0, 0.02),
}


@pytest.fixture(params=LENSES)
def lens(request) -> Fisheye:
    return LENSES[request.param]


def grid(size: tuple[int, int], step: int = 7) -> np.ndarray:
    return geo.pixel_centres(size[1], size[0])[::step, ::step].astype(np.float64)


def view_of(lens: Lens) -> np.ndarray:
    """Directions over all of the view, its corners and its very middle among them."""
    x, y = (np.linspace(-half, half, 41) for half in lens.view)
    return np.stack(np.meshgrid(x, y), axis=-1)


def test_directions_are_seen_where_opencv_has_them(lens: Fisheye) -> None:
    directions = view_of(lens)
    expected = cv2.fisheye.distortPoints(directions.reshape(-1, 1, 2), lens.matrix, lens.coefficients)
    np.testing.assert_allclose(lens.distort(directions).reshape(-1, 2), expected[:, 0], atol=1e-9)


def test_there_and_back(lens: Fisheye) -> None:
    directions = view_of(lens)
    np.testing.assert_allclose(lens.undistort(lens.distort(directions)), directions, atol=1e-9)
    pixels = grid(lens.pinhole_size)
    np.testing.assert_allclose(lens.to_pinhole(lens.from_pinhole(pixels)), pixels, atol=1e-6)


def test_the_pinhole_picture_shows_only_what_the_video_shows_and_stretches_it_by_the_rule(lens: Fisheye) -> None:
    seen = lens.from_pinhole(grid(lens.pinhole_size, 1))
    assert (seen > 0).all() and (seen < lens.size).all()
    edge = np.array([np.hypot(*lens.view), 0.0])
    near = (lens.distort(edge) - lens.distort(edge - [1e-6, 0.0]))[0] / lens.fx
    assert 1e-6 / near <= MAX_STRETCH * 1.001


def test_the_common_fisheye_ends_where_its_pinhole_stretches_three_times() -> None:
    lens = LENSES["equidistant, 180 degrees along the diagonal"]
    # d tan(theta) / d theta = 1 / cos^2(theta)
    assert lens.max_radius == pytest.approx(math.tan(math.acos(math.sqrt(1 / MAX_STRETCH))), abs=1e-9)
    assert math.hypot(*lens.view) == pytest.approx(lens.max_radius, rel=1e-6)


def test_what_a_pinhole_cannot_show_lies_on_the_edge_of_what_it_can() -> None:
    wide = Fisheye(SIZE, 80.0, 80.0, 192.0, 108.0)  # the corners look 158 degrees away from the axis
    straight = wide.undistort(grid(SIZE, 1))
    assert np.isfinite(straight).all() and np.linalg.norm(straight, axis=-1).max() <= wide.max_radius * (1 + 1e-12)
    assert np.linalg.norm(straight[0, 0]) == pytest.approx(wide.max_radius)
    towards = (np.array([0.5, 0.5]) - [192, 108]) / np.hypot(191.5, 107.5)
    np.testing.assert_allclose(straight[0, 0] / wide.max_radius, towards, atol=1e-12)
    assert wide.beyond.mean() > 0.8
    at_right_angles = wide.distort(np.array([[1e9, 0.0], [0.0, 0.0]]))
    np.testing.assert_allclose(at_right_angles, [[192 + 80 * math.pi / 2, 108], [192, 108]])
    # One that magnifies its edges itself never stretches; it ends short of a right angle.
    tangent = Fisheye(SIZE, 20.0, 20.0, 192.0, 108.0, 0.4, 0.3, k3=0.3, k4=0.3)
    assert tangent.max_radius == pytest.approx(math.tan(MAX_ANGLE))
    assert np.isfinite(tangent.undistort(grid(SIZE))).all()


def test_pictures_there_and_back(lens: Fisheye, check_pictures) -> None:
    check_pictures(lens, 0.3, 1.5e-2)


def test_other_sizes(lens: Fisheye) -> None:
    large = lens.at((768, 432))
    assert isinstance(large, Fisheye) and large.max_radius == lens.max_radius
    directions = view_of(lens)
    np.testing.assert_allclose(large.distort(directions), 2 * lens.distort(directions))


def test_without_bend_it_is_the_picture_of_a_pinhole() -> None:
    lens = LENSES["nearly a pinhole"]  # the series of the tangent
    assert lens.displacement() < 0.02 < LENSES["equidistant, 180 degrees along the diagonal"].displacement()
    assert Fisheye(SIZE, 5000.0, 5000.0, 192.0, 108.0).displacement() < 1e-3


def test_with_its_own_focal_it_is_itself_and_with_others_it_bends_alike(lens: Fisheye) -> None:
    assert lens.seen_with(lens.pinhole * (1 + 1e-14)) is lens
    pixels = grid(lens.pinhole_size)
    for s in (0.9, 0.999, 1.1):
        longer = lens.pinhole * [[s], [s], [1.0]]
        longer[:2, 2] = lens.pinhole[:2, 2]
        other = lens.seen_with(longer)
        assert isinstance(other, Fisheye)
        np.testing.assert_allclose(other.pinhole, longer)
        np.testing.assert_allclose(other.from_pinhole(pixels), lens.from_pinhole(pixels), atol=0.02)


def test_a_focal_that_no_fisheye_model_fits_is_refused() -> None:
    lens = LENSES["equidistant, 180 degrees along the diagonal"]
    shorter = lens.pinhole * [[0.2], [0.2], [1.0]]
    with pytest.raises(Das3rError, match=r"0\.2 times its own.*--undistort"):
        lens.seen_with(shorter)


def test_json(lens: Fisheye) -> None:
    values = json.loads(json.dumps(lens.to_json()))
    again = lens_from_json(values)
    assert again == lens and type(again) is Fisheye
    assert lens_from_json(json.loads(json.dumps(lens.at((100, 56)).to_json()))) == lens.at((100, 56))


def test_json_of_other_lenses_and_of_earlier_files() -> None:
    lens = Lens(SIZE, 300.0, 310.0, 188.0, 111.0, -0.05, 0.01, 0.001, -0.002)
    values = json.loads(json.dumps(lens.to_json()))
    assert lens_from_json(values) == lens and type(lens_from_json(values)) is Lens
    del values["model"]
    assert lens_from_json(values) == lens
    with pytest.raises(KeyError):
        lens_from_json({**values, "model": "FOV"})
