"""The frames of a prepared scene, in the sizes that are asked for."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from das3r_ns.frontend import run
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.prepared import ORIGINALS, PreparedScene
from das3r_ns.scene import cache
from das3r_ns.video import open_clip

CONFIG = FrontEndConfig(long_side=160)


def test_frames_at_full_size_are_written_when_asked_for(demo_video, tmp_path: Path, oracle_front_end) -> None:
    (tmp_path / "video").mkdir()
    for number, image in enumerate(demo_video.images):
        large = np.kron(image, np.ones((2, 2, 1), np.uint8))
        cv2.imwrite(str(tmp_path / f"video/{number}.png"), large[..., ::-1])
    scene = run.load_or_estimate(tmp_path / "video", CONFIG)
    assert not (scene.cache_dir / ORIGINALS).exists()
    np.testing.assert_array_equal(cv2.imread(str(scene.image_paths[3]))[..., ::-1], demo_video.images[3])
    paths = run.load_or_estimate(tmp_path / "video", CONFIG).original_image_paths
    assert scene.original_size == (320, 180) and len(paths) == 12
    np.testing.assert_array_equal(cv2.imread(str(paths[3]))[::2, ::2, ::-1], demo_video.images[3])
    assert cache.load_entry(scene.cache_dir, scene.cache_dir.name).estimate.num_frames == 12


def test_a_name_that_is_not_utf_8_has_a_title_that_is(demo_video, tmp_path: Path) -> None:
    entry = cache.save_entry(tmp_path / "cache", "key", demo_video.estimate, demo_video.images, 24.0, (160, 90))
    clip = open_clip(demo_video.folder / "frames")
    for data, title in (
        (tmp_path / os.fsdecode(b"caf\xe9.mp4"), "caf\N{REPLACEMENT CHARACTER}.mp4"),
        (tmp_path / "café" / "frames", "café"),
    ):
        assert PreparedScene(data, entry, clip).title == title
