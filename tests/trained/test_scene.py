"""A trained run at any frame: the poses are those that its model draws from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from das3r_ns.trained.run import render_training_view
from das3r_ns.trained.scene import TrainedScene


@pytest.mark.parametrize("paper", [False, True])
def test_frames_are_drawn_from_where_training_has_moved_their_cameras(make_trainer, paper: bool) -> None:
    pipeline = make_trainer(paper=paper, parser={"eval_split": "paper"}).pipeline
    model, scene = pipeline.model, TrainedScene(pipeline)
    before = TrainedScene(pipeline).c2w_cv()
    with torch.no_grad():
        shifts = model.pose_trans if paper else model.camera_optimizer.pose_adjustment[:, :3]
        shifts.normal_(0, 0.02)
    moved = np.linalg.norm(scene.c2w_cv()[:, :3, 3] - before[:, :3, 3], axis=1)
    assert moved[5] == 0.0 and np.delete(moved, 5).min() > 0.001  # frame 5 is held out
    for frame, index in ((3, 3), (8, 7)):
        drawn = scene.render(frame, scene.working_size)["rgb"]
        np.testing.assert_allclose(drawn, render_training_view(pipeline, index)["rgb"], atol=2e-3)
