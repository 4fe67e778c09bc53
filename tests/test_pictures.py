"""PNG and EXR: what is written is read back."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from das3r_ns import pictures
from das3r_ns.errors import Das3rError
from das3r_ns.pictures import check_image_format, linear, read_picture, write_exr, write_picture, write_png

exr = pytest.mark.skipif(importlib.util.find_spec("OpenEXR") is None, reason="OpenEXR is not installed")


def read_exr(path: Path) -> dict[str, np.ndarray]:
    """Channels by OpenEXR's own reader."""
    import OpenEXR

    with OpenEXR.File(str(path), separate_channels=True) as file:
        return {name: np.array(channel.pixels) for name, channel in file.channels().items()}


@exr
def test_an_exr_has_every_level_of_the_picture_in_half_floats(tmp_path: Path) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = np.stack([levels, levels[::-1], levels.T], axis=-1)
    write_picture(tmp_path / "00000", picture, "exr")
    found = read_exr(tmp_path / "00000.exr")
    assert set(found) == set("RGB") and found["R"].dtype == np.float16
    light = np.stack([found[c] for c in "RGB"], axis=-1).astype(np.float64)
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    np.testing.assert_array_equal(np.rint(srgb * 255), picture)
    assert found["G"][0, 0] == pytest.approx(float(linear(np.array(240 / 255))), rel=1e-3)


@exr
def test_masks_are_shares_and_depths_are_depths(tmp_path: Path) -> None:
    write_picture(tmp_path / "mask", np.array([[0, 255], [128, 0]], np.uint8), "exr")
    np.testing.assert_allclose(read_exr(tmp_path / "mask.exr")["Y"], [[0, 1], [128 / 255, 0]], rtol=1e-3)
    write_picture(tmp_path / "soft", np.array([[0, 65535], [32768, 0]], np.uint16), "exr")
    np.testing.assert_allclose(read_exr(tmp_path / "soft.exr")["Y"], [[0, 1], [0.5, 0]], rtol=1e-3)
    write_exr(tmp_path / "depth.exr", {"Z": np.array([[0.25, 123.4], [1e9, 3.0]], np.float32)})
    np.testing.assert_allclose(read_exr(tmp_path / "depth.exr")["Z"], [[0.25, 123.4], [65504, 3.0]], rtol=1e-3)
    write_exr(tmp_path / "map.exr", {"R": np.array([[0.123456]], np.float32)}, half=False)
    assert read_exr(tmp_path / "map.exr")["R"][0, 0] == np.float32(0.123456)


def test_a_png_has_the_levels_themselves(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    write_picture(tmp_path / "a", picture, "png")
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png"))[..., ::-1], picture)


def test_names_that_are_not_utf_8_are_read(tmp_path: Path) -> None:
    """OpenCV's own reader crashes at them."""
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    picture = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    write_png(path, picture)
    found = read_picture(path)
    assert found is not None
    np.testing.assert_array_equal(found, picture)
    grey = read_picture(path, cv2.IMREAD_GRAYSCALE)
    assert grey is not None and grey.shape == (4, 5)


@pytest.mark.parametrize("content", [None, b"", b"not a picture"])
def test_what_is_no_picture_is_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    assert read_picture(tmp_path / "a.png") is None


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures.importlib.util, "find_spec", lambda _: None)
    check_image_format("png")
    with pytest.raises(Das3rError, match=r"pip install 'das3r-ns\[exr\]'"):
        check_image_format("exr")
