"""Clean plates of a trained run, whole."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from das3r_ns.cleanplate.write import PlateSettings, write_clean_plates
from das3r_ns.errors import Das3rError
from das3r_ns.trained.scene import TrainedScene

HIDDEN = np.s_[30:50, 60:90]
"""Of every picture: the splats draw nothing there, and what is there moves."""


class KnownScene(TrainedScene):
    """A run whose render is the demo's clean plate, but for a rectangle of nothing."""

    def __init__(self, pipeline: Any, clean: np.ndarray, depth: np.ndarray) -> None:
        super().__init__(pipeline)
        self.clean, self.clean_depth, self.nothing = clean, depth, False

    def render(self, frame: int, size: tuple[int, int], matrix: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The truth."""
        height, width = self.clean.shape[1:3]
        accumulation = np.ones((height, width, 1), np.float32)
        rgb = self.clean[frame].astype(np.float32) / 255
        if self.nothing:
            accumulation[HIDDEN], rgb[HIDDEN] = 0.0, 0.2
        outputs = {"rgb": rgb, "depth": self.clean_depth[frame][..., None], "accumulation": accumulation}
        if matrix is None:
            drawn = {name: cv2.resize(v, size) for name, v in outputs.items()}
        else:
            # Pixel centres lie at +0.5 in matrices, and on whole numbers in OpenCV.
            half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
            move = np.linalg.inv(half) @ matrix @ np.linalg.inv(self.intrinsics((width, height))[frame]) @ half
            drawn = {
                name: cv2.warpAffine(v, move[:2], size, borderMode=cv2.BORDER_REPLICATE) for name, v in outputs.items()
            }
        return {name: v.reshape(size[1], size[0], outputs[name].shape[2]) for name, v in drawn.items()}

    def static_weight(self, frame: int, size: tuple[int, int]) -> np.ndarray:
        """With a mover wherever nothing is drawn."""
        weight = super().static_weight(frame, size).copy()
        if self.nothing:
            weight[HIDDEN] = 0.0
        return weight


@pytest.fixture()
def scene(make_trainer, demo_video) -> KnownScene:
    """The demo."""
    names = sorted((demo_video.folder / "clean").glob("*.png"))
    clean = np.stack([cv2.imread(str(path))[..., ::-1] for path in names])
    return KnownScene(make_trainer().pipeline, clean, np.zeros_like(demo_video.clean_depth) + demo_video.clean_depth)


def read(path: Path) -> np.ndarray:
    """A picture, RGB or grey."""
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return picture[..., ::-1] if picture.ndim == 3 else picture


def test_plates_are_the_frame_where_static_and_the_scene_elsewhere(
    scene: KnownScene, demo_video, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    write_clean_plates(scene, out)
    assert {p.name for p in out.iterdir()} == {
        *("frames", "render", "holes", "sources", "clean.mp4", "clean-plate.json", "before-after.html"),
    }
    for number, frame in enumerate(demo_video.images):
        plate, sources = read(out / f"frames/{number:05d}.png"), read(out / f"sources/{number:05d}.png")
        np.testing.assert_array_equal(plate[sources == 0], frame[sources == 0])
        np.testing.assert_array_equal(read(out / f"render/{number:05d}.png"), scene.clean[number])
        moves = demo_video.estimate.dynamic_probability[number] > 0.5
        assert (sources[moves] > 0).mean() > 0.97
        # Off by no more than the exposure is misjudged.
        assert np.abs(plate.astype(float) - scene.clean[number])[moves].mean() < 4
        assert not read(out / f"holes/{number:05d}.png").any()
    with av.open(str(out / "clean.mp4")) as film:
        decoded = [f.to_ndarray(format="rgb24") for f in film.decode(video=0)]
        assert film.streams.video[0].average_rate == scene.video.fps
    assert len(decoded) == 12 and decoded[0].shape == (90, 160, 3)
    assert np.abs(decoded[5].astype(float) - scene.clean[5]).mean() < 8


# The picture that stands for the scene is drawn from its own few pixels once more, and a fisheye magnifies the edges.
@pytest.mark.parametrize(("video", "blur"), [("bent", 3), ("fisheye", 4)])
def test_plates_have_the_geometry_of_the_video(
    video: str, blur: int, request: pytest.FixtureRequest, make_trainer, tmp_path: Path
) -> None:
    bent_video = request.getfixturevalue(f"{video}_video")
    names = sorted((bent_video.folder / "clean").glob("*.png"))
    clean = np.stack([cv2.imread(str(path))[..., ::-1] for path in names])
    scene = KnownScene(make_trainer(video=bent_video, data=bent_video.frames).pipeline, clean, bent_video.clean_depth)
    lens, out = scene.video.lens, tmp_path / "out"
    assert lens is not None and lens.beyond.mean() > 0.02
    write_clean_plates(scene, out)
    for number, frame in enumerate(bent_video.images):
        plate, sources = read(out / f"frames/{number:05d}.png"), read(out / f"sources/{number:05d}.png")
        assert plate.shape == frame.shape
        np.testing.assert_array_equal(plate[sources == 0], frame[sources == 0])
        expected = lens.distorted_picture(clean[number]).astype(float)
        moves = lens.distorted_picture(bent_video.estimate.dynamic_probability[number]) > 0.5
        assert (sources[moves] > 0).mean() > 0.95
        assert (sources > 0).mean() < moves.mean() + 0.2
        untrained = scene.static_weight_as_filmed(number)[lens.beyond]
        np.testing.assert_array_equal(sources[lens.beyond] > 0, untrained < 0.5)
        assert np.abs(read(out / f"render/{number:05d}.png") - expected)[~lens.beyond].mean() < blur
        assert np.abs(plate - expected)[moves & ~lens.beyond].mean() < 2 * blur


def test_plates_roll_as_the_video_does(rolled_video, make_trainer, tmp_path: Path) -> None:
    names = sorted((rolled_video.folder / "clean").glob("*.png"))
    clean = np.stack([cv2.imread(str(path))[..., ::-1] for path in names])
    pipeline = make_trainer(video=rolled_video, data=rolled_video.frames).pipeline
    scene, out = KnownScene(pipeline, clean, rolled_video.clean_depth), tmp_path / "out"
    shutter, outside = rolled_video.estimate.shutter, 0
    write_clean_plates(scene, out)
    for number, frame in enumerate(rolled_video.images):
        plate, sources = read(out / f"frames/{number:05d}.png"), read(out / f"sources/{number:05d}.png")
        np.testing.assert_array_equal(plate[sources == 0], frame[sources == 0])
        moves = shutter.filmed_picture(rolled_video.estimate.dynamic_probability[number], number) > 0.5
        assert (sources[moves] > 0).mean() > 0.95
        assert (sources > 0).mean() < moves.mean() + 0.2
        beyond = scene.video.beyond(number)
        assert beyond is not None
        shown, outside = ~beyond, outside + beyond.sum()
        assert shown.mean() > 0.8
        expected = shutter.filmed_picture(clean[number], number).astype(float)
        assert np.abs(read(out / f"render/{number:05d}.png") - expected)[shown].mean() < 3
        assert np.abs(plate - expected)[moves & shown].mean() < 6
    assert outside > 0


def test_pictures_that_the_video_repeats_are_written_again_at_its_times(scene: KnownScene, tmp_path: Path) -> None:
    order = [0, 0, 1, 2, 3, 3, 3, *range(4, 12)]
    seconds = (np.cumsum([0, *[4, 3] * 7]) / 100).tolist()
    vars(scene.video)["showings"] = list(zip(seconds, order, strict=True))
    write_clean_plates(scene, tmp_path / "out")
    for folder in ("frames", "render", "holes", "sources"):
        assert len(list((tmp_path / "out" / folder).iterdir())) == len(order)
    for place, number in enumerate(order):
        np.testing.assert_array_equal(read(tmp_path / f"out/render/{place:05d}.png"), scene.clean[number])
    with av.open(str(tmp_path / "out/clean.mp4")) as film:
        times = [float(frame.time or 0) for frame in film.decode(video=0)]
    np.testing.assert_allclose(np.array(times) - times[0], seconds, atol=1e-5)
    written = json.loads((tmp_path / "out/clean-plate.json").read_text())
    assert written["frame_names"] == [scene.video.estimate.frame_names[number] for number in order]
    assert written["seconds"] == seconds


@pytest.mark.parametrize("fill", [False, True])
def test_holes_are_marked_and_filled_only_if_asked(scene: KnownScene, tmp_path: Path, fill: bool) -> None:
    scene.nothing = True
    # The camera stands still, so nobody ever looks behind the rectangle.
    scene.c2w_cv = lambda refined=True: np.tile(np.eye(4), (12, 1, 1))  # pyright: ignore[reportAttributeAccessIssue]
    write_clean_plates(scene, tmp_path / "out", PlateSettings(fill_holes=fill))
    holes, sources = read(tmp_path / "out/holes/00005.png"), read(tmp_path / "out/sources/00005.png")
    inner = np.zeros(holes.shape, bool)
    inner[HIDDEN] = True
    assert (holes[inner] == 255).mean() > 0.95 and holes[~inner].mean() < 5
    np.testing.assert_array_equal(holes == 255, sources == 255)
    plate = read(tmp_path / "out/frames/00005.png")
    assert (plate[holes == 255] == 128).all() != fill
    written = json.loads((tmp_path / "out/clean-plate.json").read_text())
    assert written["percent"]["hole"] == pytest.approx(100 * 600 / 14400, rel=0.1)


def test_strict_holes_are_what_no_frame_confirms(scene: KnownScene, tmp_path: Path) -> None:
    scene.clean_depth *= np.linspace(1, 3, 12)[:, None, None]  # no two frames agree on the depth
    for strict in (False, True):
        write_clean_plates(scene, tmp_path / "out", PlateSettings(strict_holes=strict))
        percent = json.loads((tmp_path / "out/clean-plate.json").read_text())["percent"]
        assert (percent["hole"] > 1) is strict and (percent["unconfirmed"] > 1) is not strict


def test_the_foreground_over_the_plate_is_the_frame(scene: KnownScene, demo_video, tmp_path: Path) -> None:
    write_clean_plates(scene, tmp_path / "out", PlateSettings(foreground=True))
    errors = []
    for number, frame in enumerate(demo_video.images):
        plate = read(tmp_path / f"out/frames/{number:05d}.png").astype(float)
        cut = cv2.imread(str(tmp_path / f"out/foreground/{number:05d}.png"), cv2.IMREAD_UNCHANGED).astype(float)
        alpha, colour = cut[..., 3:] / 255, cut[..., 2::-1]
        errors.append(np.mean((alpha * colour + (1 - alpha) * plate - frame) ** 2))
        moves = demo_video.estimate.dynamic_probability[number] > 0.5
        inside = cv2.erode(moves.astype(np.uint8), np.ones((5, 5))) > 0
        far = cv2.dilate(moves.astype(np.uint8), np.ones((13, 13))) == 0
        assert alpha[inside].mean() > 0.97 and alpha[far].mean() < 0.01
    assert 10 * np.log10(255**2 / np.mean(errors)) > 45


def test_pictures_may_be_exr(scene: KnownScene, tmp_path: Path) -> None:
    openexr = pytest.importorskip("OpenEXR", reason="OpenEXR is not installed")
    write_clean_plates(scene, tmp_path / "out", PlateSettings(foreground=True, image_format="exr"))
    for folder in ("frames", "render", "holes", "sources", "foreground"):
        names = sorted(path.name for path in (tmp_path / "out" / folder).iterdir())
        assert names == [f"{number:05d}.exr" for number in range(12)]
    with openexr.File(str(tmp_path / "out/foreground/00003.exr"), separate_channels=True) as file:
        assert set(file.channels()) == set("RGBA")


def test_a_folder_of_the_users_is_left_alone(scene: KnownScene, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(Das3rError, match="left alone"):
        write_clean_plates(scene, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name in ("mine.txt", "frames")] == ["mine.txt"]


def test_what_is_fixed_to_the_camera_stays_unless_it_is_to_go(scene: KnownScene, demo_video, tmp_path: Path) -> None:
    fixed = np.zeros((90, 160), bool)
    fixed[70:, 20:90] = True
    estimate = dataclasses.replace(scene.video.estimate, fixed=fixed)
    entry = dataclasses.replace(scene.video.entry, estimate=estimate)
    scene.parser.prepared = dataclasses.replace(scene.video, entry=entry)
    for how in ("keep", "remove"):
        write_clean_plates(scene, tmp_path / how, PlateSettings(fixed=how))
    for number, frame in enumerate(demo_video.images):
        kept, removed = (read(tmp_path / f"{how}/frames/{number:05d}.png") for how in ("keep", "remove"))
        np.testing.assert_array_equal(kept[fixed], frame[fixed])
        assert (read(tmp_path / f"remove/sources/{number:05d}.png")[fixed] > 0).all()
        assert np.abs(removed.astype(float) - scene.clean[number])[fixed].mean() < 6
