"""Decoded colours against those of a player, for every way films say what their numbers mean."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from das3r_ns.frontend.report.write import write_video
from das3r_ns.video import open_clip
from das3r_ns.video.colour import HLG, PQ, REFERENCE_WHITE

FULL, LIMITED = 2, 1
BT601, BT709, UNTAGGED, BT2020 = 6, 1, 2, 9


def colours(height: int = 64, width: int = 96) -> np.ndarray:
    """Smooth and saturated colours, dark and light."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return np.rint(255 * np.stack([x, y, 0.5 + 0.5 * np.sin(9 * x + 5 * y)], axis=-1)).astype(np.uint8)


def film(path: Path, frame: av.VideoFrame, matrix: int, colour_range: int, transfer: int = 2) -> Path:
    """Three times one frame, lossless, with tags."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, colour_range
        stream.codec_context.color_trc = transfer
        for number in range(3):
            frame.pts = number
            frame.colorspace, frame.color_range, frame.color_trc = matrix, colour_range, transfer
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9)))


@pytest.mark.parametrize("way", ["bgra", "yuva444p", "yuva444p10le"])
def test_what_is_transparent_is_black_and_the_rest_as_it_was(tmp_path: Path, way: str) -> None:
    truth = colours()
    alpha = np.full(truth.shape[:2], 255, np.uint8)
    alpha[:, :40], alpha[:, 40:60] = 0, 128
    frame = av.VideoFrame.from_ndarray(np.dstack([truth, alpha]), format="rgba").reformat(
        format=way, **({} if way == "bgra" else {"dst_colorspace": Colorspace.ITU709})
    )
    clip = open_clip(film(tmp_path / "film.mkv", frame, BT709, LIMITED))
    seen = next(clip.original_images()).astype(float)
    assert not seen[:, :40].any()
    assert psnr(seen[:, 40:60], truth[:, 40:60] * (128 / 255)) > 38
    assert psnr(seen[:, 60:], truth[:, 60:]) > 38


@pytest.mark.parametrize(
    ("tag", "matrix", "colour_range", "height"),
    [
        (BT709, Colorspace.ITU709, LIMITED, 64),
        (BT601, Colorspace.ITU601, LIMITED, 64),
        (BT709, Colorspace.ITU709, FULL, 64),
        (UNTAGGED, Colorspace.ITU709, LIMITED, 720),
        (UNTAGGED, Colorspace.ITU601, LIMITED, 480),
    ],
)
def test_matrix_and_range(tmp_path: Path, tag: int, matrix: int, colour_range: int, height: int) -> None:
    truth = colours(height)
    frame = av.VideoFrame.from_ndarray(truth, format="rgb24").reformat(
        format="yuv444p",
        dst_colorspace=matrix,
        dst_color_range=ColorRange.JPEG if colour_range == FULL else ColorRange.MPEG,
    )
    clip = open_clip(film(tmp_path / "film.mkv", frame, tag, colour_range))
    assert psnr(next(clip.original_images()), truth) > 40
    assert clip.remarks == []


def signal_of(light: np.ndarray, transfer: int) -> np.ndarray:
    """cd/m2 (BT.2020's primaries) to an HDR signal: BT.2100-2, tables 4 and 5, the directions that cameras take."""
    if transfer == PQ:
        power = (light / 10000) ** 0.1593017578125
        return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    shown = np.maximum(light / 1000, 1e-9)
    scene = shown * ((shown @ [0.2627, 0.6780, 0.0593]) ** (1 / 1.2 - 1))[..., None]
    return np.where(
        scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    )


def hdr_frame(light_709: np.ndarray, transfer: int) -> av.VideoFrame:
    """10 bits, limited range, 4:4:4, from linear light in cd/m2."""
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    r, g, b = np.moveaxis(np.clip(signal_of(np.maximum(light_709 @ to_2020.T, 0), transfer), 0, 1), -1, 0)
    y = 0.2627 * r + 0.6780 * g + 0.0593 * b
    codes = [876 * y + 64, 896 * (b - y) / 1.8814 + 512, 896 * (r - y) / 1.4746 + 512]
    frame = av.VideoFrame(light_709.shape[1], light_709.shape[0], "yuv444p10le")
    for plane, code in zip(frame.planes, codes, strict=True):
        rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
        rows[:, : plane.width] = np.rint(code)
        plane.update(rows.tobytes())
    return frame


@pytest.mark.parametrize("tag", [BT709, UNTAGGED])
def test_ten_bits_of_an_ordinary_film_are_as_bright_as_eight(tmp_path: Path, tag: int) -> None:
    truth = colours(720)
    frame = av.VideoFrame.from_ndarray(truth, format="rgb24").reformat(
        format="yuv420p10le", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
    )
    clip = open_clip(film(tmp_path / "film.mkv", frame, tag, LIMITED))
    image = next(clip.original_images())
    assert psnr(image, truth) > 40
    assert np.abs(image.mean(axis=(0, 1)) - truth.mean(axis=(0, 1))).max() < 0.6


@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_high_dynamic_range_comes_out_as_an_ordinary_camera_would_have_filmed_it(tmp_path: Path, transfer: int) -> None:
    truth = colours()
    frame = hdr_frame(REFERENCE_WHITE * (truth / 255.0) ** 2.2, transfer)
    clip = open_clip(film(tmp_path / "film.mkv", frame, BT2020, LIMITED, transfer))
    assert psnr(next(clip.original_images()), truth) > 38
    (remark,) = clip.remarks
    assert "high dynamic range" in remark and ("HLG" if transfer == HLG else "PQ") in remark


@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_what_is_brighter_than_white_keeps_its_hue(tmp_path: Path, transfer: int) -> None:
    light = np.full((64, 96, 3), 3.0 * REFERENCE_WHITE) * [1.0, 0.5, 0.5]
    clip = open_clip(film(tmp_path / "film.mkv", hdr_frame(light, transfer), BT2020, LIMITED, transfer))
    image = next(clip.original_images())[32, 48]
    np.testing.assert_allclose(image, 255 * np.array([1.0, 0.5, 0.5]) ** (1 / 2.2), atol=4)


@pytest.mark.parametrize(("height", "matrix"), [(360, BT601), (721, BT709)])
def test_films_that_we_write_have_the_colours_that_players_show(tmp_path: Path, height: int, matrix: int) -> None:
    truth = colours(height, 480)
    write_video(tmp_path / "film.mp4", iter([truth] * 3), 10, bits=40)
    clip = open_clip(tmp_path / "film.mp4")
    image = next(clip.original_images())
    assert psnr(image, truth[: len(image)]) > 38
    with av.open(str(tmp_path / "film.mp4")) as container:
        frame = next(container.decode(video=0))
    assert (int(frame.colorspace), int(frame.color_range)) == (matrix, LIMITED)


def test_interlaced_films_are_made_whole(tmp_path: Path) -> None:
    """A bar that moves by 4 pixels from field to field: woven fields show a comb, whole frames do not."""

    def field(time: int) -> np.ndarray:
        image = np.full((96, 160, 3), 40, np.uint8)
        cv2.rectangle(image, (10 + 4 * time, 20), (50 + 4 * time, 75), (220, 200, 60), -1)
        return image

    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 160, 96, "yuv420p", 4_000_000
        stream.codec_context.options = {"flags": "+ildct+ilme", "top": "1", "qscale": "2"}
        stream.codec_context.flags |= 0x00040000 | 0x20000000  # AV_CODEC_FLAG_INTERLACED_DCT and _ME
        for number in range(10):
            woven = field(2 * number)
            woven[1::2] = field(2 * number + 1)[1::2]
            frame = av.VideoFrame.from_ndarray(woven, format="rgb24").reformat(format="yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    clip = open_clip(path)
    if not any("interlaced" in remark for remark in clip.remarks):
        pytest.skip("this FFmpeg's encoder does not flag its frames as interlaced")
    images = list(clip.original_images())
    assert len(images) == 10 == len(clip.names)
    for number in (3, 5):
        fields = [psnr(images[number], field(2 * number + later)) for later in (0, 1)]
        woven = psnr(
            field(2 * number), np.where(np.arange(96)[:, None, None] % 2, field(2 * number + 1), field(2 * number))
        )
        assert max(fields) > woven + 3, "a whole frame of one of the two moments"
    fewer = open_clip(path, max_frames=5)
    assert len(fewer.names) == 5
    for name, image in zip(fewer.names, fewer.original_images(), strict=True):
        np.testing.assert_array_equal(image, images[int(name)])
