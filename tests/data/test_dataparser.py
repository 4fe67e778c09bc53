"""The dataparser on the demo video with an exact estimate in place of the front end's."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from gsplat.cuda._torch_impl import _fully_fused_projection
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs

from das3r_ns.data.dataparser import (
    MEDIAN_DEPTH,
    NEAR_DEPTH,
    Das3rVideoDataParserConfig,
    nerfstudio_poses,
    scene_scale,
    split_frames,
    training_size,
)
from das3r_ns.data.training_data import estimate_fingerprint, static_files
from das3r_ns.errors import Das3rError
from das3r_ns.frontend import run
from das3r_ns.frontend.geometric.torch_kernels import choice
from das3r_ns.frontend.prepared import PreparedScene
from das3r_ns.frontend.verdict import Doubt, Verdict
from das3r_ns.scene import cache
from das3r_ns.scene import geometry as geo
from das3r_ns.scene.static_weight import read_static_weight, static_weight
from das3r_ns.splats.camera import view_matrix
from das3r_ns.video import open_clip
from das3r_ns.video.clip import working_size


@pytest.fixture
def make_outputs(demo_video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Dataparser outputs of the demo video for any settings; counts how often the front end is asked."""
    doubled = tmp_path / "doubled"
    doubled.mkdir()
    for name, image in zip(demo_video.estimate.frame_names, demo_video.images, strict=True):
        cv2.imwrite(str(doubled / f"{name}.png"), cv2.resize(image[..., ::-1], (320, 180)))
    asked = []

    entry = cache.save_entry(tmp_path / "cache", "key", demo_video.estimate, demo_video.images, 24.0, (320, 180))

    def fake(data: Path, config: object, **kwargs: object) -> PreparedScene:
        asked.append((data, kwargs))
        return PreparedScene(data, entry, open_clip(doubled))

    monkeypatch.setattr(run, "load_or_estimate", fake)
    monkeypatch.setattr(cache, "cache_roots", lambda _: [tmp_path / "cache"] * 2)

    def make(split: str = "train", **settings: object) -> DataparserOutputs:
        settings = {"data": demo_video.folder / "frames", "max_points": 5000} | settings
        return Das3rVideoDataParserConfig(**settings).setup().get_dataparser_outputs(split)  # pyright: ignore[reportArgumentType]

    make.asked = asked
    return make


def gsplat_project(cameras: Cameras, frame: int, points: np.ndarray) -> np.ndarray:
    """Image coordinates as gsplat's own projection computes them."""
    camera = cameras[frame : frame + 1]
    covars = torch.eye(3).expand(len(points), 3, 3) * 1e-6
    _, means2d, *_ = _fully_fused_projection(
        torch.from_numpy(points).float(),
        covars,
        view_matrix(camera.camera_to_worlds),
        camera.get_intrinsics_matrices(),
        int(camera.width),
        int(camera.height),
    )
    return means2d[0].numpy()


def test_cameras_agree_with_the_estimate_in_pixels(demo_video, make_outputs) -> None:
    """World points -> nerfstudio's world -> gsplat's pixels, and nerfstudio's rays -> back onto the points."""
    estimate, outputs = demo_video.estimate, make_outputs()
    transform = outputs.dataparser_transform.double().numpy()
    for frame in (0, 5, 11):
        pixels = np.random.default_rng(0).uniform([2, 2], [158, 88], (200, 2))
        depth = estimate.depth[frame][pixels[:, 1].astype(int), pixels[:, 0].astype(int)].astype(np.float64)
        world = geo.transform_points(estimate.c2w_cv[frame], geo.unproject(pixels, depth, estimate.intrinsics[frame]))
        scaled = (world @ transform[:, :3].T + transform[:, 3]) * outputs.dataparser_scale
        np.testing.assert_allclose(gsplat_project(outputs.cameras, frame, scaled), pixels, atol=2e-4)

        coords = torch.from_numpy(pixels[:, ::-1].copy()).float()
        rays = outputs.cameras.generate_rays(torch.full((200, 1), frame), coords=coords)
        origins, directions = rays.origins.double().numpy(), rays.directions.double().numpy()
        along = ((scaled - origins) * directions).sum(-1, keepdims=True)
        off = np.linalg.norm(scaled - origins - along * directions, axis=-1) / along[:, 0]
        assert off.max() * estimate.intrinsics[frame, 0, 0] < 1e-3


