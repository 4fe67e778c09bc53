"""Folders of images and video files, good and bad."""

from __future__ import annotations

import itertools
import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import PIL.Image
import pytest

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.report.write import write_video
from das3r_ns.video import open_clip
from das3r_ns.video.clip import working_size
from das3r_ns.video.image_folder import read_image
from das3r_ns.video.selection import select, spread
from das3r_ns.video.video_file import VideoFile, _Damage
from das3r_ns.video.watch import Watcher


def picture(seed: int = 0, width: int = 48, height: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path: Path, image: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(image).save(path, **options)
    return path


def two_halves(path: Path, num_frames: int = 6, fps: float = 10) -> Path:
    """A film of 96 x 64 pixels whose left half is red and whose right half grows brighter."""
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, :48] = (255, 0, 0)

    def frames():
        for number in range(num_frames):
            image[:, 48:] = 30 * number
            yield image

    write_video(path, frames(), fps)
    return path


def turned(path: Path) -> Path:
    """The same film with a display rotation of 90 degrees clockwise, as a phone held upright writes it."""
    content = bytearray(path.read_bytes())
    identity = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    start = content.index(identity, content.index(b"tkhd"))
    content[start : start + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 64 << 16, 0, 1 << 30)
    target = path.with_name("turned.mp4")
    target.write_bytes(content)
    return target


def test_images_come_in_natural_order_and_hidden_or_other_files_do_not_count(tmp_path: Path) -> None:
    for name in ("Frame10.png", "frame9.PNG", "frame1.jpeg", "frame2.webp", "frame100.jpg"):
        save(tmp_path / name, picture())
    (tmp_path / "._frame3.png").write_bytes(b"resource fork")
    (tmp_path / "notes.txt").write_text("exposure locked")
    (tmp_path / "folder.png").mkdir()
    assert open_clip(tmp_path).names == ["frame1.jpeg", "frame2.webp", "frame9.PNG", "Frame10.png", "frame100.jpg"]


@pytest.mark.parametrize("subfolder", ["frames", "images"])
def test_a_folder_without_frames_uses_the_one_inside(tmp_path: Path, subfolder: str) -> None:
    for number in range(3):
        save(tmp_path / subfolder / f"{number}.png", picture(number))
        save(tmp_path / "masks" / f"{number}.png", picture(number))
    save(tmp_path / "preview.png", picture())
    clip = open_clip(tmp_path)
    assert clip.path == tmp_path / subfolder
    np.testing.assert_array_equal(clip.working_images(512), [picture(number) for number in range(3)])


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_exif_rotation_is_honoured(tmp_path: Path, suffix: str) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    image = np.zeros((40, 48, 3), np.uint8)
    image[:, :24] = 255
    for number in range(2):
        save(tmp_path / f"{number}.{suffix}", image, exif=exif)
    clip = open_clip(tmp_path)
    assert clip.size == (40, 48)
    upright = clip.working_images(512)[0]
    assert upright.shape == (48, 40, 3)
    assert upright[:20].min() > 200
    assert upright[28:].max() < 50


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.full((40, 48), 100, np.uint8), 100),
        (np.full((40, 48), 100 * 257, np.uint16), 100),
        (np.full((40, 48), 65535, np.uint16), 255),
        (np.full((40, 48, 4), (100, 100, 100, 255), np.uint8), 100),
        (np.full((40, 48, 4), (100, 100, 100, 0), np.uint8), 0),
        (np.full((40, 48, 2), (100, 255), np.uint8), 100),
    ],
    ids=["grey", "grey 16 bit", "white 16 bit", "opaque", "transparent", "grey with alpha"],
)
def test_every_kind_of_pixel_becomes_8_bit_rgb(tmp_path: Path, image: np.ndarray, expected: int) -> None:
    read = read_image(save(tmp_path / "image.png", image))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, np.full((40, 48, 3), expected))


