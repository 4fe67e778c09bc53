"""Protocols as they are published."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

import pytest

from das3r_ns.errors import Das3rError
from das3r_ns.evaluation import protocols
from das3r_ns.evaluation.protocols import Track, load_protocol, protocol_names


def test_all_protocols_load() -> None:
    assert protocol_names() == ["davis", "folder", "sintel", "tum"]
    for name in protocol_names():
        assert load_protocol(name).layout == name


def test_davis_is_the_val_list_and_the_papers_eight() -> None:
    davis = load_protocol("davis")
    assert len(set(davis.front_end.sequences)) == 20 and len(set(davis.splats.sequences)) == 8
    assert set(davis.splats.sequences) < set(davis.front_end.sequences)
    assert davis.track("splats", "dog").take(60) == list(range(50))
    assert davis.track("front_end", "dog").take(60) == list(range(60))
    assert len(load_protocol("sintel").front_end.sequences) == 14


def test_published_means_are_those_of_the_published_figures() -> None:
    for row in load_protocol("davis").published["psnr_paper"]:
        assert row.mean == pytest.approx(mean(row.values.values()), abs=0.01)


def test_every_third_frame_of_tum() -> None:
    assert Track(num_frames=3, stride=3).take(100) == [0, 3, 6]
    tum = load_protocol("tum")
    assert len(tum.front_end.take(2000)) == 90 and tum.front_end.take(2000)[-1] == 267


def test_a_folder_may_hold_sequences_of_another_protocol() -> None:
    folder = load_protocol("folder")
    assert folder.track("splats", "davis_dog").num_frames == 50
    assert folder.track("splats", "holiday").num_frames is None
    rows = {row.name: row for row in folder.published_rows("psnr_paper", ["davis_dog", "holiday", "davis_parkour"])}
    assert dict(rows["DAS3R (davis)"].values) == {"davis_dog": 28.63, "davis_parkour": 28.09}
    assert rows["DAS3R (davis)"].mean == 25.70
    assert folder.published_rows("psnr_paper", ["holiday"]) == []


def test_an_unknown_protocol_and_a_damaged_one_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Das3rError, match=r"no protocol 'kitti'.*davis"):
        load_protocol("kitti")
    monkeypatch.setattr(protocols, "configs_dir", lambda: tmp_path)
    (tmp_path / "protocols").mkdir()
    unknown_field = "{description: a, layout: tum, splats: {size: 1}}"
    for text in ("layout: davis", "{description: a, layout: b}", "[", unknown_field):
        (tmp_path / "protocols/mine.yaml").write_text(text)
        with pytest.raises(Das3rError, match=r"mine\.yaml"):
            load_protocol("mine")
