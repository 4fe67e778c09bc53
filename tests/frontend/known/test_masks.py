"""Masks of the user's own: found, matched, read, and refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.known.knowledge import Known, find_knowledge
from das3r_ns.frontend.known.masks import find_masks, masks_beside, read_masks
from das3r_ns.video import open_clip
from das3r_ns.video.clip import Clip

SIZE = (160, 90)


def write_masks(folder: Path, truth: np.ndarray, names: list[str] | None = None) -> Path:
    folder.mkdir(parents=True)
    for number, mask in enumerate(truth):
        name = names[number] if names else f"{number:05d}.png"
        cv2.imwrite(str(folder / name), np.where(mask > 0.5, 255, 0).astype(np.uint8))
    return folder


@pytest.fixture()
def clip(demo_video, tmp_path: Path) -> Clip:
    """The demo's frames alone, under names of their own."""
    (tmp_path / "video").mkdir()
    for path in (demo_video.folder / "frames").iterdir():
        shutil.copy(path, tmp_path / f"video/shot_{path.name}")
    return open_clip(tmp_path / "video")


@pytest.fixture()
def truth(demo_video) -> np.ndarray:
    return demo_video.estimate.dynamic_probability


def read(clip: Clip, folder: Path, all_frames: bool = True) -> np.ndarray:
    return read_masks(find_masks(clip, folder, all_frames=all_frames), SIZE)


@pytest.mark.parametrize("name", ["shot_{:05d}.png", "shot_{:05d}.png.png", "{:05d}.png", "{}.png"])
def test_masks_are_matched_by_name_or_number_and_read_exactly(
    clip: Clip, truth: np.ndarray, tmp_path: Path, name: str
) -> None:
    folder = write_masks(tmp_path / "mine", truth, [name.format(i) for i in range(12)])
    np.testing.assert_array_equal(read(clip, folder), truth)


def test_numbered_masks_of_a_thinned_video_count_its_frames_or_the_ones_used(clip: Clip, truth, tmp_path: Path) -> None:
    thinned = open_clip(clip.path, 5)
    used = truth[thinned.indices]
    assert thinned.indices != list(range(5))
    np.testing.assert_array_equal(read(thinned, write_masks(tmp_path / "all", truth)), used)
    np.testing.assert_array_equal(read(thinned, write_masks(tmp_path / "used", used)), used)


def test_one_picture_is_the_mask_of_all_frames(clip: Clip, truth: np.ndarray, tmp_path: Path) -> None:
    folder = write_masks(tmp_path / "mine", truth[3:4], ["bonnet.png"])
    np.testing.assert_array_equal(read(clip, folder / "bonnet.png"), np.tile(truth[3], (12, 1, 1)))
    joined = find_knowledge(clip, FrontEndConfig(masks="joined", masks_dir=folder / "bonnet.png"))
    assert joined.messages[0] == f"Masks: {folder / 'bonnet.png'} for all frames, joined with what is found to move."
    given = joined.load(clip.names, SIZE, lambda _: None).masks
    assert given is not None and np.array_equal(given[7], truth[3])
    with pytest.raises(Das3rError, match=r"None of the 1 masks .*name the file itself"):
        find_masks(clip, folder, all_frames=True)


