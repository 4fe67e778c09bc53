"""What is replaced, and how it is blended in: pictures whose clean plate is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from jaxtyping import Bool, Float

from das3r_ns.cleanplate.composite import blend, exposure_gain, replaced_pixels

HEIGHT, WIDTH = 90, 160


@pytest.fixture()
def clean() -> Float[np.ndarray, "H W 3"]:
    """Smooth clutter."""
    noise = np.random.default_rng(0).random((HEIGHT, WIDTH, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.clip(0.5 + (smooth - smooth.mean()) * 3, 0.1, 0.9)


def box(top: int, left: int, height: int, width: int) -> Bool[np.ndarray, "H W"]:
    """A rectangle."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def noisy(picture: np.ndarray, sigma: float = 0.01) -> np.ndarray:
    """As splats would render it."""
    return (picture + np.random.default_rng(1).normal(scale=sigma, size=picture.shape)).clip(0, 1).astype(np.float32)


def test_what_the_masks_missed_is_replaced_and_what_they_took_along_is_kept(clean: np.ndarray) -> None:
    missed, doubted = box(20, 30, 20, 12), box(50, 110, 16, 16)
    frame = clean.copy()
    frame[missed] = (0.95, 0.05, 0.5)
    weight = np.ones((HEIGHT, WIDTH), np.float32)
    weight[doubted] = 0.3
    replaced = replaced_pixels(weight, noisy(clean), frame)
    assert replaced[missed].all()
    assert replaced[doubted].mean() < 0.1
    assert replaced.mean() < 1.8 * missed.mean()


def test_a_static_frame_is_left_alone(clean: np.ndarray) -> None:
    assert replaced_pixels(np.ones((HEIGHT, WIDTH), np.float32), noisy(clean), clean).mean() < 0.01


def test_a_front_end_that_is_sure_is_believed(clean: np.ndarray) -> None:
    """A mover of much the same colour."""
    mover = box(20, 30, 30, 30)
    frame = clean.copy()
    frame[mover] += 0.05
    weight = np.where(mover, 0.0, 1.0).astype(np.float32)
    assert replaced_pixels(weight, noisy(clean), frame)[mover].mean() > 0.95


@pytest.mark.parametrize("exposure", [0.75, 1.0, 1.25])
def test_the_render_is_brought_to_the_exposure_of_the_frame(clean: np.ndarray, exposure: float) -> None:
    replaced = box(25, 60, 40, 40)
    truth = (exposure * clean).clip(0, 1)
    frame = truth.copy()
    frame[replaced] = 0
    plate = blend(frame, clean, replaced)
    # Outside the ramp, which takes the frame in.
    inner = box(30, 65, 30, 30)
    assert np.abs(plate - truth)[inner].mean() < 0.02
    assert np.abs(clean - truth)[inner].mean() > 0.1 or exposure == 1.0


def test_nothing_outside_changes_and_there_is_no_seam(clean: np.ndarray) -> None:
    replaced = box(25, 60, 40, 40)
    render = (clean + np.float32(0.06)).clip(0, 1)  # off, everywhere
    plate = blend(clean, render, replaced)
    np.testing.assert_array_equal(plate[~replaced], clean[~replaced])
    # A seam is a step that is not in the scene.
    steps = np.abs(np.diff(plate - clean, axis=1)).max()
    hard = np.abs(np.diff(np.where(replaced[..., None], render, clean) - clean, axis=1)).max()
    assert steps < 0.5 * hard


def test_a_shadow_beside_the_mover_is_not_carried_in(clean: np.ndarray) -> None:
    replaced, shadow = box(25, 60, 40, 40), box(65, 60, 8, 40)
    frame = clean.copy()
    frame[shadow] *= 0.6
    gain = exposure_gain(frame, clean, ~replaced)
    assert np.abs(gain[replaced] - 1).mean() < 0.06


def test_a_film_held_upright_is_exposed_like_any_other(clean: np.ndarray) -> None:
    frame, static = clean * np.linspace(0.7, 1.2, WIDTH, dtype=np.float32)[:, None], ~box(25, 60, 40, 40)
    gain = exposure_gain(frame, clean, static)
    upright = exposure_gain(*(np.ascontiguousarray(m.swapaxes(0, 1)) for m in (frame, clean, static)))
    np.testing.assert_allclose(upright.swapaxes(0, 1), gain, atol=1e-4)


def test_no_static_pixel_or_no_moving_one(clean: np.ndarray) -> None:
    everything = np.ones((HEIGHT, WIDTH), bool)
    np.testing.assert_allclose(blend(clean * 0, clean, everything), clean, atol=1e-6)
    assert blend(clean, clean * 0, ~everything) is clean
