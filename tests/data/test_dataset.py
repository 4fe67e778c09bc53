"""Static weights in the batches, and the data manager's remedies."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanagerConfig
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.scripts import render

from das3r_ns.data.dataparser import Das3rVideoDataParser, Das3rVideoDataParserConfig, EvalSplit
from das3r_ns.data.dataset import Das3rDataManagerConfig, StaticWeightDataset, read_static_weight
from das3r_ns.errors import Das3rError


def small_outputs(folder: Path, count: int) -> DataparserOutputs:
    """``count`` times one image of 8 x 6 with its mask and weight."""
    image, mask, weight = (folder / name for name in ("image.png", "mask.png", "weight.png"))
    cv2.imwrite(str(image), np.full((6, 8, 3), 128, np.uint8))
    cv2.imwrite(str(mask), np.full((6, 8), 255, np.uint8))
    ramp = np.linspace(0, 65535, 48).reshape(6, 8).astype(np.uint16)
    cv2.imwrite(str(weight), ramp)
    return DataparserOutputs(
        image_filenames=[image] * count,
        cameras=Cameras(torch.eye(4)[None, :3].repeat(count, 1, 1), 10.0, 10.0, 4.0, 3.0, 8, 6),
        mask_filenames=[mask] * count,
        metadata={"static_weight_filenames": [weight] * count, "frame_indices": torch.arange(count)},
    )


def test_every_item_carries_its_static_weight(tmp_path: Path) -> None:
    item = StaticWeightDataset(small_outputs(tmp_path, 2))[1]
    assert item["static_weight"].shape == (6, 8, 1)
    assert item["static_weight"].dtype == torch.uint8
    np.testing.assert_allclose(item["static_weight"].flatten() / 255, np.linspace(0, 1, 48), atol=0.5 / 255 + 2e-5)
    assert item["image_idx"] == 1


def test_the_weight_follows_the_scale_of_the_images(tmp_path: Path) -> None:
    item = StaticWeightDataset(small_outputs(tmp_path, 1), scale_factor=0.5).get_data(0, "uint8")
    assert item["image"].shape == (3, 4, 3)
    assert item["static_weight"].shape == (3, 4, 1)
    assert float(item["static_weight"].float().mean()) / 255 == pytest.approx(0.5, abs=2e-3)


def test_a_damaged_weight_is_named(tmp_path: Path) -> None:
    path = tmp_path / "weight.png"
    path.write_bytes(b"not a picture")
    with pytest.raises(Das3rError, match=r"weight\.png"):
        read_static_weight(path, (8, 6))


@pytest.mark.parametrize("count", [3, 501])
def test_the_data_manager_works_at_any_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Above 500 images nerfstudio caches them in pinned memory, which needs an accelerator."""
    outputs = small_outputs(tmp_path, count)
    monkeypatch.setattr(Das3rVideoDataParser, "get_dataparser_outputs", lambda *_args, **_kwargs: outputs)
    manager = Das3rDataManagerConfig().setup(device="cpu", test_mode="val")
    assert isinstance(manager.train_dataset, StaticWeightDataset)
    _, batch = manager.next_train(0)
    assert batch["static_weight"].shape == (6, 8, 1)
    assert batch["mask"].all()
    camera, batch = manager.next_eval(0)
    assert "static_weight" in batch
    assert camera.metadata == {"cam_idx": batch["image_idx"]}
    assert len(manager.fixed_indices_eval_dataloader) == count


def test_training_cameras_name_their_frame_and_the_size_of_its_picture(tmp_path: Path, monkeypatch) -> None:
    outputs = small_outputs(tmp_path, 3)
    monkeypatch.setattr(Das3rVideoDataParser, "get_dataparser_outputs", lambda *_args, **_kwargs: outputs)
    manager = Das3rDataManagerConfig().setup(device="cpu")
    drawn = [manager.next_train(step) for step in range(6)]
    assert sorted(batch["image_idx"] for _, batch in drawn[:3]) == [0, 1, 2]  # none twice before each was there
    for camera, batch in drawn:
        assert camera.metadata is not None
        assert (camera.metadata["cam_idx"], camera.metadata["size"]) == (batch["image_idx"], (8, 6))
        torch.testing.assert_close(camera.metadata["intrinsics"], camera.get_intrinsics_matrices())


