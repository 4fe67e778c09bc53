"""What is fixed to the camera is found while the world goes by, and never where it does not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from jaxtyping import Bool, UInt8

from das3r_ns.frontend.fixed import find_fixed

SIZE = (320, 180)


def plain_texture(seed: int, size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """Blotches of all sizes."""
    rng = np.random.default_rng(seed)
    total = np.zeros((size[1], size[0], 3), np.float32)
    for blur in (1.5, 4, 12):
        layer = cv2.GaussianBlur(rng.normal(size=total.shape).astype(np.float32), (0, 0), blur)
        total += layer / layer.std()
    return np.clip(128 + 30 * total, 0, 255).astype(np.uint8)


def passing(speed: tuple[float, float], count: int = 24) -> UInt8[np.ndarray, "N H W 3"]:
    """A picture that goes by, so many pixels a frame."""
    width, height = SIZE
    room = [int(side + abs(v) * count + 20) for side, v in zip(SIZE, speed, strict=True)]
    world = plain_texture(0, (room[0], room[1]))
    start = [10.0 if v >= 0 else 10 - v * count for v in speed]
    return np.stack(
        [
            cv2.getRectSubPix(
                world, SIZE, (start[0] + speed[0] * t + (width - 1) / 2, start[1] + speed[1] * t + (height - 1) / 2)
            )
            for t in range(count)
        ]
    )


def forward(count: int = 24) -> UInt8[np.ndarray, "N H W 3"]:
    """A flight towards the middle of a picture, with lines that lead there."""
    width, height = SIZE
    world = plain_texture(1, (4 * width, 4 * height))
    for angle in np.linspace(0, 2 * np.pi, 9)[:-1]:
        far = (round(2 * width + 3000 * np.cos(angle)), round(2 * height + 3000 * np.sin(angle)))
        cv2.line(world, (2 * width, 2 * height), far, (255, 255, 255), 5, cv2.LINE_AA)
    frames = []
    for t in range(count):
        zoom = 0.5 * 1.04**t
        matrix = np.array([[zoom, 0, width / 2 - zoom * 2 * width], [0, zoom, height / 2 - zoom * 2 * height]])
        frames.append(cv2.warpAffine(world, matrix, SIZE, flags=cv2.INTER_AREA))
    return np.stack(frames)


def with_bonnet(frames: UInt8[np.ndarray, "N H W 3"]) -> Bool[np.ndarray, "H W"]:
    """Draw a dark bonnet over the bottom, with a glare on it; where it is."""
    width, height = SIZE
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    where = y > 150 - 12 * np.cos((x - width / 2) / width * np.pi)
    paint = (25 + 60 * np.exp(-(((x - 120) / 20) ** 2)))[..., None].repeat(3, axis=-1).astype(np.uint8)
    frames[:, where] = paint[where]
    return where


def overlap(found: Bool[np.ndarray, "H W"] | None, truth: Bool[np.ndarray, "H W"]) -> float:
    assert found is not None
    return float((found & truth).sum() / (found | truth).sum())


@pytest.mark.parametrize("frames", [passing((3.0, 2.0)), forward()], ids=["across", "forward"])
def test_a_bonnet_is_found_and_filled(frames: UInt8[np.ndarray, "N H W 3"]) -> None:
    frames = frames.copy()
    where = with_bonnet(frames)
    assert overlap(find_fixed(frames), where) > 0.8


def test_a_clock_is_found_although_its_digits_change() -> None:
    frames = passing((4.0, 1.0))
    where = np.zeros(SIZE[::-1], np.uint8)
    for t, frame in enumerate(frames):
        text = f"2024-05-17 14:03:{t // 2:02d}"
        for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(frame, text, (6, 170), cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, thickness, cv2.LINE_AA)
        cv2.putText(where, text, (6, 170), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255,), 3)
    found = find_fixed(frames)
    assert found is not None
    assert found[where > 0].mean() > 0.97
    outline = cv2.boundingRect(where)
    box = np.zeros_like(found)
    box[outline[1] - 8 : outline[1] + outline[3] + 8, : outline[0] + outline[2] + 8] = True
    assert not found[~box].any()


def test_a_logo_that_one_sees_through_is_found() -> None:
    frames = passing((4.0, 1.0))
    top = frames.copy()
    where = np.zeros(SIZE[::-1], np.uint8)
    for frame in (*top, where):
        cv2.circle(frame, (280, 32), 18, (220, 40, 40) if frame.ndim == 3 else (255,), -1, cv2.LINE_AA)
    for frame in top:
        cv2.putText(frame, "TV5", (263, 38), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 2, cv2.LINE_AA)
    frames = (0.6 * top + 0.4 * frames).astype(np.uint8)
    assert overlap(find_fixed(frames), where > 0) > 0.6


@pytest.mark.parametrize(
    "frames",
    [passing((4.0, 1.0)), passing((5.0, 0.0)), passing((0.15, 0.05)), forward()],
    ids=["pan", "level", "hardly", "forward"],
)
def test_nothing_is_fixed_where_only_the_world_goes_by(frames: UInt8[np.ndarray, "N H W 3"]) -> None:
    assert find_fixed(frames) is None


def test_lines_that_move_along_themselves_are_the_worlds() -> None:
    frames = passing((5.0, 0.0))
    frames[:, 90:94] = 255
    assert find_fixed(frames) is None


def test_nothing_is_fixed_on_a_tripod_whatever_passes_by() -> None:
    still = np.repeat(plain_texture(2, SIZE)[None], 24, axis=0)
    still[:, 60:120] = passing((6.0, 0.0))[:, 60:120]
    assert find_fixed(still) is None


def test_a_clip_of_two_frames_has_nothing_fixed() -> None:
    assert find_fixed(passing((8.0, 0.0), 2)) is None


def test_a_thin_line_stays_thin() -> None:
    frames = passing((4.0, 2.0))
    where = np.zeros(SIZE[::-1], np.uint8)
    for picture in (*frames, where):
        cv2.rectangle(picture, (30, 20), (290, 160), (255,) * 3 if picture.ndim == 3 else (1,), 1)
    found = find_fixed(frames)
    assert found is not None
    assert found[where > 0].mean() > 0.9
    assert found.sum() < 6 * where.sum()


def swaying(far: float) -> UInt8[np.ndarray, "N H W 3"]:
    """Hills with coarse structure that sway by so many pixels, and a ground before them that goes by."""
    frames = passing((4.0, 0.0))
    width, height = SIZE
    hills = cv2.GaussianBlur(plain_texture(3, (width + 40, height + 40)), (0, 0), 4)
    hills = np.clip(128 + 4 * (hills.astype(np.float32) - 128), 0, 255).astype(np.uint8)
    for t, frame in enumerate(frames):
        x, y = far * np.cos(0.5 * t), far * np.sin(0.4 * t)
        frame[:60] = cv2.getRectSubPix(hills, SIZE, (20 + x + width / 2, 20 + y + height / 2))[:60]
    return frames


def test_far_hills_that_hardly_move_are_the_worlds() -> None:
    assert find_fixed(swaying(1.0)) is None
    steady = find_fixed(swaying(0.0))  # nothing tells these from a picture that is stuck on
    assert steady is not None
    assert steady[:50].mean() > 0.5


@pytest.mark.parametrize("level", [90, 200])
def test_plain_walls_and_skies_are_the_worlds(level: int) -> None:
    frames = passing((4.0, 1.0), 12)
    rng = np.random.default_rng(4)
    shade = np.linspace(0, 8, SIZE[0])
    frames[:, :80] = np.clip(level + shade[:, None] + rng.normal(0, 1, (12, 80, SIZE[0], 3)), 0, 255).astype(np.uint8)
    assert find_fixed(frames) is None
