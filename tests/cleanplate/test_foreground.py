"""What moves, cut out: over the plate it gives the frame back, and its colours know nothing of the plate."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from jaxtyping import Float

from das3r_ns.cleanplate.foreground import cut_out, foreground, linear_foreground, soft_matte
from das3r_ns.pictures import linear

SIZE = (480, 270)


def psnr(found: np.ndarray, wanted: np.ndarray) -> float:
    """Of values from 0 to 1."""
    return float(-10 * np.log10(np.mean((found - wanted) ** 2)))


@pytest.fixture()
def scene() -> dict[str, Float[np.ndarray, "H W ..."]]:
    """A reddish disk with a soft outline before stripes; a mask that is too wide."""
    x, y = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
    distance = np.hypot(x - 220, y - 140)
    matte = np.clip((80 - distance) / 6 + 0.5, 0, 1)
    stripes = 0.45 + 0.25 * np.sin(x / 10) * np.cos(y / 14)
    plate = np.stack([stripes * 0.6, stripes, stripes * 1.2], axis=-1)
    disk = np.stack([0.8 + 0 * x, 0.2 + 0.0005 * x, 0.15 + 0 * x], axis=-1)
    frame = matte[..., None] * disk + (1 - matte[..., None]) * plate
    scene = {"frame": frame, "plate": plate, "disk": disk, "matte": matte, "moves": (distance < 82).astype(float)}
    return {name: value.astype(np.float32) for name, value in scene.items()} | {"replaced": distance < 90}


def test_the_matte_is_soft_where_the_outline_is(scene) -> None:
    found = soft_matte(scene["frame"], scene["plate"], scene["moves"], scene["replaced"])
    assert np.abs(found - scene["matte"]).mean() < 0.005
    edge = (scene["matte"] > 0.05) & (scene["matte"] < 0.95)
    assert np.abs(found - scene["matte"])[edge].mean() < 0.05
    assert not found[~scene["replaced"]].any()


def test_colours_are_cleaned_of_the_plate(scene) -> None:
    found = cut_out(scene["frame"], scene["plate"], scene["matte"], scene["replaced"])
    edge = (scene["matte"] > 0.2) & (scene["matte"] < 0.95)
    assert np.abs(found.colour - scene["disk"])[edge].mean() < 0.01
    assert np.abs(scene["frame"] - scene["disk"])[edge].mean() > 0.1  # without it the stripes would come along
    assert np.abs(found.matte - scene["matte"]).max() < 1.01 / 255


def test_plate_and_foreground_give_the_frame_back(scene) -> None:
    """Also where the mask misses a shadow and the mover is brighter than any plate makes it."""
    noise = np.random.default_rng(0).normal(scale=0.01, size=scene["frame"].shape)
    frame, plate = (np.rint(np.clip(scene[n] + noise, 0, 1) * 255).astype(np.uint8) for n in ("frame", "plate"))
    frame[200:230, 160:280] //= 3
    frame[120:140, 200:240] = 255
    replaced = (frame != plate).any(axis=-1)
    cut = foreground(frame, plate, scene["moves"], replaced)
    stored = cut.rgba.astype(np.float64) / 255
    alpha = stored[..., 3:]
    again = alpha * stored[..., :3] + (1 - alpha) * plate / 255
    assert psnr(again, frame / 255) > 50
    np.testing.assert_array_equal(stored[~replaced], 0)

    channels = {
        name: value.astype(np.float16) for name, value in linear_foreground(frame, plate, cut.matte, replaced).items()
    }
    light = np.stack([channels[c] for c in "RGB"], axis=-1) + (1 - channels["A"][..., None]) * linear(plate / 255)
    assert psnr(light, linear(frame / 255)) > 50


def test_without_a_mover_there_is_nothing(scene) -> None:
    plate = np.rint(scene["plate"] * 255).astype(np.uint8)
    cut = foreground(plate, plate, np.zeros(plate.shape[:2]), np.zeros(plate.shape[:2], bool))
    assert not cut.rgba.any()
    # Of a mover too thin to have an inside only the outline found before is known.
    thin = np.zeros(plate.shape[:2], np.float32)
    cv2.line(thin, (20, 20), (200, 100), (1.0,), 1)
    assert 0 < soft_matte(scene["frame"], scene["plate"], thin, thin > 0).max() <= 1