def test_exact_poses_agree_to_a_ten_thousandth_of_a_pixel(demo_video) -> None:
    """In float64, before nerfstudio's Cameras round: nothing is lost in the change of convention."""
    estimate = demo_video.estimate
    poses, transform, scale = nerfstudio_poses(estimate)
    rng = np.random.default_rng(1)
    for frame in range(estimate.num_frames):
        in_camera = rng.uniform([-1, -1, 2], [1, 1, 6], (50, 3))
        expected, _ = geo.project(in_camera, estimate.intrinsics[frame])
        world = geo.transform_points(estimate.c2w_cv[frame], in_camera)
        moved = (world @ transform[:, :3].T.numpy() + transform[:, 3].numpy()) * scale
        c2w_cv = np.eye(4)
        c2w_cv[:3] = poses[frame].numpy() @ np.diag([1.0, -1.0, -1.0, 1.0])
        xy, _ = geo.project(geo.transform_points(geo.invert_rigid(c2w_cv), moved), estimate.intrinsics[frame])
        np.testing.assert_allclose(xy, expected, atol=1e-4)


def test_the_original_poses_come_back(demo_video, make_outputs) -> None:
    outputs = make_outputs()
    original = outputs.transform_poses_to_original_space(outputs.cameras.camera_to_worlds, "opencv")
    np.testing.assert_allclose(original.numpy(), demo_video.estimate.c2w_cv[:, :3], atol=1e-5)


def test_z_is_up_and_the_cameras_are_round_the_origin(make_outputs) -> None:
    poses = make_outputs().cameras.camera_to_worlds
    np.testing.assert_allclose(poses[:, :, 1].mean(0)[:2], 0, atol=1e-5)
    assert poses[:, 2, 1].min() > 0.9
    np.testing.assert_allclose(poses[:, :, 3].mean(0), 0, atol=1e-5)


def test_training_at_the_original_size_keeps_the_rays(make_outputs) -> None:
    small, large = make_outputs(), make_outputs(train_size="original")
    assert (int(large.cameras.width[0]), int(large.cameras.height[0])) == (320, 180)
    assert cv2.imread(str(large.image_filenames[0])).shape == (180, 320, 3)
    assert large.metadata["focal"] == pytest.approx(2 * small.metadata["focal"])
    at = torch.tensor([[3.25, 7.5]])
    ray_small = small.cameras.generate_rays(torch.tensor([[4]]), coords=at)
    ray_large = large.cameras.generate_rays(torch.tensor([[4]]), coords=2 * at)
    np.testing.assert_allclose(ray_small.directions, ray_large.directions, atol=1e-6)
    for path in (large.mask_filenames[0], large.metadata["static_weight_filenames"][0]):
        assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape == (180, 320)


@pytest.mark.parametrize(
    ("wanted", "video", "expected"),
    [
        ("working", (1920, 1080), (512, 288)),
        ("original", (1920, 1080), (1920, 1080)),
        ("auto", (1920, 1080), (1600, 900)),
        ("auto", (1080, 1920), (900, 1600)),
        ("auto", (854, 480), (854, 480)),
        ("auto", (512, 288), (512, 288)),
        (1280, (1920, 1080), (1280, 720)),
        (1280, (854, 480), (854, 480)),
        (256, (1920, 1080), (256, 144)),
    ],
)
def test_the_size_of_the_training_images(wanted, video: tuple[int, int], expected: tuple[int, int]) -> None:
    working = working_size(video, 512)
    assert training_size(wanted, working, video) == expected


def test_a_long_side_stands_between_the_front_end_and_the_video(make_outputs) -> None:
    outputs = make_outputs(train_size=240)
    assert (int(outputs.cameras.width[0]), int(outputs.cameras.height[0])) == (240, 136)
    assert cv2.imread(str(outputs.image_filenames[3])).shape == (136, 240, 3)
    assert outputs.metadata["enlarged"] == 1.5


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"train_size": 10}, "A long side of 10 pixels is too small for training images"),
        ({"max_points": 0}, r"0 seed points are too few for a scene \(max-points\)"),
        ({"mask_dilation": -1}, r"cannot be grown by -1 pixels \(mask-dilation\)"),
    ],
)
def test_numbers_that_make_no_sense_are_named(make_outputs, settings: dict[str, int], says: str) -> None:
    with pytest.raises(Das3rError, match=says):
        make_outputs(**settings)
    assert not make_outputs.asked


