"""Textures: one picture at several sizes."""

from __future__ import annotations

import numpy as np

from das3r_ns.demo.textures import Texture


def test_another_size_is_the_same_picture_and_takes_no_more_memory() -> None:
    picture = np.random.default_rng(0).random((16, 16, 3)).astype(np.float32)
    texture = Texture(picture, (1.0, 1.0), emission=0.5)
    large = texture.of_size(2.0, 4.0)
    assert (texture.metres, large.metres, large.emission) == ((1.0, 1.0), (2.0, 4.0), 0.5)
    assert large.levels is texture.levels
    u, v, footprint = np.random.default_rng(1).random((3, 50))
    made = Texture(picture, (2.0, 4.0), emission=0.5)
    np.testing.assert_array_equal(large.sample(u, v, footprint), made.sample(u, v, footprint))
