"""Groups of frames, and what is held out."""

from __future__ import annotations

import dataclasses

import torch

from das3r_ns.training.clips import find_folders, gather_clips
from das3r_ns.training.config import TrainingConfig
from das3r_ns.training.groups import load_batch, plan_epoch, split


def test_every_frame_is_looked_at_in_every_epoch_with_near_ones(config: TrainingConfig, quiet) -> None:
    config = dataclasses.replace(config, reach=3)
    clips = gather_clips(find_folders(config), config, quiet)
    plan = plan_epoch(clips, config, 0)
    groups = [group for batch in plan for group in batch]
    assert {(group.clip.name, frame) for group in groups for frame in group.frames} == {
        (clip.name, frame) for clip in clips for frame in range(6)
    }
    assert all(len(batch) == 4 for batch in plan) and len(groups) == 32
    for group in groups:
        assert len(set(group.frames)) == 3 and max(group.frames) - min(group.frames) <= 3
    assert plan == plan_epoch(clips, config, 0) != plan_epoch(clips, config, 1)


def test_whole_clips_are_held_out(config: TrainingConfig, quiet) -> None:
    config = dataclasses.replace(config, max_frames=3, group_size=2)
    clips = [clip for _ in range(2) for clip in gather_clips(find_folders(config), config, quiet)]
    training, held_out = split(clips, 0.4, 0)
    assert len(training) == 6 and len(held_out) == 4
    assert not {clip.name for clip in training} & {clip.name for clip in held_out}
    assert split(clips, 0.99, 0)[0] and split(clips, 0.01, 0)[1]


def test_pictures_and_masks_are_mirrored_together(config: TrainingConfig, quiet) -> None:
    clips = gather_clips(find_folders(config), config, quiet)
    plan = plan_epoch(clips, config, 0)
    mirrored = 0
    for number, groups in enumerate(plan):
        batch = load_batch(groups, 0, 0, number)
        assert batch.images.shape == (4, 3, 3, 48, 64) and batch.images.abs().max() <= 1
        red = (batch.images[:, :, 0] - batch.images[:, :, 1]) > 0.5
        torch.testing.assert_close(red.float(), batch.masks)
        plain = [torch.from_numpy(group.clip.mask(group.frames[0])).float() for group in groups]
        mirrored += sum(not torch.equal(own, batch.masks[i, 0]) for i, own in enumerate(plain))
        assert torch.equal(batch.images, load_batch(groups, 0, 0, number).images)
    assert 8 < mirrored < 24
