"""Clips are found, and what is wrong with them is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from das3r_ns.demo.drawn import places
from das3r_ns.errors import Das3rError
from das3r_ns.training.clips import find_folders, gather_clips, runs
from das3r_ns.training.config import TrainingConfig


def test_frames_and_masks_go_together_at_the_size_of_the_network(config: TrainingConfig, quiet) -> None:
    clips = gather_clips(find_folders(config), config, quiet)
    assert len(clips) == 5 and clips[0].size == (64, 48)
    for number in (0, 5):
        red = clips[0].image(number)[..., 0] > 200
        np.testing.assert_array_equal(red, clips[0].mask(number))


def test_frames_that_are_to_be_shown_turned_are_upright(config: TrainingConfig, quiet) -> None:
    """As a phone held upright writes them; the masks have no such mark."""
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    for frame in sorted((config.data[0] / "some/0/frames").iterdir()):
        upright = PIL.Image.open(frame).transpose(PIL.Image.Transpose.ROTATE_270)
        mask = frame.parents[1] / "masks" / frame.name
        PIL.Image.open(mask).transpose(PIL.Image.Transpose.ROTATE_270).save(mask)
        upright.transpose(PIL.Image.Transpose.ROTATE_90).save(frame, exif=exif)
    clip = gather_clips(find_folders(config), config, quiet)[0]
    assert clip.size == (48, 64)
    np.testing.assert_array_equal(clip.image(2)[..., 0] > 200, clip.mask(2))


def test_links_that_lead_back_are_no_end(config: TrainingConfig) -> None:
    (config.data[0] / "again").symlink_to(config.data[0])
    assert len(find_folders(config)) == 5


@pytest.mark.parametrize(("count", "most", "number"), [(50, 120, 1), (121, 120, 10), (500, 24, 2), (9, 5, 1)])
def test_long_clips_give_runs(count: int, most: int, number: int) -> None:
    cut = runs(count, most)
    assert len(cut) == number and sum(len(run) for run in cut) <= max(most, 0)
    assert cut[0].start == 0 and (number == 1 or cut[-1].stop == count)


def test_clips_are_drawn_once(config: TrainingConfig, quiet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "ROOMS", 1)  # the light of a room takes seconds
    config.data, config.drawn, config.drawn_frames, config.seed = [], 2, 3, 0
    clips = gather_clips(find_folders(config), config, quiet)
    assert [len(clip.frames) for clip in clips] == [3, 3] and clips[0].size == (64, 32)
    again = gather_clips(find_folders(config), config, quiet)
    assert again == clips


def spoil_empty(folder: Path) -> None:
    shutil.rmtree(folder / "some")


def spoil_masks(folder: Path) -> None:
    shutil.rmtree(folder / "some/3/masks")


def spoil_mask(folder: Path) -> None:
    (folder / "some/2/masks/00004.png").unlink()


def spoil_frames(folder: Path) -> None:
    for number in range(1, 6):
        (folder / f"some/1/frames/{number:05d}.png").unlink()


def spoil_size(folder: Path) -> None:
    cv2.imwrite(str(folder / "some/0/frames/00000.png"), np.zeros((20, 30, 3), np.uint8))


def spoil_file(folder: Path) -> None:
    (folder / "some/0/frames/00000.png").write_bytes(b"nonsense")


def spoil_all_but_one(folder: Path) -> None:
    for number in range(1, 5):
        shutil.rmtree(folder / f"some/{number}")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_empty, "holds no clips"),
        (shutil.rmtree, "does not exist"),
        (spoil_masks, r"3/masks lacks the masks of 6 of 6 frames, such as 00000.png"),
        (spoil_mask, r"2/masks lacks the masks of 1 of 6 frames, such as 00004.png"),
        (spoil_frames, r"1/frames holds 1 frames .* groups have 3"),
        (spoil_size, "30 x 20 pixels: too small"),
        (spoil_file, "0/frames/00000.png cannot be read as an image"),
        (spoil_all_but_one, "one clip only"),
    ],
)
def test_what_is_wrong_is_named(spoil, said: str, config: TrainingConfig) -> None:
    spoil(config.data[0])
    with pytest.raises(Das3rError, match=said):
        find_folders(config)


def test_a_frame_of_another_shape_is_named(config: TrainingConfig, quiet) -> None:
    cv2.imwrite(str(config.data[0] / "some/0/masks/00003.png"), np.zeros((64, 64), np.uint8))
    clips = gather_clips(find_folders(config), config, quiet)
    with pytest.raises(Das3rError, match=r"00003.png is 64 x 64 pixels, another shape"):
        clips[0].mask(3)
