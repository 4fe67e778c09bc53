"""What ``das3r masks`` writes of a clip whose shutter rolls."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from das3r_ns.frontend.prepared import PreparedScene
from das3r_ns.frontend.report.write import export_masks
from das3r_ns.progress import Progress
from das3r_ns.scene import cache
from das3r_ns.video import open_clip


def test_masks_roll_as_the_video_does_and_frames_are_level(rolled_video, demo_video, tmp_path: Path) -> None:
    clip = open_clip(rolled_video.frames)
    estimate = dataclasses.replace(rolled_video.estimate, frame_names=clip.names)
    shutter = estimate.shutter
    level = np.stack([shutter.level_picture(one, i, cv2.INTER_CUBIC) for i, one in enumerate(rolled_video.images)])
    entry = cache.save_entry(tmp_path / "cache", "key", estimate, level, 25.0, (160, 90))
    scene = PreparedScene(rolled_video.frames, entry, clip)
    export_masks(scene, tmp_path / "out", Progress())
    for number, probability in enumerate(estimate.dynamic_probability):
        mask = cv2.imread(str(tmp_path / f"out/masks/{number:05d}.png"), cv2.IMREAD_GRAYSCALE) > 127
        np.testing.assert_array_equal(mask, shutter.filmed_picture(probability, number) >= 0.5)
    shown = np.stack([cv2.imread(str(path))[..., ::-1] for path in scene.original_image_paths])

    def distance(pictures: np.ndarray) -> float:
        return np.abs(shown.astype(float) - pictures)[:, 8:-8, 8:-8].mean()

    assert distance(demo_video.images) < 0.5 * distance(rolled_video.images)