def test_16_bit_colour_and_palettes(tmp_path: Path) -> None:
    deep = (picture().astype(np.uint16) * 257)[..., ::-1]
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), picture())
    PIL.Image.new("P", (48, 40), 7).save(tmp_path / "palette.png")
    assert read_image(tmp_path / "palette.png").shape == (40, 48, 3)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1920, 1080), (512, 288)),
        ((1080, 1920), (288, 512)),
        ((854, 480), (512, 288)),
        ((401, 301), (400, 300)),
        ((403, 303), (402, 302)),
    ],
)
def test_working_size_is_even_and_never_larger_than_the_video(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert working_size(size, 512) == expected


def test_working_size_keeps_within_an_odd_long_side() -> None:
    assert working_size((1000, 500), 403) == (402, 202)


def test_working_images_are_averaged_over_areas(tmp_path: Path) -> None:
    checker = np.kron(np.indices((40, 48)).sum(0) % 2, np.ones((2, 2))).astype(np.uint8) * 200
    for number in range(2):
        save(tmp_path / f"{number}.png", np.repeat(checker[..., None], 3, -1))
    images = open_clip(tmp_path).working_images(24)
    assert images.shape == (2, 20, 24, 3)
    np.testing.assert_array_equal(images, 100)


def test_a_long_video_is_thinned_evenly_and_says_so(tmp_path: Path) -> None:
    assert spread(10, 4) == [0, 3, 6, 9]
    assert spread(4, 10) == [0, 1, 2, 3]
    steps = np.diff(spread(1800, 150))
    assert set(steps) == {12, 13}
    for number in range(9):
        save(tmp_path / f"{number}.png", picture(number))
    clip = open_clip(tmp_path, max_frames=3)
    assert clip.names == ["0.png", "4.png", "8.png"]
    (remark,) = clip.remarks
    assert "9 frames" in remark and "3 of them" in remark
    assert open_clip(tmp_path).remarks == []


def test_a_video_file(tmp_path: Path) -> None:
    clip = open_clip(two_halves(tmp_path / "film.mp4"))
    assert (clip.size, clip.fps, clip.names) == ((96, 64), 10.0, [f"{i:05d}" for i in range(6)])
    images = clip.working_images(48)
    assert images.shape == (6, 32, 48, 3)
    np.testing.assert_allclose(images[:, 16, 36].mean(-1), [0, 30, 60, 90, 120, 150], atol=6)
    np.testing.assert_allclose(images[:, 16, 8], np.tile([255, 0, 0], (6, 1)), atol=10)


def test_a_thinned_video_keeps_first_and_last_frame_and_its_pace(tmp_path: Path) -> None:
    clip = open_clip(two_halves(tmp_path / "film.mp4"), max_frames=3)
    assert clip.names == ["00000", "00002", "00005"]
    assert clip.fps == pytest.approx(5)
    np.testing.assert_allclose(clip.working_images(96)[:, 32, 72].mean(-1), [0, 60, 150], atol=6)


def test_display_rotation_is_honoured(tmp_path: Path) -> None:
    clip = open_clip(turned(two_halves(tmp_path / "film.mp4")))
    assert clip.size == (64, 96)
    image = next(clip.original_images())
    np.testing.assert_allclose(image[10, 32], (255, 0, 0), atol=10)
    np.testing.assert_allclose(image[85, 32], 0, atol=10)


@pytest.mark.parametrize("decoded", [19, 15])
def test_the_last_frames_of_a_film_may_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: int
) -> None:
    decode = VideoFile._decoded

    def stop_early(self, container, stream, deinterlace=False):
        yield from itertools.islice(decode(self, container, stream, deinterlace), decoded)

    monkeypatch.setattr(VideoFile, "_decoded", stop_early)
    clip = open_clip(two_halves(tmp_path / "film.mp4", num_frames=20))
    assert len(clip.names) == 20
    if decoded == 19:
        assert len(clip.working_images(96)) == 19
        assert clip.lost == [19]
    else:
        with pytest.raises(Das3rError, match=r"lists 20 frames but only 15 of the 20 wanted .*cut off or damaged"):
            clip.working_images(96)


def test_damage_in_the_middle_costs_only_the_frames_that_it_hits(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)  # every frame stands for itself
        stream.width, stream.height, stream.pix_fmt = 48, 40, "yuvj420p"
        for number in range(30):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    content = path.read_bytes()
    for number in (7, 8):
        assert content.count(packets[number]) == 1
        content = content.replace(packets[number], bytes(len(packets[number])))
    path.write_bytes(content)
    clip = open_clip(path)
    images = list(clip.original_images())
    assert clip.lost == [7, 8]
    assert len(images) == 28
    intact = [np.abs(images[7].astype(int) - picture(number)).mean() for number in (6, 7, 8, 9, 10)]
    assert np.argmin(intact) == 3, "after the lost frames comes the tenth"


