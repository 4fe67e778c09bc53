"""Preprocessing against what the official code makes of pictures of many sizes."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.network.monst3r import PairNetwork
from das3r_ns.frontend.network.monst3r.preprocessing import frame_image, framing, network_input

OFFICIAL = json.loads((Path(__file__).parents[3] / "reference" / "preprocess.json").read_text())
SETTINGS: dict[str, dict] = {
    "size512": {},
    "size512_square_ok": {"square_ok": True},
    "size512_no_crop": {"crop": False},
    "size224": {"size": 224},
}
CASES = [(kind, case) for kind in SETTINGS for case in OFFICIAL[kind]]


def picture(fill: ModuleType, number: int, width: int, height: int) -> np.ndarray:
    """The input picture of a case."""
    image = np.round((fill.image(number, height, width) * 0.5 + 0.5) * 255.0).astype(np.uint8)
    return np.ascontiguousarray(image.transpose(1, 2, 0))


@pytest.mark.parametrize(
    ("kind", "case"), CASES, ids=[f"{kind}-{'x'.join(map(str, case['input_wh']))}" for kind, case in CASES]
)
def test_gives_the_official_pictures(kind: str, case: dict, fill: ModuleType) -> None:
    width, height = case["input_wh"]
    how = framing(width, height, **SETTINGS[kind])
    if "official" in case:  # it crashes there, and gives the cropped size here
        assert how.size == framing(width, height).size == (512, 384)
        return
    image = frame_image(picture(fill, case["image_id"], width, height), how)
    assert list(how.resized) == case["resized_wh"]
    assert how.smooth == (case["interpolation"] == "LANCZOS")
    if how.crop:
        assert list(how.box) == case["crop_box_left_top_right_bottom"]
    else:
        assert list(how.size) == case["second_resize_wh"]
    assert list(how.size) == case["output_wh"] == [image.shape[1], image.shape[0]]
    values = network_input(image[None])
    assert abs(values.double().mean().item() - case["mean_normalised"]) < 1e-6
    if "sample_rgb_uint8" in case:
        np.testing.assert_array_equal(
            image[np.ix_(case["sample_rows"], case["sample_cols"])], np.array(case["sample_rgb_uint8"])
        )


def test_what_comes_out_goes_into_the_network(fill: ModuleType, tiny: PairNetwork) -> None:
    images = np.stack([frame_image(picture(fill, number, 96, 40), framing(96, 40, size=64)) for number in (0, 1)])
    values = network_input(images)
    assert values.shape == (2, 3, 16, 64) and values.min() >= -1.0 and values.max() <= 1.0
    assert tiny.infer_pair(values[:1], values[1:])["conf"].shape == (1, 16, 64)


def test_refuses_frames_that_nothing_is_left_of() -> None:
    with pytest.raises(Das3rError, match="too narrow"):
        framing(2000, 40)
