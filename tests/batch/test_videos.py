"""Files, folders, patterns and manifests, and what is refused in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from das3r_ns.batch.videos import VideoOptions, find_videos
from das3r_ns.errors import Das3rError


def names(*named: Path | str) -> list[str]:
    return [video.name for video in find_videos([str(name) for name in named])]


def test_a_folder_of_videos_a_video_and_a_pattern_name_the_same(clips: Path) -> None:
    assert names(clips) == ["ape", "bee", "cow", "dog"]
    assert names(clips / "*") == ["ape", "bee", "cow", "dog"]
    assert names(clips / "cow", clips / "[ab]*") == ["cow", "ape", "bee"]


def test_a_folder_of_frames_is_called_by_the_one_it_lies_in(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "sets/one").mkdir(parents=True)
    (clips / "ape").rename(tmp_path / "sets/one/frames")
    assert names(tmp_path / "sets/one/frames") == names(tmp_path / "sets/one") == names(tmp_path / "sets") == ["one"]


def test_files_are_called_by_their_stem(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.mov", "notes.txt", ".hidden.mp4"):
        (tmp_path / name).touch()
    assert names(tmp_path) == ["a", "b"]


def test_a_thumbnail_beside_films_is_no_frame(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.mov", "poster.jpg"):
        (tmp_path / name).touch()
    assert names(tmp_path) == ["a", "b"]
    for name in ("b.mp4", "a.mov"):
        (tmp_path / name).unlink()
    assert names(tmp_path) == [tmp_path.name], "the front end says what is wrong with a single frame"


@pytest.mark.parametrize("column", ["masks_dir", "known_poses", "known_lens", "fixed_mask", "motion_weights"])
def test_paths_of_a_manifest_start_at_its_folder(clips: Path, column: str) -> None:
    manifest = clips / "list.yaml"
    manifest.write_text(f"- {{video: ape, {column}: of/ape}}\n")
    assert find_videos([str(manifest)])[0].front_end == {column: str(clips / "of/ape")}


def test_a_csv_manifest_has_options_for_each(clips: Path) -> None:
    manifest = clips / "list.csv"
    manifest.write_text(
        "video,name,preset,known-focal,masks,format,stereo\nape,first,das3r,512.5,,colmap points,\nbee,,,,given,,no\n"
    )
    first, second = find_videos([str(manifest)], VideoOptions(max_num_iterations=7), {"long_side": 200})
    assert (first.name, first.data) == ("first", clips / "ape")
    assert (first.options.preset, first.options.format) == ("das3r", ("colmap", "points"))
    assert first.options.max_num_iterations == second.options.max_num_iterations == 7
    assert first.front_end == {"long_side": 200, "known_focal": 512.5}
    assert second.name == "bee" and second.options.preset is None
    assert second.settings().masks == "given" and second.settings().stereo is False
    assert first.settings().long_side == 200


def test_a_yaml_manifest_has_defaults(clips: Path) -> None:
    manifest = clips / "list.yaml"
    manifest.write_text(
        "defaults: {preset: das3r-light, max_num_iterations: 9}\n"
        "videos:\n  - ape\n  - {video: bee, max_num_iterations: 3, masks: given, masks_dir: cow}\n"
    )
    ape, bee = find_videos([str(manifest)])
    assert (ape.options.max_num_iterations, bee.options.max_num_iterations) == (9, 3)
    assert ape.settings().long_side == 480  # the preset's
    assert bee.front_end["masks_dir"] == str(clips / "cow")
    manifest.write_text("- ape\n- video: bee\n")
    assert names(manifest) == ["ape", "bee"]


@pytest.mark.parametrize(
    ("suffix", "text", "reason"),
    [
        (".csv", "video,sped\nape,3\n", "line 2.*option sped, which there is not"),
        (".csv", "video\nape,3\n", "more cells than columns"),
        (".csv", "name\nape\n", "names no video"),
        (".csv", "video\n", "names no video"),
        (".csv", "video,max_frames\nape,many\n", "line 2.*'max_frames' to 'many'"),
        (".csv", "video,preset\nape,best\n", "'preset' to 'best'"),
        (".csv", "video,name\nape,../out\n", "none of a folder"),
        (".yaml", "videos: 3", "no list of videos"),
        (".yaml", "[}", "cannot be read"),
        (".yaml", "- {video: gnu}", "gnu, which does not exist"),
        (".yaml", "- 3", "no video"),
    ],
)
def test_a_bad_manifest_is_refused_by_name(clips: Path, suffix: str, text: str, reason: str) -> None:
    manifest = clips / f"list{suffix}"
    manifest.write_text(text)
    with pytest.raises(Das3rError, match=f"(?s)list{suffix}.*{reason}"):
        find_videos([str(manifest)])


def test_two_videos_of_one_name_are_refused(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "ape.mp4").touch()
    with pytest.raises(Das3rError, match=r"Two videos have the name ape: .*clips/ape and .*ape\.mp4.*manifest"):
        names(clips, tmp_path / "ape.mp4")


def test_what_is_not_there_is_refused(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for named, reason in (
        (clips / "gnu", "does not exist"),
        (clips / "*.mp4", "Nothing matches"),
        (tmp_path / "empty", "neither frames nor videos"),
    ):
        with pytest.raises(Das3rError, match=reason):
            names(named)
    with pytest.raises(Das3rError, match="No video is named"):
        names()
