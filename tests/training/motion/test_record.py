"""What the front end saw of a clip, kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from das3r_ns.demo.varied import write_clip
from das3r_ns.errors import Das3rError
from das3r_ns.frontend.geometric.head.views import CONTEXT, MAPS
from das3r_ns.training.motion import record
from das3r_ns.training.motion.clips import record_drawn, split
from das3r_ns.training.motion.config import MotionTrainingConfig
from das3r_ns.training.motion.evaluate import evaluate, of_rules
from das3r_ns.training.motion.record import Record, Sample, save_samples
from das3r_ns.video.image_folder import images_in, read_image


def _flat(truth: np.ndarray, relative: np.ndarray) -> Sample:
    maps = np.zeros((len(MAPS), *truth.shape), np.uint8)
    return Sample(maps, relative.astype(np.float16), truth, np.zeros(len(CONTEXT), np.float32))


def test_a_drawn_clip_is_kept_as_the_front_end_saw_it(tmp_path: Path) -> None:
    file = tmp_path / "clips/0.npz"
    config = MotionTrainingConfig(tmp_path, frames=5, size=128)
    record_drawn(3, config, file)
    kept = Record(file)
    assert len(kept) == 5 and [path.name for path in file.parent.iterdir()] == ["0.npz"]
    write_clip(tmp_path / "drawn", 3, 5, 128, 72)
    masks = [read_image(path)[..., 0] for path in images_in(tmp_path / "drawn/masks")]
    seen = [kept.frame(t) for t in range(5)]
    for sample, mask in zip(seen, masks, strict=True):
        assert sample.maps.shape == (len(MAPS), 72, 128) and sample.maps.dtype == np.uint8
        assert sample.relative.shape == (72, 128)
        np.testing.assert_array_equal(sample.truth, mask)
    assert np.stack([sample.maps for sample in seen]).any(axis=(0, 2, 3)).sum() > 15


def test_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_samples([_flat(np.zeros((8, 8), np.uint8), np.zeros((8, 8)))], tmp_path / "a.npz")
    monkeypatch.setattr(record, "VERSION", "9.9")
    with pytest.raises(Das3rError, match="recorded by another version"):
        Record(tmp_path / "a.npz")


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(path: Path, **parts: np.ndarray) -> None:
        path.write_bytes(b"a part")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", fill)
    with pytest.raises(Das3rError, match=r"cannot be written to .*a\.npz: .*No space left"):
        save_samples([_flat(np.zeros((8, 8), np.uint8), np.zeros((8, 8)))], tmp_path / "a.npz")
    assert not list(tmp_path.iterdir())


def test_scores(tmp_path: Path) -> None:
    truth = np.zeros((10, 10), np.uint8)
    truth[:5] = 255
    found = np.zeros((10, 10))
    found[:4] = 1.0
    found[4, :5] = 1.0
    found[9, 0] = 0.51  # a speck, left out
    nothing = np.zeros((10, 10), np.uint8)
    save_samples([_flat(truth, found), _flat(nothing, found)], tmp_path / "a.npz")
    scores = evaluate([Record(tmp_path / "a.npz")], of_rules)
    assert scores.j == pytest.approx(0.9) and scores.still == pytest.approx(0.45)
    assert scores.false_alarms == pytest.approx(0.225)
    assert evaluate([Record(tmp_path / "a.npz")], of_rules, every=2).still == 0.0


def test_split_holds_out_whole_clips(tmp_path: Path) -> None:
    for number in range(6):
        save_samples([_flat(np.zeros((8, 8), np.uint8), np.zeros((8, 8)))], tmp_path / f"{number}.npz")
    records = [Record(file) for file in sorted(tmp_path.iterdir())]
    training, held_out = split(records, 0.3, 0)
    assert len(held_out) == 2 and {r.file for r in training} | {r.file for r in held_out} == {r.file for r in records}
    assert [len(part) for part in split(records, 0.001, 0)] == [5, 1]
    assert [len(part) for part in split(records, 0.999, 0)] == [1, 5]
