"""Every mistake a user can make with the input: one paragraph, no traceback, a non-zero exit, and at once."""

from __future__ import annotations

import dataclasses
import importlib
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import tyro
from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion
from nerfstudio.scripts import train

from das3r_ns.errors import Das3rError
from das3r_ns.presets import trainer_config
from das3r_ns.scene import cache

SECONDS = 20.0
"""What a user may wait for the answer, nerfstudio's own start included."""


def write_frames(folder: Path, count: int, size: tuple[int, int] = (96, 64), suffix: str = "jpg") -> Path:
    """A folder of noise pictures."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        picture = rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number:03d}.{suffix}"), picture)
    return folder


def missing(folder: Path) -> Path:
    return folder / "no" / "such" / "video.mp4"


def empty(folder: Path) -> Path:
    return folder


def other_files(folder: Path) -> Path:
    (folder / "notes.txt").write_text("hello")
    return folder


def single_image(folder: Path) -> Path:
    return write_frames(folder, 1)


def one_damaged(folder: Path) -> Path:
    write_frames(folder, 6)
    damaged = folder / "003.jpg"
    damaged.write_bytes(damaged.read_bytes()[:200])
    return folder


def one_is_empty(folder: Path) -> Path:
    write_frames(folder, 6)
    (folder / "002.jpg").write_bytes(b"")
    return folder


def mixed_sizes(folder: Path) -> Path:
    write_frames(folder, 5)
    cv2.imwrite(str(folder / "004.jpg"), np.zeros((80, 80, 3), np.uint8))
    return folder


def too_small(folder: Path) -> Path:
    return write_frames(folder, 5, (20, 16))


def a_strip(folder: Path) -> Path:
    """Wider than flow over the whole of it can be, and so long that a first look at it ended the process."""
    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.integers(0, 255, (34, 1020, 3)).astype(np.uint8), (0, 0), 2)
    for number in range(4):
        cv2.imwrite(str(folder / f"{number}.png"), np.ascontiguousarray(wide[:, 4 * number : 4 * number + 1000]))
    return folder


def text_as_video(folder: Path) -> Path:
    path = folder / "film.mp4"
    path.write_text("this is no video\n" * 50)
    return path


def cut_off_video(folder: Path) -> Path:
    path = folder / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height = 96, 64
        for number in range(20):
            picture = np.full((64, 96, 3), 10 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    path.write_bytes(path.read_bytes()[:400])  # the index at the end is gone
    return path


def sound_only(folder: Path) -> Path:
    path = folder / "song.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    return path


CASES = [
    (missing, r"no/such/video\.mp4 does not exist"),
    (empty, "no images|no frames|holds no|No "),
    (other_files, "no images|no frames|holds no|No "),
    (single_image, "single frame"),
    (one_damaged, r"003\.jpg cannot be read"),
    (one_is_empty, r"002\.jpg cannot be read"),
    (mixed_sizes, r"differ in size.*004\.jpg"),
    (too_small, "too small"),
    (a_strip, "1000 x 34 pixels.*less extreme shape"),
    (text_as_video, r"film\.mp4 is not a video"),
    (cut_off_video, r"film\.mp4"),
    (sound_only, r"song\.wav"),
]


def ns_train(data: Path | None, output_dir: Path, **dataparser: object) -> str:
    """What `ns-train das3r-light` does, in this process; returns what it leaves with."""
    config = trainer_config("das3r-light")
    config.data, config.output_dir = data, output_dir
    config.max_num_iterations = 1  # where the error does not come, the test shall fail at once
    parser = config.pipeline.datamanager.dataparser  # pyright: ignore[reportAttributeAccessIssue]
    for key, value in dataparser.items():
        setattr(parser, key, value)
    with pytest.raises(SystemExit) as left:
        train.main(config)
    # Python prints a code that is text to stderr, and leaves with 1.
    assert isinstance(left.value.code, str)
    assert left.value.__suppress_context__ or left.value.__context__ is None
    return left.value.code


def assert_one_paragraph(message: str) -> None:
    paragraph = message.strip()
    assert paragraph.startswith("error: ")
    assert "\n" not in paragraph
    assert 40 < len(paragraph) < 700


@pytest.mark.parametrize(("write", "expected"), CASES, ids=[write.__name__ for write, _ in CASES])
def test_an_unusable_video(write: Callable[[Path], Path], expected: str, tmp_path: Path) -> None:
    folder = tmp_path / "video"
    folder.mkdir()
    message = ns_train(write(folder), tmp_path / "outputs")
    assert_one_paragraph(message)
    assert re.search(expected, message)
    assert str(folder) in message


def test_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in a script nor on the command line."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        train.main(tyro.cli(AnnotatedBaseConfigUnion, args=["das3r-light"]))
    for message in (ns_train(None, tmp_path / "outputs"), str(left.value.code)):
        assert_one_paragraph(message)
        assert "--data" in message


@pytest.mark.parametrize(
    ("name", "value", "expected"), [("max_frames", 1, "max-frames"), ("long_side", 10, "long-side")]
)
def test_an_impossible_setting(name: str, value: int, expected: str, tmp_path: Path) -> None:
    front_end = dataclasses.replace(
        trainer_config("das3r-light").pipeline.datamanager.dataparser.front_end,  # pyright: ignore[reportAttributeAccessIssue]
        **{name: value},
    )
    message = ns_train(write_frames(tmp_path / "video", 3), tmp_path / "outputs", front_end=front_end)
    assert_one_paragraph(message)
    assert expected in message


def test_a_split_the_video_is_too_short_for(tmp_path: Path) -> None:
    """Said before the front end runs, not after."""
    message = ns_train(write_frames(tmp_path / "video", 4), tmp_path / "outputs", eval_split="paper")
    assert_one_paragraph(message)
    assert "only 4 frames" in message


def test_a_checkpoint_whose_cache_is_gone(tmp_path: Path) -> None:
    """What ns-viewer and ns-export say, for they never run the front end."""
    message = ns_train(write_frames(tmp_path / "video", 3), tmp_path / "outputs", require_cache=True)
    assert_one_paragraph(message)
    assert "train again" in message


def test_nothing_static(demo_video, oracle_front_end, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not `import ... as`, which takes the attribute of the package: that is the real front end once any test used it.
    front_end = importlib.import_module("das3r_ns.frontend.geometric.estimate")
    estimate = front_end.estimate
    everything = np.ones_like(demo_video.estimate.dynamic_probability)
    monkeypatch.setattr(
        front_end, "estimate", lambda *args: dataclasses.replace(estimate(*args), dynamic_probability=everything)
    )
    message = ns_train(demo_video.folder / "frames", tmp_path / "outputs")
    assert_one_paragraph(message)
    assert "moves" in message


def test_nowhere_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "can_write", lambda folder: False)
    message = ns_train(write_frames(tmp_path / "video", 3), tmp_path / "outputs")
    assert_one_paragraph(message)
    assert "XDG_CACHE_HOME" in message


def test_a_file_where_the_outputs_should_go(tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("in the way")
    message = ns_train(write_frames(tmp_path / "video", 3), tmp_path / "outputs")
    assert_one_paragraph(message)
    assert "--output-dir" in message


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "estimate_bytes", lambda *_: 10**18)
    message = ns_train(write_frames(tmp_path / "video", 3), tmp_path / "outputs")
    assert_one_paragraph(message)
    assert "too full" in message


def test_the_error_is_still_ours_for_those_who_catch_it(tmp_path: Path) -> None:
    parser = trainer_config("das3r-light").pipeline.datamanager.dataparser  # pyright: ignore[reportAttributeAccessIssue]
    parser.data = tmp_path / "none"
    with pytest.raises(Das3rError, match="does not exist"):
        parser.setup().get_dataparser_outputs("train")


def test_the_real_command(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ns-train")), "das3r-light", "--data", "no_such_video.mp4"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert_one_paragraph(done.stderr[done.stderr.rindex("error: ") :])
    # CPU seconds: the tests may share the machine with others.
    assert after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime < SECONDS
