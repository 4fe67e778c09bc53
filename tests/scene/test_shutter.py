"""Level pictures and those of a rolling shutter: there, back, and to JSON."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from das3r_ns.scene import geometry as geo
from das3r_ns.scene.lens import Lens
from das3r_ns.scene.shutter import Shutter, rolling_message


@pytest.fixture
def shutter() -> Shutter:
    motion = np.zeros((2, 2, 6))
    motion[1, 0], motion[1, 1] = [0.02, 0.01, 0.01, 0.02, 0.05, -0.02], [0, 0, 0, 0.01, 0.02, 0.0]
    return Shutter(0.8, (0.5, 0.3), motion)


def test_rows_move_by_what_the_camera_does_meanwhile(shutter: Shutter) -> None:
    for y in (-0.3, 0.0, 0.2):
        s = 0.8 * y / 0.6
        pose = geo.se3_exp(s * shutter.motion[1, 0] + s**2 * shutter.motion[1, 1])
        moved = pose[:3, :3] @ [0.4, y, 1.0] + pose[:3, 3]
        np.testing.assert_allclose(shutter.to_level(np.array([0.4, y]), 1), moved[:2] / moved[2], atol=1e-4)


def test_back_is_the_way_there_undone(shutter: Shutter) -> None:
    directions = shutter.directions((40, 24))
    np.testing.assert_allclose(shutter.to_filmed(shutter.to_level(directions, 1), 1), directions, atol=1e-6)
    np.testing.assert_array_equal(shutter.to_level(directions, 0), directions)  # a camera that stands


def test_pictures_come_back_as_they_were(shutter: Shutter) -> None:
    noise = np.random.default_rng(0).uniform(0, 255, (12, 20)).astype(np.float32)
    picture = cv2.resize(noise, (200, 120), interpolation=cv2.INTER_CUBIC)
    level = shutter.level_picture(picture, 1, cv2.INTER_CUBIC)
    inside = np.s_[12:-12, 12:-12]
    assert np.abs(level - picture)[inside].mean() > 5
    assert np.abs(shutter.filmed_picture(level, 1, cv2.INTER_CUBIC) - picture)[inside].max() < 3
    # A wider picture that shows the same in its middle, as one that a lens is drawn from.
    wide = cv2.copyMakeBorder(level, 20, 20, 30, 30, cv2.BORDER_REPLICATE)
    matrix = np.array([[0, 0, 30], [0, 0, 20], [0, 0, 0]]) + shutter.matrix((200, 120))
    rolled = shutter.filmed_picture(wide, 1, cv2.INTER_CUBIC, matrix)[20:-20, 30:-30]
    assert np.abs(rolled - picture)[inside].max() < 3


def test_json_makes_the_same_shutter(shutter: Shutter) -> None:
    again = Shutter.from_json(shutter.to_json())
    assert (again.readout, again.view) == (shutter.readout, shutter.view)
    np.testing.assert_array_equal(again.motion, shutter.motion)


def test_the_rows_of_a_lens_are_those_of_its_video(shutter: Shutter) -> None:
    lens = Lens.central((200, 120), 200.0, -0.4)
    rolled = replace(shutter, view=lens.view, lens=lens)
    filmed = np.array([190.0, 110.0])
    s = 0.8 * (110.0 / 120 - 0.5)
    pose = geo.se3_exp(s * shutter.motion[1, 0] + s**2 * shutter.motion[1, 1])
    x, y = lens.undistort(filmed)
    moved = pose[:3, :3] @ [x, y, 1.0] + pose[:3, 3]
    np.testing.assert_allclose(rolled.to_level(lens.undistort(filmed), 1), moved[:2] / moved[2], atol=1e-4)
    directions = rolled.directions(lens.pinhole_size)
    np.testing.assert_allclose(rolled.to_filmed(rolled.to_level(directions, 1), 1), directions, atol=1e-6)
    again = Shutter.from_json(rolled.to_json())
    assert again.lens == lens
    np.testing.assert_array_equal(again.to_level(directions, 1), rolled.to_level(directions, 1))


def test_says_how_long_it_takes(shutter: Shutter) -> None:
    assert "0.80 of the frame time," in rolling_message(shutter)
    assert "from the last row to the first" in rolling_message(Shutter(-0.5, shutter.view, shutter.motion))