def test_larger_weights_have_their_edges_where_the_picture_has_them() -> None:
    """A disk that is seen at four times the working size, one colour on another."""
    y, x = np.mgrid[:240, :320]
    disk = np.hypot(x - 150.3, y - 117.8) < 70
    picture = np.where(disk[..., None], (180, 60, 40), (90, 120, 130)).astype(np.uint8)
    small = cv2.resize(disk.astype(np.float32), (80, 60), interpolation=cv2.INTER_AREA)
    off = [np.abs(static_weight(small, 0, (320, 240), guide) - ~disk).sum() for guide in (None, picture)]
    assert off[1] < 0.6 * off[0]
    grown = static_weight(small, 2, (320, 240), picture) < 0.5
    expected = np.hypot(x - 150.3, y - 117.8) < 70 + 2 * 4
    assert (grown ^ expected).sum() < 0.02 * expected.sum()
    # On a picture without edges it is an interpolation.
    plain = static_weight(small, 0, (320, 240), np.full_like(picture, 128))
    np.testing.assert_allclose(plain, static_weight(small, 0, (320, 240)), atol=0.35)
    assert ((plain < 0.5) ^ disk).sum() < 0.02 * disk.sum()


def test_the_scene_lies_beyond_the_near_plane_of_viewers(demo_video, make_outputs) -> None:
    outputs = make_outputs()
    points = outputs.metadata["points3D_xyz"].double().numpy()
    depths = []
    for pose in outputs.cameras.camera_to_worlds.double().numpy():
        z = -((points - pose[:, 3]) @ pose[:, 2])
        depths.append(z[z > 0])
    assert np.percentile(np.concatenate(depths), 1) > 0.4
    far = dataclasses.replace(demo_video.estimate, depth=demo_video.estimate.depth * 37)
    assert scene_scale(far) == pytest.approx(scene_scale(demo_video.estimate) / 37, rel=1e-5)
    scaled = demo_video.estimate.depth[demo_video.estimate.dynamic_probability < 0.5] * outputs.dataparser_scale
    near, median = np.percentile(scaled, [1, 50])
    assert near > NEAR_DEPTH - 1e-5
    assert median > MEDIAN_DEPTH - 1e-5
    assert min(near / NEAR_DEPTH, median / MEDIAN_DEPTH) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("num_frames", "held_out"), [(6, [5]), (50, [5, 15, 25, 35, 45])])
def test_the_papers_split(num_frames: int, held_out: list[int]) -> None:
    train, evaluation = split_frames(num_frames, "paper")
    assert evaluation == held_out
    assert sorted(train + evaluation) == list(range(num_frames))


def test_without_a_split_every_frame_trains_and_is_evaluated(make_outputs) -> None:
    train, evaluation = make_outputs(), make_outputs("test")
    assert train.image_filenames == evaluation.image_filenames
    assert len(train.cameras) == 12


def test_a_split_applies_to_everything(make_outputs) -> None:
    train, evaluation = make_outputs(eval_split="paper"), make_outputs("val", eval_split="paper")
    assert [path.stem for path in evaluation.image_filenames] == ["00005"]
    for outputs, count in ((train, 11), (evaluation, 1)):
        lists = (outputs.cameras, outputs.mask_filenames, outputs.metadata["static_weight_filenames"])
        assert [len(item) for item in lists] == [count] * 3
    assert evaluation.metadata["frame_indices"].tolist() == [5]
    assert "points3D_xyz" not in evaluation.metadata


def test_a_video_too_short_for_the_split_is_refused() -> None:
    with pytest.raises(Das3rError, match="only 4 frames"):
        split_frames(4, "paper")


def test_masks_are_white_where_static_and_movers_are_grown(demo_video, make_outputs) -> None:
    outputs = make_outputs(mask_dilation=2)
    moving = demo_video.estimate.dynamic_probability[3] > 0
    mask = cv2.imread(str(outputs.mask_filenames[3]), cv2.IMREAD_UNCHANGED)
    weight = cv2.imread(str(outputs.metadata["static_weight_filenames"][3]), cv2.IMREAD_UNCHANGED)
    assert weight.dtype == np.uint16
    assert set(np.unique(mask)) == {0, 255}
    grown = cv2.dilate(moving.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))) > 0
    np.testing.assert_array_equal(mask == 0, grown)
    np.testing.assert_array_equal(weight == 65535, ~grown)


def test_what_is_fixed_to_the_camera_has_no_weight(demo_video, tmp_path: Path) -> None:
    fixed = np.zeros((90, 160), bool)
    fixed[70:] = True
    estimate = dataclasses.replace(demo_video.estimate, fixed=fixed)
    assert estimate_fingerprint(estimate) != estimate_fingerprint(demo_video.estimate)
    files = static_files(estimate, "fixed", tmp_path, 1, (160, 90), [])
    for weight, mask in zip(files.weights, files.masks, strict=True):
        assert not read_static_weight(weight)[70:].any()
        assert not cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)[70:].any()