def test_any_kind_of_picture_will_do(clip: Clip, truth: np.ndarray, tmp_path: Path) -> None:
    moves = truth > 0.5
    white = np.where(moves, 255, 0).astype(np.uint8)
    kinds = {
        "grey16": [Image.fromarray(m.astype(np.uint16) * 257) for m in white],
        "rgb": [Image.fromarray(np.repeat(m[..., None], 3, -1)) for m in white],
        "rgba": [Image.fromarray(np.dstack([np.full_like(m, 255)] * 3 + [m])) for m in white],
        "bits": [Image.fromarray(m).convert("1") for m in white],
        "labels": [Image.fromarray(np.dstack([m // 2, 0 * m, 0 * m])).quantize(4) for m in white],
        "twice": [Image.fromarray(np.kron(m, np.ones((2, 2), np.uint8))) for m in white],
        "half": [Image.fromarray(m[::2, ::2]) for m in white],
    }
    for kind, pictures in kinds.items():
        (tmp_path / kind).mkdir()
        for i, picture in enumerate(pictures):
            picture.save(tmp_path / kind / f"shot_{i:05d}.png")
        found = read(clip, tmp_path / kind)
        assert found.shape == truth.shape and found.dtype == np.float32
        assert ((found > 0.5) == moves).mean() > (0.98 if kind == "half" else 0.9999), kind


def test_soft_masks_are_probabilities(clip: Clip, tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 65535, 160).astype(np.uint16), (90, 1))
    (tmp_path / "soft").mkdir()
    for i in range(12):
        cv2.imwrite(str(tmp_path / f"soft/{i}.png"), ramp)
    np.testing.assert_allclose(read(clip, tmp_path / "soft")[3], ramp / 65535, atol=1 / 255)


def test_masks_beside_the_frames_are_found_and_only_there(demo_video, tmp_path: Path) -> None:
    room = tmp_path / "room"
    shutil.copytree(demo_video.folder, room)
    assert masks_beside(open_clip(room)) == masks_beside(open_clip(room / "frames")) == room / "masks"
    shutil.move(room / "masks", room / "frames/masks")
    assert masks_beside(open_clip(room / "frames")) == room / "frames/masks"
    shutil.move(room / "frames", room / "shots")
    shutil.move(room / "shots/masks", room / "masks")
    assert masks_beside(open_clip(room / "shots")) is None, "any folder may lie beside any other"


def test_missing_masks_are_named_or_left_to_be_found(clip: Clip, truth: np.ndarray, tmp_path: Path) -> None:
    folder = write_masks(tmp_path / "mine", truth, [f"shot_{i:05d}.png" for i in range(12)])
    for i in (4, 7):
        (folder / f"shot_{i:05d}.png").unlink()
    with pytest.raises(Das3rError, match=r"10 masks for 12 frames; none for shot_00004.png, shot_00007.png"):
        read(clip, folder)
    found = read(clip, folder, all_frames=False)
    assert np.isnan(found[[4, 7]]).all() and np.isfinite(np.delete(found, [4, 7], 0)).all()
    predicted = np.full_like(truth, 0.25)
    joined = Known(masks=found, joins=True).with_masks(predicted)
    np.testing.assert_array_equal(joined[4], predicted[4])
    np.testing.assert_array_equal(joined[3], np.maximum(truth[3], 0.25))
    np.testing.assert_array_equal(Known(masks=truth).with_masks(predicted), truth)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: shutil.rmtree(folder), "does not exist"),
        (lambda folder: [file.unlink() for file in folder.iterdir()], "holds no masks"),
        (lambda folder: (folder / "00011.png").unlink(), "None of the 11 masks"),
        (lambda folder: (folder / "00002.png").write_bytes(b"\x89PNG\r\n"), "00002.png cannot be read"),
        (lambda folder: cv2.imwrite(str(folder / "00002.png"), np.zeros((160, 90))), "another shape"),
        (lambda folder: rewrite(folder, lambda mask: mask * 0 + 255), "all white"),
        (lambda folder: rewrite(folder, lambda mask: mask // 255), "largest value is 1 of 255"),
        (lambda folder: rewrite(folder, lambda mask: (mask // 255).astype(np.uint16)), "largest value is 1 of 65535"),
    ],
)
def test_masks_that_cannot_be_meant_are_refused(clip: Clip, truth, tmp_path: Path, spoil, says: str) -> None:
    folder = write_masks(tmp_path / "mine", truth)
    spoil(folder)
    with pytest.raises(Das3rError, match=says) as error:
        read(clip, folder)
    assert "mine" in str(error.value)


def rewrite(folder: Path, change) -> None:
    for file in folder.iterdir():
        cv2.imwrite(str(file), change(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)))


def test_black_and_white_taken_for_each_other_are_remarked_upon(clip: Clip, truth, tmp_path: Path) -> None:
    said: list[str] = []
    read_masks(find_masks(clip, write_masks(tmp_path / "mine", 1 - truth), all_frames=True), SIZE, said.append)
    assert len(said) == 1 and "swap black and white" in said[0]


def test_masks_that_nobody_asked_for_are_not_read_but_mentioned(demo_video, tmp_path: Path) -> None:
    shutil.copytree(demo_video.folder, tmp_path / "room")
    (tmp_path / "room/masks/00003.png").write_bytes(b"no picture")
    knowledge = find_knowledge(open_clip(tmp_path / "room"), FrontEndConfig())
    assert knowledge.masks is None and not knowledge.settings
    assert len(knowledge.messages) == 1
    assert "masks is not used" in knowledge.messages[0] and "--masks given" in knowledge.messages[0]
    with pytest.raises(Das3rError, match="--masks given"):
        find_knowledge(open_clip(tmp_path / "room"), FrontEndConfig(masks_dir=tmp_path / "room/masks"))
    with pytest.raises(Das3rError, match="no masks with"):
        shutil.rmtree(tmp_path / "room/masks")
        find_knowledge(open_clip(tmp_path / "room"), FrontEndConfig(masks="given"))
