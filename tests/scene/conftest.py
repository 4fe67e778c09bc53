"""What lenses of every model must do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from das3r_ns.scene import geometry as geo
from das3r_ns.scene.lens import Lens


@pytest.fixture()
def check_pictures() -> Callable[[Lens, float, float], None]:
    """Straightens a smooth picture and bends it back: of that ``least`` must be shown, right to ``tolerance``."""

    def check(lens: Lens, least: float, tolerance: float) -> None:
        width, height = lens.size
        x, y = np.moveaxis(geo.pixel_centres(height, width), -1, 0)
        smooth = (0.5 + 0.25 * np.sin(x / 15) + 0.2 * np.cos(y / 12)).astype(np.float32)
        straight = lens.undistorted([smooth])[0]
        assert straight.shape == lens.pinhole_size[::-1]
        at = lens.from_pinhole(geo.pixel_centres(*straight.shape).astype(np.float64))
        expected = 0.5 + 0.25 * np.sin(at[..., 0] / 15) + 0.2 * np.cos(at[..., 1] / 12)
        np.testing.assert_allclose(straight, expected, atol=5e-3)
        back = lens.distorted_picture(straight)
        inside = lens.to_pinhole(geo.pixel_centres(height, width).astype(np.float64))
        shown = ((inside > 1) & (inside < np.array(lens.pinhole_size) - 1)).all(axis=-1)
        assert shown.mean() > least
        np.testing.assert_allclose(back[shown], smooth[shown], atol=tolerance)

    return check