def film_in_groups(path: Path) -> Path:
    """24 frames of noise that drifts, in three groups that each begin with a key frame; a frame in the second is
    damaged."""
    rng = np.random.default_rng(3)
    noise = cv2.GaussianBlur(rng.integers(0, 255, (96, 160, 3), dtype=np.uint8), (9, 9), 0).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.width, stream.height, stream.bit_rate = 96, 64, 4_000_000
        stream.gop_size, stream.max_b_frames = 8, 0
        for number in range(24):
            picture = np.ascontiguousarray(noise[10 : 10 + 64, 2 * number : 2 * number + 96])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        packets = [(bytes(packet), packet.is_keyframe) for packet in container.demux(video=0) if packet.size]
    assert [number for number, (_, is_key) in enumerate(packets) if is_key] == [0, 8, 16]
    content, hit = path.read_bytes(), packets[10][0]
    path.write_bytes(content.replace(hit, hit[: len(hit) // 4] + bytes(len(hit) - len(hit) // 4)))
    return path


def test_what_is_predicted_from_a_damaged_frame_is_told_up_to_the_next_key_frame(tmp_path: Path) -> None:
    clip = open_clip(film_in_groups(tmp_path / "film.avi"))
    watcher, seen = Watcher(24), []
    for number, grey in clip.glance(long_side=96):
        watcher.add(number, grey)
        seen.append(number)
    assert clip.damaged == list(range(10, 16))
    assert seen == [*range(10), *range(16, 24)]
    told = select(replace(watcher.finish(), damaged=tuple(clip.damaged)), clip.times, "film")
    assert told.indices == seen
    assert told.remarks == ["Frames of film that are damaged, or predicted from damaged ones, are set aside (10-15)."]


def test_a_film_of_one_key_frame_loses_what_is_damaged_alone() -> None:
    damage = _Damage([list(range(10))], 10)
    assert [number for number in range(10) if damage.hits(number, is_corrupt=number == 2)] == [2]
    damage = _Damage([[0, 3, 1, 2], [4, 5]], 6)  # as stored: 1 and 2 are made of 0 and 3
    assert [number for number in range(6) if damage.hits(number, is_corrupt=number == 3)] == [3]
    assert damage.frames == {1, 2, 3}
    damage = _Damage([[0, 3, 1, 2], [4, 5]], 6)
    assert [number for number in (0, 1, 2, 3, 5) if damage.hits(number, is_corrupt=False)] == [5]
    assert damage.frames == {4, 5}


def test_pixels_that_are_not_square_are_made_square(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "film.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 40, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(), format="rgb24")))
        container.mux(stream.encode())
    clip = open_clip(tmp_path / "film.mp4")
    assert clip.size == (64, 40)
    assert clip.working_images(512).shape == (3, 40, 64, 3)


def test_a_picture_for_the_cover_is_not_the_film(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "film.mkv"), "w") as container:
        cover, film = container.add_stream("mjpeg", rate=1), container.add_stream("mpeg4", rate=10)
        for stream, side, pixels in ((cover, 64, "yuvj420p"), (film, 48, "yuv420p")):
            stream.width, stream.height, stream.pix_fmt = side, side, pixels
        container.mux(cover.encode(av.VideoFrame.from_ndarray(picture(0, 64, 64), format="rgb24")))
        container.mux(cover.encode())
        for number in range(5):
            container.mux(film.encode(av.VideoFrame.from_ndarray(picture(number, 48, 48), format="rgb24")))
        container.mux(film.encode())
    clip = open_clip(tmp_path / "film.mkv")
    assert (clip.size, len(clip.names)) == ((48, 48), 5)


def test_the_hash_follows_content_names_and_selection(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / "a" / f"{number}.png", picture(number))
        save(tmp_path / "b" / f"{number}.png", picture(number))
    first = open_clip(tmp_path / "a").content_hash
    assert open_clip(tmp_path / "b").content_hash == first, "the place does not matter"
    assert open_clip(tmp_path / "a", max_frames=10).content_hash == first, "nor a budget that is not reached"
    assert open_clip(tmp_path / "a", max_frames=3).content_hash != first
    save(tmp_path / "b" / "5.png", picture(99))
    assert open_clip(tmp_path / "b").content_hash != first
    film = two_halves(tmp_path / "film.mp4")
    assert open_clip(film).content_hash != open_clip(film, max_frames=3).content_hash
