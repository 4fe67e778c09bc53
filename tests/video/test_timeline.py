"""Shots, fades, repeats, flashes and thinning, on small films made here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import av.codec
import cv2
import numpy as np
import pytest

from das3r_ns.errors import Das3rError
from das3r_ns.video import open_clip
from das3r_ns.video.selection import Selection, select
from das3r_ns.video.timeline import Timeline
from das3r_ns.video.watch import Watcher

SIZE = (192, 108)
HUNDREDTH = Fraction(1, 100)


def place(seed: int) -> np.ndarray:
    """A picture of 1600 x 900 with things of all sizes in it, to look around in."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((900, 1600, 3))
    for cell in (4, 9, 30, 120):
        noise = rng.normal(size=(900 // cell + 2, 1600 // cell + 2, 3))
        picture += cv2.resize(noise, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)[:900, :1600]
    return np.clip(118 + 30 * picture, 30, 225).astype(np.uint8)


HERE, THERE = place(1), place(2)


def view(picture: np.ndarray, x: float, y: float = 300.0) -> np.ndarray:
    """What a camera sees that looks at a place."""
    return cv2.getRectSubPix(picture, SIZE, (x + SIZE[0] / 2, y + SIZE[1] / 2))


def pan(picture: np.ndarray, count: int, step: float = 3.0, start: float = 200.0) -> list[np.ndarray]:
    """A camera that turns."""
    return [view(picture, start + step * number) for number in range(count)]


def film(path: Path, frames: Sequence[np.ndarray], quality: int = 23, times: Sequence[int] | None = None) -> Path:
    """The frames as H.264 (MPEG-4 part 2 where that is not to be had), at 25 a second or at these hundredths."""
    codec = "libx264" if "libx264" in av.codec.codecs_available else "mpeg4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"crf": str(quality)})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 2_000_000
        if times is not None:
            stream.codec_context.time_base = stream.time_base = HUNDREDTH
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times is not None:
                frame.time_base, frame.pts = HUNDREDTH, times[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def folder(path: Path, frames: Sequence[np.ndarray]) -> Path:
    """The frames as JPEGs."""
    path.mkdir()
    for number, frame in enumerate(frames):
        cv2.imwrite(str(path / f"{number:03d}.jpg"), frame[..., ::-1])
    return path


def watch(path: Path) -> tuple[Timeline, np.ndarray]:
    """The timeline of a video, and when its frames are shown."""
    clip = open_clip(path)
    watcher = Watcher(clip.num_source_frames, careful=path.is_dir())
    for number, grey in clip.glance():
        watcher.add(number, grey)
    return watcher.finish(), clip.times


def chosen(path: Path, shot: int = 0, budget: int = 150) -> Selection:
    """Which frames of a video are used."""
    timeline, times = watch(path)
    return select(timeline, times, "VIDEO", shot, budget)


def lit(frame: np.ndarray, gain: float) -> np.ndarray:
    return np.clip(frame * gain, 0, 255).astype(np.uint8)


def test_the_longest_shot_is_used_and_the_others_are_named(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4", pan(HERE, 9) + pan(THERE, 16) + pan(HERE, 8, start=900))
    selection = chosen(path)
    assert selection.indices == list(range(9, 25))
    (remark,) = selection.remarks
    assert "3 shots" in remark and "number 2 (frames 9-24)" in remark
    assert "--shot 1: frames 0-8" in remark and "--shot 3: frames 25-32" in remark
    assert chosen(path, shot=3).indices == list(range(25, 33))
    assert chosen(path, shot=-1).indices == list(range(33))
    with pytest.raises(Das3rError, match=r"no shot 4 in VIDEO, which has 3 shots \(--shot\)"):
        chosen(path, shot=4)


@pytest.mark.parametrize("length", [1, 6, 14])
def test_shots_that_fade_into_each_other_are_told_apart(tmp_path: Path, length: int) -> None:
    count = 40
    here, there = pan(HERE, count, step=0.5), pan(THERE, count, step=0.5)
    weights = np.clip((np.arange(count) - 11) / (length + 1), 0, 1)
    frames = [cv2.addWeighted(a, 1 - w, b, w, 0) for a, b, w in zip(here, there, weights, strict=True)]
    path = film(tmp_path / "film.mp4", frames, 12)
    timeline, _ = watch(path)
    (cut,) = timeline.cuts
    assert 12 <= cut <= 12 + length
    used = chosen(path).indices
    assert used[-1] == count - 1 and 12 + 0.7 * length <= used[0] <= 14 + length, used


def shaken() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [view(HERE, 400 + x, 300 + y) for x, y in rng.uniform(-25, 25, (30, 2))]


def flashed() -> list[np.ndarray]:
    frames = pan(HERE, 30)
    frames[14] = lit(frames[14], 4.0)
    return frames


def exposed() -> list[np.ndarray]:
    return [lit(frame, 0.35 if number > 15 else 1.0) for number, frame in enumerate(pan(HERE, 30))]


def covered() -> list[np.ndarray]:
    """Something passes right before the lens, and fills the picture for five frames."""
    frames = pan(HERE, 40)
    for number in range(40):
        edge = int(np.clip(80 * (number - 12), 0, SIZE[0]) - np.clip(80 * (number - 19), 0, SIZE[0]))
        bus = view(THERE, 300 + 5 * number)
        if number < 19:
            frames[number][:, :edge] = bus[:, :edge]
        elif edge:
            frames[number][:, -edge:] = bus[:, -edge:]
    return frames


def whipped() -> list[np.ndarray]:
    """A pan of a third of the picture in every frame, blurred as it is."""
    x = np.concatenate([np.linspace(100, 130, 12), 130 + 65 * np.arange(1, 10), 790 + np.arange(12)])
    frames = [view(HERE, position) for position in x]
    return [cv2.blur(f, (33, 1)) if 11 < i < 21 else f for i, f in enumerate(frames)]


@pytest.mark.parametrize(
    "frames",
    [
        lambda: pan(HERE, 20, step=60),
        shaken,
        flashed,
        exposed,
        covered,
        whipped,
        lambda: [f for f in pan(HERE, 15, step=40) for _ in (0, 1)],
        lambda: [np.random.default_rng(i).integers(0, 256, (108, 192, 3), dtype=np.uint8) for i in range(12)],
    ],
    ids=["fast pan", "shaken", "flash", "exposure", "covered", "whip pan", "doubled", "noise"],
)
def test_what_changes_every_pixel_is_not_yet_a_cut(tmp_path: Path, frames: Callable[[], list[np.ndarray]]) -> None:
    assert watch(film(tmp_path / "film.mp4", frames()))[0].cuts == ()


def test_a_folder_is_cut_only_between_frames_that_otherwise_follow_closely(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    walk = [view(HERE, x, y) for x, y in zip(np.arange(100, 1300, 130), rng.uniform(100, 600, 10), strict=False)]
    photographs = [view(picture, x) for x in (100, 260) for picture in (HERE, THERE, place(3))]
    for number, frames in enumerate((walk, photographs)):
        assert watch(folder(tmp_path / str(number), frames))[0].cuts == ()
    assert watch(folder(tmp_path / "film", pan(HERE, 8) + pan(THERE, 8)))[0].cuts == (8,)


def test_black_and_faint_frames_are_set_aside(tmp_path: Path) -> None:
    gains = [0, 0, 0.1, 0.25, 0.6, 0.8, *[1.0] * 12, 0.7, 0.45, 0.2, 0]
    frames = [lit(frame, gain) for frame, gain in zip(pan(HERE, len(gains)), gains, strict=True)]
    selection = chosen(film(tmp_path / "film.mp4", frames))
    assert selection.indices == list(range(4, 20))
    assert selection.remarks == [
        "Frames of VIDEO that are black, of one colour, or faded to a trace are set aside (0-3, 20-21)."
    ]


def test_a_plain_wall_at_the_start_is_no_fade(tmp_path: Path) -> None:
    wall = HERE.astype(np.float32)
    wall[:, :420] = 120 + 0.15 * (wall[:, :420] - 120)
    frames = pan(wall.astype(np.uint8), 24, step=12)
    assert chosen(film(tmp_path / "film.mp4", frames, 12)).indices == list(range(24))


ORDERS = {
    "doubled": [i // 2 for i in range(40)],
    "frozen": [*range(11), *[10] * 8, *range(19, 30)],
    "pulldown": [i * 4 // 5 for i in range(36)],
}


@pytest.mark.parametrize("quality", [12, 28])
@pytest.mark.parametrize("order", ORDERS.values(), ids=list(ORDERS))
def test_a_picture_shown_again_is_used_once(tmp_path: Path, order: list[int], quality: int) -> None:
    source = pan(HERE, 30)
    selection = chosen(film(tmp_path / "film.mp4", [source[number] for number in order], quality))
    first = [order.index(number) for number in dict.fromkeys(order)]
    assert selection.indices == first
    shown = {place: index for index, places in selection.repeats.items() for place in places}
    assert [order[shown.get(place, place)] for place in range(len(order))] == order
    assert sorted([*first, *shown]) == list(range(len(order)))


@pytest.mark.parametrize("quality", [12, 30])
def test_a_small_thing_that_moves_before_a_tripod_is_no_repeat(tmp_path: Path, quality: int) -> None:
    background, frames = view(HERE, 300), []
    for number in range(24):
        frame = cv2.resize(background, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
        frame[200:232, 100 + 6 * number : 116 + 6 * number] = (240, 60, 40)
        frames.append(frame)
    assert chosen(film(tmp_path / "film.mp4", frames, quality)).indices == list(range(24))


def test_a_frame_lit_by_a_flash_is_set_aside(tmp_path: Path) -> None:
    frames = pan(HERE, 20)
    frames[9] = lit(frames[9], 2.0)
    selection = chosen(film(tmp_path / "film.mp4", frames))
    assert selection.indices == [*range(9), *range(10, 20)]
    assert selection.remarks == ["Frames of VIDEO that are lit by a flash are set aside (9)."]


def test_thinning_takes_the_sharp_frames(tmp_path: Path) -> None:
    frames = [f if number % 3 == 1 else cv2.blur(f, (7, 7)) for number, f in enumerate(pan(HERE, 60))]
    selection = chosen(film(tmp_path / "film.mp4", frames), budget=12)
    assert len(selection.indices) == 12 and sorted(set(selection.indices)) == selection.indices
    assert [index % 3 for index in selection.indices].count(1) >= 11
    assert "12 of them" in selection.remarks[0] and "--max-frames" in selection.remarks[0]
    assert np.diff(selection.indices).max() <= 9


def test_thinning_follows_the_way_of_the_camera_and_not_the_clock(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([200 + rng.normal(0, 0.4, 60), np.linspace(204, 500, 30)])
    selection = chosen(film(tmp_path / "film.mp4", [view(HERE, position) for position in x], 12), budget=16)
    moving = [index for index in selection.indices if index >= 60]
    assert len(moving) >= 10, "a third of the time, nearly all of the way"
    assert len(selection.indices) - len(moving) >= 3, "and what happens while it stands is seen too"


def test_a_film_of_nothing_is_refused(tmp_path: Path) -> None:
    black = [np.zeros((108, 192, 3), np.uint8)] * 12
    with pytest.raises(Das3rError, match="12 frames of VIDEO are black, of one colour"):
        chosen(film(tmp_path / "black.mp4", black))
    with pytest.raises(Das3rError, match="VIDEO is one still picture: its 12 frames are all the same"):
        chosen(film(tmp_path / "still.mp4", [view(HERE, 300)] * 12))


def test_a_timeline_is_read_back_as_it_was_and_damage_is_no_timeline(tmp_path: Path) -> None:
    timeline, times = watch(film(tmp_path / "film.mp4", pan(HERE, 6) + pan(THERE, 6)))
    again = Timeline.from_json(timeline.to_json())
    assert again is not None and again.cuts == (6,)
    np.testing.assert_allclose(again.motion, timeline.motion, rtol=1e-4)
    assert select(again, times, "VIDEO") == select(timeline, times, "VIDEO")
    for text in ("", "{}", "[]", timeline.to_json()[:-40], timeline.to_json().replace('"version": ', '"version": 1')):
        assert Timeline.from_json(text) is None