def test_the_static_weight_is_soft() -> None:
    probability = np.zeros((20, 30), np.float32)
    probability[8:12, 10:20] = 0.25
    weight = static_weight(probability, 0, (30, 20))
    np.testing.assert_allclose(weight, 1 - probability)
    assert static_weight(probability, 3, (30, 20)).sum() < weight.sum()
    assert static_weight(probability, 1, (60, 40)).shape == (40, 60)


def test_derived_files_are_made_once_per_setting(make_outputs) -> None:
    first = make_outputs()
    mask = first.mask_filenames[0]
    points = sorted(mask.parents[2].glob("points-*.npz"))
    before = mask.stat().st_mtime_ns, points[0].stat().st_mtime_ns
    again = make_outputs()
    assert (again.mask_filenames[0].stat().st_mtime_ns, points[0].stat().st_mtime_ns) == before
    torch.testing.assert_close(again.metadata["points3D_xyz"], first.metadata["points3D_xyz"])
    assert make_outputs(mask_dilation=4).mask_filenames[0] != mask
    make_outputs(max_points=2000)
    assert len(list(mask.parents[2].glob("points-*.npz"))) == 2
    assert not list(mask.parents[2].glob(".*")), "temporary files are left"


@pytest.mark.parametrize("left", [0, 1000])
def test_damaged_points_are_made_again(make_outputs, left: int) -> None:
    first = make_outputs()
    stored = next(first.mask_filenames[0].parents[2].glob("points-*.npz"))
    stored.write_bytes(stored.read_bytes()[:left])
    torch.testing.assert_close(make_outputs().metadata["points3D_xyz"], first.metadata["points3D_xyz"])


def test_points_that_are_there_need_not_the_gpu_that_made_them(make_outputs, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_here(*_: object) -> None:
        raise Das3rError("--device cuda does not work here")

    first = make_outputs()
    monkeypatch.setattr(choice, "dense_device", none_here)
    again = make_outputs()
    torch.testing.assert_close(again.metadata["points3D_xyz"], first.metadata["points3D_xyz"])


def test_metadata_of_the_seeds(make_outputs) -> None:
    metadata = make_outputs().metadata
    count = len(metadata["points3D_xyz"])
    assert metadata["points3D_xyz"].dtype == torch.float32
    assert metadata["points3D_rgb"].shape == (count, 3)
    assert metadata["points3D_rgb"].dtype == torch.uint8
    assert metadata["points3D_staticness"].shape == (count, 1)
    assert "points3D_pixel" not in metadata
    pixel = make_outputs(seeds="paper", max_points=10**9, eval_split="paper").metadata["points3D_pixel"]
    assert pixel.dtype == torch.int64
    assert pixel[:, 0].unique().tolist() == list(range(11))


def test_one_dataparser_asks_the_front_end_once(demo_video, make_outputs) -> None:
    parser = Das3rVideoDataParserConfig(data=demo_video.folder, max_points=5000, require_cache=True).setup()
    parser.get_dataparser_outputs("train")
    parser.get_dataparser_outputs("val")
    assert len(make_outputs.asked) == 1
    assert make_outputs.asked[0][1] == {"require_cache": True}


def test_a_clip_that_is_not_solved_is_not_trained_on_unless_anyway(
    demo_video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = Verdict("not solved", (Doubt("misfit", "Nothing fits.", "Cut the clip.", grave=True),))
    estimate = dataclasses.replace(demo_video.estimate, provenance={"verdict": verdict.record()})
    entry = cache.save_entry(tmp_path / "cache", "key", estimate, demo_video.images, 24.0, (160, 90))
    scene = PreparedScene(demo_video.folder, entry, open_clip(demo_video.folder / "frames"))
    monkeypatch.setattr(run, "load_or_estimate", lambda data, config, **kwargs: scene)
    given: dict[str, Any] = {"data": demo_video.folder / "frames", "max_points": 5000}
    with pytest.raises(Das3rError, match=r"Nothing fits\. Cut the clip\..*dataparser\.anyway True"):
        Das3rVideoDataParserConfig(**given).setup().get_dataparser_outputs("train")
    for allowed in ("anyway", "require_cache"):  # the latter is how a trained run is opened
        options: dict[str, Any] = given | {allowed: True}
        parser = Das3rVideoDataParserConfig(**options).setup()
        assert len(parser.get_dataparser_outputs("train").image_filenames) == 12
