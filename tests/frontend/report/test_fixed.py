"""What `das3r masks` writes where something is fixed to the camera."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import cv2
import numpy as np

from das3r_ns.frontend.prepared import PreparedScene
from das3r_ns.frontend.report.write import export_masks
from das3r_ns.progress import Progress
from das3r_ns.scene import cache
from das3r_ns.scene.binary_masks import MaskSettings
from das3r_ns.video import open_clip


def test_it_is_written_at_the_size_of_the_video_and_is_in_no_mask(demo_video, tmp_path: Path) -> None:
    fixed = np.zeros((90, 160), bool)
    fixed[60:] = True
    moves = np.where(fixed, np.float32(0), demo_video.estimate.dynamic_probability)
    shutil.copytree(demo_video.folder / "frames", tmp_path / "frames")
    clip = open_clip(tmp_path / "frames")
    for number, one in enumerate((fixed, None)):
        estimate = dataclasses.replace(
            demo_video.estimate, frame_names=clip.names, dynamic_probability=moves, fixed=one
        )
        entry = cache.save_entry(tmp_path / f"cache{number}", "key", estimate, demo_video.images, 25.0, (320, 180))
        scene, out = PreparedScene(clip.path, entry, clip), tmp_path / f"out{number}"
        export_masks(scene, out, Progress(), MaskSettings(dilation=4))
        assert (out / "fixed.png").exists() == (one is not None)
    picture = cv2.imread(str(tmp_path / "out0/fixed.png"), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (180, 320)
    assert not picture[:119].any() and (picture[121:] == 255).all()
    mask, larger = (cv2.imread(str(tmp_path / f"out{k}/masks/00005.png"), cv2.IMREAD_UNCHANGED) for k in (0, 1))
    assert mask.any() and not mask[121:].any() and larger[121:].any()
