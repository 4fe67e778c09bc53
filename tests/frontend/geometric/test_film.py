"""Frames of a clip and what is known of them, cut into runs, straightened and made level together."""

from __future__ import annotations

import numpy as np

from das3r_ns.frontend.geometric.film import Film
from das3r_ns.frontend.known.knowledge import Known
from das3r_ns.scene.shutter import Shutter


def test_a_section_has_its_own_frames_everywhere(demo_video) -> None:
    truth, images = demo_video.estimate, demo_video.images
    large = [np.repeat(image, 2, axis=1) for image in images]
    known = Known(masks=truth.dynamic_probability, size=(160, 90))
    for full_size in (None, lambda: iter(large)):
        part = Film(images, truth.frame_names, known, full_size).section(range(3, 7))
        assert part.names == truth.frame_names[3:7] and part.size == (160, 90)
        np.testing.assert_array_equal(part.images, images[3:7])
        assert part.known.masks is not None
        np.testing.assert_array_equal(part.known.masks, truth.dynamic_probability[3:7])
        np.testing.assert_array_equal(np.stack(list(part.large())), images[3:7] if full_size is None else large[3:7])


def test_all_of_a_film_is_straightened_at_once(bent_video) -> None:
    truth, lens = bent_video.estimate, bent_video.estimate.lens
    fixed = np.zeros(bent_video.images.shape[1:3], bool)
    fixed[-20:] = True
    straight = Film(bent_video.images, truth.frame_names, Known(fixed=fixed)).straight(lens)
    assert straight.size == straight.known.size == lens.pinhole_size and straight.known.undistorted
    assert straight.known.fixed is not None and straight.known.fixed.shape == straight.images.shape[1:3]
    assert straight.known.fixed[-5:].all() and not straight.known.fixed[:40].any()
    np.testing.assert_array_equal(next(straight.large()), straight.images[0])


def test_all_of_a_film_is_made_level_at_once(demo_video) -> None:
    """A camera that turns to the right moves what its later rows see to the left of where its middle row has it."""
    images = demo_video.images
    motion = np.zeros((len(images), 2, 6))
    motion[..., 4] = 0.05
    film = Film(images, demo_video.estimate.frame_names, Known(masks=images[..., 0] / np.float32(255)))
    level = film.level(Shutter(0.5, (0.6, 0.4), motion))
    assert level.known.readout == 0.0 and level.known.masks is not None
    np.testing.assert_array_equal(next(level.large()), level.images[0])
    inside = (slice(None), slice(10, -10), slice(20, -20))
    assert np.abs(level.images[inside].astype(float) - images[inside]).mean() > 1
    np.testing.assert_allclose(level.known.masks[inside], level.images[..., 0][inside] / 255, atol=0.15)
