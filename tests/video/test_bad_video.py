"""Each way in which a video can be unusable gives one paragraph that names what is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.report.write import write_video
from das3r_ns.video import open_clip


def save(path: Path, width: int = 48, height: int = 40) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).save(path)
    return path


def film(path: Path, num_frames: int = 30) -> Path:
    path.parent.mkdir()
    write_video(path, (np.full((64, 96, 3), 8 * number, np.uint8) for number in range(num_frames)), 10)
    return path


def truncated(folder: Path) -> Path:
    save(folder / "0.jpg")
    content = save(folder / "1.jpg").read_bytes()
    (folder / "1.jpg").write_bytes(content[: len(content) // 2])
    return folder


def mixed(folder: Path) -> Path:
    save(folder / "0.png")
    save(folder / "1.png", width=64)
    return folder


def empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def one_frame(folder: Path) -> Path:
    save(folder / "0.png")
    return folder


def not_an_image(folder: Path) -> Path:
    one_frame(folder)
    (folder / "1.png").write_text("<html>404 Not Found</html>")
    return folder


def twins(folder: Path) -> Path:
    save(folder / "0.png")
    save(folder / "0.jpg")
    return folder


def film_in_a_folder(folder: Path) -> Path:
    return film(folder / "film.mp4").parent


def other_pictures(folder: Path) -> Path:
    save(folder / "0.tif")
    return folder


def tiny(folder: Path) -> Path:
    for number in range(2):
        save(folder / f"{number}.png", width=20, height=10)
    return folder


def nested(folder: Path) -> Path:
    save(folder / "scene1" / "0.png")
    return folder


def text_file(folder: Path) -> Path:
    empty(folder)
    (folder / "readme.txt").write_text("not a film\n" * 100)
    return folder / "readme.txt"


def broken_film(folder: Path) -> Path:
    path = film(folder / "film.mp4")
    path.write_bytes(path.read_bytes()[:600])
    return path


def noise_film(folder: Path) -> Path:
    empty(folder)
    (folder / "film.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    return folder / "film.mp4"


def damaged_film(folder: Path) -> Path:
    """A film whose packets hold zeros."""
    path = film(folder / "film.mp4")
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 4
    end = content.index(b"moov", start) - 4
    content[start:end] = bytes(end - start)
    path.write_bytes(content)
    return path


def sound(folder: Path) -> Path:
    empty(folder)
    with av.open(str(folder / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return folder / "sound.wav"


def pipe(folder: Path) -> Path:
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def animated_webp(folder: Path) -> Path:
    empty(folder)
    first, *rest = [PIL.Image.fromarray(np.full((40, 48, 3), 20 * number, np.uint8)) for number in range(5)]
    first.save(folder / "film.webp", save_all=True, append_images=rest)
    return folder / "film.webp"


def one_picture(folder: Path) -> Path:
    return save(folder / "photo.png")


def one_frame_film(folder: Path) -> Path:
    return film(folder / "film.mp4", num_frames=1)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: folder, ["does not exist", "data"]),
        (empty, ["data", "holds no images", "empty"]),
        (film_in_a_folder, ["holds no images", "film.mp4"]),
        (other_pictures, ["holds no images", "0.tif", "convert"]),
        (nested, ["holds no images", "scene1"]),
        (one_frame, ["single frame"]),
        (tiny, ["20 x 10", "too small"]),
        (twins, ["0.jpg", "0.png", "same frame twice"]),
        (truncated, ["1.jpg", "truncated"]),
        (not_an_image, ["1.png", "cannot be read as an image"]),
        (mixed, ["0.png is 48 x 40", "1.png is 64 x 40"]),
        (text_file, ["readme.txt", "not a video"]),
        (broken_film, ["film.mp4", "not a video that can be read"]),
        (noise_film, ["film.mp4", "not a video that can be read"]),
        (damaged_film, ["film.mp4", "decoded", "Re-encode"]),
        (sound, ["sound.wav", "no video stream"]),
        (one_picture, ["photo.png", "not a video", "folder of frames"]),
        (animated_webp, ["film.webp", "not a video", "animated", "MP4"]),
        (pipe, ["pipe", "cannot be read twice"]),
        (one_frame_film, ["film.mp4", "single frame"]),
    ],
)
def test_bad_input_gives_one_paragraph_that_names_it(
    tmp_path: Path, make: Callable[[Path], Path], says: list[str]
) -> None:
    data = make(tmp_path / "data")
    with pytest.raises(Das3rError) as error:
        open_clip(data).working_images(64)
    message = str(error.value)
    assert "\n" not in message
    for words in says:
        assert words in message


def test_a_budget_of_one_frame_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Das3rError, match="budget of 1"):
        open_clip(one_frame(tmp_path / "data"), max_frames=1)