@pytest.mark.parametrize("split", ["none", "paper"])
def test_pictures_that_serve_for_both_are_held_once(tmp_path: Path, monkeypatch, split: EvalSplit) -> None:
    outputs = small_outputs(tmp_path, 3)
    monkeypatch.setattr(Das3rVideoDataParser, "get_dataparser_outputs", lambda *_args, **_kwargs: outputs)
    manager = Das3rDataManagerConfig(dataparser=Das3rVideoDataParserConfig(eval_split=split)).setup(device="cpu")
    same = [a["image"] is b["image"] for a, b in zip(manager.cached_eval, manager.cached_train, strict=True)]
    assert same == [split == "none"] * 3


def test_masks_reach_any_nerfstudio_method(demo_video, oracle_front_end, tmp_path: Path) -> None:
    """As in `ns-train splatfacto das3r-video --data ...`: nerfstudio's own data manager, our dataparser."""
    parser = Das3rVideoDataParserConfig(data=demo_video.folder / "frames", max_points=2000)
    manager = FullImageDatamanagerConfig(dataparser=parser).setup(device="cpu")
    _, batch = manager.next_train(0)
    assert batch["mask"].dtype == torch.bool
    moves = torch.from_numpy(demo_video.estimate.dynamic_probability[batch["image_idx"]] > 0)
    assert not batch["mask"][..., 0][moves].any()
    assert batch["mask"].float().mean() > 0.4
    assert len(manager.train_dataparser_outputs.metadata["points3D_xyz"]) > 500


@pytest.mark.parametrize(("split", "named"), [("none", [0, 1, 2]), ("paper", [None] * 3)])
def test_evaluation_uses_the_refined_pose_of_frames_that_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: EvalSplit, named: list
) -> None:
    outputs = small_outputs(tmp_path, 3)
    monkeypatch.setattr(Das3rVideoDataParser, "get_dataparser_outputs", lambda *_args, **_kwargs: outputs)
    manager = Das3rDataManagerConfig(dataparser=Das3rVideoDataParserConfig(eval_split=split)).setup(device="cpu")
    metadata = [camera.metadata or {} for camera, _ in manager.fixed_indices_eval_dataloader]
    assert [item.get("cam_idx") for item in metadata] == named


@pytest.mark.parametrize(("test_mode", "needs_cache"), [("val", False), ("test", True), ("inference", True)])
def test_only_training_may_run_the_front_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, test_mode: str, needs_cache: bool
) -> None:
    monkeypatch.setattr(Das3rVideoDataParser, "get_dataparser_outputs", lambda *_a, **_k: small_outputs(tmp_path, 1))
    manager = Das3rDataManagerConfig().setup(device="cpu", test_mode=test_mode)
    assert manager.dataparser.config.require_cache is needs_cache
    assert manager.train_dataset.metadata["checkpoint_follows"] is needs_cache


def test_training_images_carry_the_depth_that_was_measured(demo_video, oracle_front_end) -> None:
    parser = Das3rVideoDataParserConfig(data=demo_video.folder / "frames", eval_split="paper", max_points=2000)
    manager = Das3rDataManagerConfig(dataparser=parser).setup(device="cpu")
    _, batch = manager.next_train(0)
    frame = manager.train_dataset.metadata["frame_indices"][batch["image_idx"]]
    depth, confidence = batch["measured_depth"].float().unbind(-1)
    scale = manager.train_dataparser_outputs.dataparser_scale
    np.testing.assert_allclose(depth, demo_video.estimate.depth[frame] * scale, rtol=1e-3)
    np.testing.assert_array_equal(confidence, demo_video.estimate.confidence[frame])
    # What a held-out frame shows must not train.
    assert "measured_depth" not in manager.next_eval(0)[1]


def test_ns_render_spiral_goes_around_the_first_camera(tmp_path: Path, monkeypatch) -> None:
    outputs = small_outputs(tmp_path, 3)
    monkeypatch.setattr(Das3rVideoDataParser, "get_dataparser_outputs", lambda *_args, **_kwargs: outputs)
    opened = SimpleNamespace(datamanager=Das3rDataManagerConfig().setup(device="cpu", test_mode="test"))
    monkeypatch.setattr(render, "eval_setup", lambda *_args, **_kwargs: (None, opened, None, None))
    monkeypatch.setattr("nerfstudio.utils.install_checks.check_ffmpeg_installed", lambda: None)
    paths: list[Cameras] = []
    monkeypatch.setattr(render, "_render_trajectory_video", lambda _pipeline, path, **_options: paths.append(path))
    render.SpiralRender(load_config=tmp_path / "config.yml", seconds=0.5, frame_rate=24, radius=0.1).main()
    centres = paths[0].camera_to_worlds[:, :, 3]
    assert len(centres) == 12
    assert 0.05 < float(centres.norm(dim=-1).max()) < 0.2  # the first camera is at the origin
