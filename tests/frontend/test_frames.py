"""Which frames the front end gets: told once, kept beside the results, without decoding a short film twice."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.frames import find_frames
from das3r_ns.frontend.known.masks import find_masks
from das3r_ns.frontend.report.write import write_video
from das3r_ns.progress import Progress
from das3r_ns.video import open_clip
from das3r_ns.video.selection import EVERY_SHOT
from das3r_ns.video.video_file import VideoFile

CONFIG = FrontEndConfig(long_side=128)


def place(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(120, 40, (60, 100, 3))
    return np.clip(cv2.resize(noise, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


def pan(picture: np.ndarray, count: int) -> list[np.ndarray]:
    return [picture[100:208, 50 + 4 * number : 242 + 4 * number] for number in range(count)]


@pytest.fixture()
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight frames of one place, each twice, then five of another, at a rate that varies."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    frames = [frame for frame in pan(place(1), 8) for _ in (0, 1)] + pan(place(2), 5)
    write_video(tmp_path / "film.mp4", iter(frames), 25, bits=40, times=SECONDS)
    return tmp_path / "film.mp4"


SECONDS = (np.cumsum([0, *[4, 5, 3, 7] * 5]) / 100).tolist()


def test_the_pass_is_made_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    progress = Progress()
    first = find_frames(data, CONFIG, progress)
    assert first.indices == list(range(0, 16, 2)) and len(first.remarks) == 2
    assert list(progress.seconds) == ["Looking through the video"]
    monkeypatch.setattr(VideoFile, "_decoded", None)  # what would be called to decode anything
    monkeypatch.setattr(VideoFile, "_probe", first._probe)  # pyright: ignore[reportAttributeAccessIssue]
    again = find_frames(data, CONFIG, Progress())
    assert (again.indices, again.remarks, again.content_hash) == (first.indices, first.remarks, first.content_hash)
    other = find_frames(data, dataclasses.replace(CONFIG, shot=2), Progress())
    assert other.indices == list(range(16, 21)) and other.content_hash != first.content_hash


def test_a_film_within_the_budget_is_decoded_once_for_all(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = open_clip(data).working_images(128)
    passes, decode = [], VideoFile._decoded

    def counted(self, container, stream, deinterlace=False):
        for number, frame in enumerate(decode(self, container, stream, deinterlace)):
            if number == 1:  # the first frame alone is decoded to know the size
                passes.append(1)
            yield frame

    monkeypatch.setattr(VideoFile, "_decoded", counted)
    clip, steps = find_frames(data, CONFIG, Progress()), []
    np.testing.assert_array_equal(clip.working_images(128, lambda: steps.append(1)), expected[:16:2])
    assert len(passes) == 1 and len(steps) == 8
    np.testing.assert_array_equal(clip.working_images(128), expected[:16:2])  # forgotten: decoded again
    assert len(passes) == 2


def test_frames_come_back_as_often_and_when_the_video_shows_them(data: Path, tmp_path: Path) -> None:
    clip = find_frames(data, CONFIG, Progress())
    showings = clip.showings(clip.names)
    assert [number for _, number in showings] == [number for number in range(8) for _ in (0, 1)]
    np.testing.assert_allclose([seconds for seconds, _ in showings], SECONDS[:16], atol=1e-5)
    lost = clip.showings([name for name in clip.names if name != "00002"])
    assert [number for _, number in lost] == [number for number in range(7) for _ in (0, 1)]
    assert clip.fps == pytest.approx(8 / SECONDS[16], rel=0.1)
    with av.open(str(data)) as film:
        first, *rest = [float(frame.time or 0) for frame in film.decode(video=0)]
    np.testing.assert_allclose([0, *[time - first for time in rest]], SECONDS, atol=1e-5)


def test_masks_belong_to_the_frames_used_or_to_all_of_the_video(data: Path, tmp_path: Path) -> None:
    clip = find_frames(data, CONFIG, Progress())
    for count in (8, 21):
        for number in range(count):
            (tmp_path / str(count)).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / f"{count}/{number:05d}.png"), np.zeros((108, 192), np.uint8))
        files = find_masks(clip, tmp_path / str(count), all_frames=True).files
        numbers = range(8) if count == 8 else range(0, 16, 2)
        assert [file and file.stem for file in files] == [f"{number:05d}" for number in numbers]


def test_known_cameras_hold_all_shots_together(data: Path, tmp_path: Path) -> None:
    known = dataclasses.replace(CONFIG, known_poses=tmp_path / "transforms.json")
    clip = find_frames(data, known, Progress())
    assert clip.indices == [*range(0, 16, 2), *range(16, 21)]
    assert find_frames(data, dataclasses.replace(CONFIG, shot=EVERY_SHOT), Progress()).indices == clip.indices
    assert find_frames(data, dataclasses.replace(known, shot=2), Progress()).indices == list(range(16, 21))


def test_another_film_under_the_same_name_is_looked_at_anew(data: Path) -> None:
    find_frames(data, CONFIG, Progress())
    write_video(data, iter(pan(place(3), 21)), 25)
    assert find_frames(data, CONFIG, Progress()).indices == list(range(21))
