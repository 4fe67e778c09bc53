"""What `das3r masks` writes where the lens distorts."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from das3r_ns.frontend.prepared import PreparedScene
from das3r_ns.frontend.report.write import export_masks
from das3r_ns.progress import Progress
from das3r_ns.scene import cache
from das3r_ns.video import open_clip


@pytest.mark.parametrize("kind", ["OPENCV", "OPENCV_FISHEYE"])
def test_masks_and_cameras_are_those_of_the_video(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    bent_video = request.getfixturevalue({"OPENCV": "bent_video", "OPENCV_FISHEYE": "fisheye_video"}[kind])
    clip, size = open_clip(bent_video.frames), (160, 90)
    estimate = dataclasses.replace(bent_video.estimate, frame_names=clip.names)
    entry = cache.save_entry(tmp_path / "cache", "key", estimate, bent_video.images, 25.0, size)
    scene = PreparedScene(bent_video.frames, entry, clip)
    export_masks(scene, tmp_path / "out", Progress())
    lens = estimate.lens
    found = json.loads((tmp_path / "out/intrinsics.json").read_text())
    assert (found["model"], found["width"], found["height"]) == (kind, 160, 90) and "frames" not in found
    assert [found[name] for name in lens.terms] == pytest.approx(lens.coefficients.tolist())
    assert found["fx"] == pytest.approx(lens.fx) and found["cx"] == pytest.approx(80.0)
    for number in (0, 5, 11):
        mask = cv2.imread(str(tmp_path / f"out/masks/{number:05d}.png"), cv2.IMREAD_UNCHANGED)
        soft = cv2.imread(str(tmp_path / f"out/soft/{number:05d}.png"), cv2.IMREAD_UNCHANGED)
        expected = lens.distorted_picture(estimate.dynamic_probability[number])
        np.testing.assert_array_equal(mask == 255, expected >= 0.5)
        np.testing.assert_allclose(soft / 65535, expected, atol=1e-3)
    assert cv2.imread(str(tmp_path / "out/depth/00000.png")).shape == (90, 160, 3)
