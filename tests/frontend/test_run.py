"""From a video to a prepared scene: computed once, then read."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from das3r_ns.errors import Das3rError
from das3r_ns.frontend import run
from das3r_ns.frontend.choice import FrontEnd
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.geometric.head.network import MotionHead
from das3r_ns.frontend.geometric.head.views import CONTEXT, MAPS
from das3r_ns.frontend.geometric.head.weights import save_head
from das3r_ns.frontend.report.write import write_video
from das3r_ns.progress import Progress
from das3r_ns.scene import cache
from das3r_ns.video.video_file import VideoFile

CONFIG = FrontEndConfig(long_side=160)


@pytest.fixture()
def data(demo_video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the demo's frames, and a cache folder of its own for the user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    shutil.copytree(demo_video.folder / "frames", tmp_path / "video")
    return tmp_path / "video"


def test_the_front_end_runs_once(data: Path, demo_video, oracle_front_end: list[int]) -> None:
    first = run.load_or_estimate(data, CONFIG)
    progress = Progress()
    second = run.load_or_estimate(data, CONFIG, progress)
    assert oracle_front_end == [12]
    (entry,) = (path for path in (data / ".das3r").iterdir() if path.is_dir())
    assert first.cache_dir == second.cache_dir == entry
    assert "read from" in progress.messages[-2]
    assert progress.messages[-1].startswith("Verdict on the cameras")
    for scene in (first, second):
        np.testing.assert_array_equal(scene.estimate.depth, demo_video.estimate.depth)
        assert scene.estimate.frame_names == [f"{i:05d}.png" for i in range(12)]
        assert scene.original_size == (160, 90)
        assert scene.fps == 24
        np.testing.assert_array_equal(cv2.imread(str(scene.image_paths[7]))[..., ::-1], demo_video.images[7])


def test_the_head_is_another_result_and_bad_weights_are_said_at_once(
    data: Path, tmp_path: Path, oracle_front_end: list[int]
) -> None:
    rules = run.load_or_estimate(data, CONFIG)
    weights = tmp_path / "head.safetensors"
    head = dataclasses.replace(CONFIG, motion="head", motion_weights=weights)
    with pytest.raises(Das3rError, match=r"head\.safetensors, are not there \(--motion-weights\)"):
        run.load_or_estimate(data, head)
    weights.write_bytes(b"no weights")
    with pytest.raises(Das3rError, match="damaged or no safetensors"):
        run.load_or_estimate(data, head)
    assert len(oracle_front_end) == 1
    network = MotionHead(len(MAPS), len(CONTEXT)).state_dict()
    keys = {rules.cache_dir.name}
    for seed in range(2):
        save_head(network, {"seed": seed}, weights)
        keys.add(run.load_or_estimate(data, head).cache_dir.name)
    assert len(keys) == len(oracle_front_end) == 3


def test_provenance_says_what_ran_and_how_long(data: Path, oracle_front_end: list[int]) -> None:
    progress = Progress()
    provenance = run.load_or_estimate(data, CONFIG, progress).estimate.provenance
    assert provenance["oracle"] is True
    assert provenance["front_end"] == "geometric"
    assert provenance["settings"]["long_side"] == 160
    assert "Decoding frames" in provenance["seconds"]
    said = [message for message in provenance["messages"] if message.startswith("Front end: geometric (")]
    assert len(said) == 1 and said[0] in progress.messages


def test_what_is_found_to_be_fixed_is_said_and_kept(
    data: Path, oracle_front_end: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed = np.zeros((90, 160), bool)
    fixed[72:] = True
    monkeypatch.setattr(run, "find_fixed", lambda images: fixed)
    progress = Progress()
    scene = run.load_or_estimate(data, CONFIG, progress)
    again = run.load_or_estimate(data, CONFIG)
    for estimate in (scene.estimate, again.estimate):
        assert estimate.fixed is not None
        np.testing.assert_array_equal(estimate.fixed, fixed)
        assert estimate.provenance["fixed_share"] == 0.2
    (said,) = (message for message in progress.messages if message.startswith("20.0 % of the picture is fixed"))
    assert "(--fixed-mask)" in said


def test_another_video_or_setting_runs_it_again(data: Path, oracle_front_end: list[int]) -> None:
    run.load_or_estimate(data, CONFIG)
    run.load_or_estimate(data, FrontEndConfig(long_side=160, max_frames=500))
    run.load_or_estimate(data, FrontEndConfig(long_side=160, front_end="geometric"))
    assert len(oracle_front_end) == 1, "a budget that is not reached and the name of what 'auto' takes change nothing"
    run.load_or_estimate(data, FrontEndConfig(long_side=170))
    image = cv2.imread(str(data / "00003.png"))
    cv2.imwrite(str(data / "00003.png"), 255 - image)
    run.load_or_estimate(data, CONFIG)
    assert len(oracle_front_end) == 3


def test_a_new_version_of_the_front_end_runs_again(
    data: Path, oracle_front_end: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    run.load_or_estimate(data, CONFIG)
    newer = FrontEnd("das3r_ns.frontend.geometric.estimate", 10**6, "")
    monkeypatch.setitem(run.FRONT_ENDS, "geometric", newer)
    run.load_or_estimate(data, CONFIG)
    assert len(oracle_front_end) == 2


def test_a_damaged_cache_is_computed_again_with_a_line_that_says_so(data: Path, oracle_front_end: list[int]) -> None:
    directory = run.load_or_estimate(data, CONFIG).cache_dir
    (directory / cache.ESTIMATE).write_bytes(b"PK")
    progress = Progress()
    assert run.load_or_estimate(data, CONFIG, progress).cache_dir == directory
    assert len(oracle_front_end) == 2
    assert "computed again" in progress.messages[0]


def test_a_read_only_folder_is_cached_elsewhere_and_found_there(
    data: Path, tmp_path: Path, oracle_front_end: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    can_write = cache.can_write
    monkeypatch.setattr(cache, "can_write", lambda folder: data not in folder.parents and can_write(folder))
    progress = Progress()
    scene = run.load_or_estimate(data, CONFIG, progress)
    assert scene.cache_dir.parent == tmp_path / "xdg/das3r"
    assert any("cannot be written" in message for message in progress.messages)
    run.load_or_estimate(data, CONFIG)
    assert len(oracle_front_end) == 1
    assert not (data / ".das3r").exists()


def test_a_video_file_is_cached_beside_it(demo_video, tmp_path: Path, oracle_front_end: list[int]) -> None:
    film = tmp_path / "film.mp4"
    write_video(film, iter(demo_video.images), 15)
    scene = run.load_or_estimate(film, CONFIG)
    assert scene.cache_dir.parent == tmp_path / "film.mp4.das3r"
    assert scene.fps == 15
    assert run.load_or_estimate(film, CONFIG).cache_dir == scene.cache_dir
    assert oracle_front_end == [12]


def test_frames_that_do_not_decode_are_left_out_and_named(
    demo_video, tmp_path: Path, oracle_front_end: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    film = tmp_path / "film.mp4"
    write_video(film, iter([*demo_video.images, demo_video.images[0]]), 15)
    decode = VideoFile._decoded
    monkeypatch.setattr(VideoFile, "_decoded", lambda *args: itertools.islice(decode(*args), 12))
    progress = Progress()
    scene = run.load_or_estimate(film, CONFIG, progress)
    assert scene.estimate.frame_names == [f"{i:05d}" for i in range(12)]
    assert any("left out (12)" in message for message in progress.messages)
    assert scene.original_image_paths == scene.image_paths and len(scene.image_paths) == 12  # of the same size


def test_a_full_disk_is_noticed_before_the_front_end_runs(
    data: Path, oracle_front_end: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(data)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(Das3rError, match="too full"):
        run.load_or_estimate(data, CONFIG)
    assert not oracle_front_end


def test_an_interrupted_front_end_leaves_no_entry(
    data: Path, oracle_front_end: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["das3r_ns.frontend.geometric.estimate"], "estimate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run.load_or_estimate(data, CONFIG)
    assert not [path for path in (data / ".das3r").iterdir() if path.is_dir()]


def test_nothing_is_computed_where_the_cache_is_required(data: Path, oracle_front_end: list[int]) -> None:
    with pytest.raises(Das3rError, match="train again"):
        run.load_or_estimate(data, CONFIG, require_cache=True)
    assert not oracle_front_end
    run.load_or_estimate(data, CONFIG)
    assert run.load_or_estimate(data, CONFIG, require_cache=True).estimate.num_frames == 12


def test_a_cached_scene_needs_no_heavy_module(data: Path, oracle_front_end: list[int]) -> None:
    run.load_or_estimate(data, CONFIG)
    program = f"""
import sys
from pathlib import Path
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.run import load_or_estimate
scene = load_or_estimate(Path({str(data)!r}), FrontEndConfig(long_side=160), require_cache=True)
heavy = {{"torch", "nerfstudio", "numba", "scipy", "skimage", "das3r_ns.frontend.geometric.estimate"}}
print(scene.estimate.num_frames, sorted(heavy & set(sys.modules)))
"""
    root = Path(run.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert result.stdout == "12 []\n"


def test_a_working_size_too_small_is_refused(data: Path) -> None:
    with pytest.raises(Das3rError, match="long side of 10"):
        run.load_or_estimate(data, FrontEndConfig(long_side=10))
