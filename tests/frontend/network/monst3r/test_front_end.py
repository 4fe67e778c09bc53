"""From frames to a SceneEstimate with the network, whose weights here are a formula: the geometry is nonsense."""

from __future__ import annotations

import dataclasses
import gc
import io
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.known.knowledge import Known
from das3r_ns.frontend.network.monst3r import PairNetwork, front_end
from das3r_ns.frontend.network.monst3r.preprocessing import (
    frame_image,
    frame_intrinsics,
    frame_maps,
    framing,
    unframe,
    unframe_intrinsics,
    whole_framing,
)
from das3r_ns.progress import Progress
from das3r_ns.scene import geometry as geo

CONFIG = FrontEndConfig(front_end="monst3r", network_size=96, device="cpu", precision="float32")


def quiet() -> Progress:
    return Progress(Console(file=io.StringIO()))


def names(images: np.ndarray) -> list[str]:
    return [f"{number:05d}" for number in range(len(images))]


@pytest.mark.parametrize("size", [(64, 96), (96, 64), (62, 93)], ids=["landscape", "portrait", "squeezed"])
def test_every_frame_gets_a_camera_depth_and_mask(
    checkpoint: Path, frames: Callable[..., np.ndarray], size: tuple[int, int]
) -> None:
    images, progress = frames(5, *size), quiet()
    config = dataclasses.replace(CONFIG, checkpoint=str(checkpoint))
    scene = front_end.estimate(images, names(images), config, progress)
    assert (scene.num_frames, scene.height, scene.width) == (5, *size)
    np.testing.assert_allclose(scene.c2w_cv[0], np.eye(4), atol=1e-9)
    assert scene.depth.dtype == scene.confidence.dtype == scene.dynamic_probability.dtype == np.float32
    assert scene.depth.min() > 0
    for values in (scene.confidence, scene.dynamic_probability):
        assert values.min() >= 0 and values.max() <= 1
    assert any(message.startswith("Network: 5 frames, ") for message in progress.messages)
    stages = ["Loading the network", "Network: frames", "Network: pairs", "Optical flow (DIS)", "Alignment"]
    assert list(progress.seconds) == [*stages, "What moves"]


def test_the_same_again(checkpoint: Path, frames: Callable[..., np.ndarray]) -> None:
    images = frames(3, 64, 96)
    config = dataclasses.replace(CONFIG, checkpoint=str(checkpoint))
    first, second = (front_end.estimate(images, names(images), config, quiet()) for _ in range(2))
    np.testing.assert_array_equal(first.depth, second.depth)
    np.testing.assert_array_equal(first.c2w_cv, second.c2w_cv)


def test_the_network_is_gone_before_the_alignment(
    checkpoint: Path, frames: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    networks: list[weakref.ref] = []
    load, align = front_end.load_network, front_end.global_align

    def loading(path: Path) -> PairNetwork:
        network = load(path)
        networks.append(weakref.ref(network))
        return network

    def aligning(*args, **more):
        gc.collect()
        assert networks[0]() is None
        return align(*args, **more)

    monkeypatch.setattr(front_end, "load_network", loading)
    monkeypatch.setattr(front_end, "global_align", aligning)
    images = frames(3, 64, 96)
    front_end.estimate(images, names(images), dataclasses.replace(CONFIG, checkpoint=str(checkpoint)), quiet())
    assert len(networks) == 1


def test_two_frames_are_enough(checkpoint: Path, frames: Callable[..., np.ndarray]) -> None:
    images = frames(2, 64, 96)
    scene = front_end.estimate(images, names(images), dataclasses.replace(CONFIG, checkpoint=str(checkpoint)), quiet())
    assert scene.num_frames == 2


def test_without_mask_heads_motion_evidence_speaks_alone(
    tmp_path: Path, fill, make_network, save_folder, small_heads: None, frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_folder(tmp_path / "bare", make_network({**fill.TINY, "mask_heads": False}))
    motion = np.random.default_rng(0).uniform(size=(3, 64, 96)).astype(np.float32)
    monkeypatch.setattr(front_end, "motion_evidence", lambda *args: None)
    monkeypatch.setattr(front_end, "dynamic_probability", lambda *args: motion)
    images, progress = frames(3, 64, 96), quiet()
    scene = front_end.estimate(images, names(images), dataclasses.replace(CONFIG, checkpoint=str(path)), progress)
    np.testing.assert_array_equal(scene.dynamic_probability, motion)
    assert any("does not predict what moves" in message for message in progress.messages)


def known_cameras(count: int, width: int, height: int) -> Known:
    """A camera that walks to the right and looks a little aside, with a principal point off the centre."""
    c2w = np.tile(np.eye(4), (count, 1, 1))
    c2w[:, 0, 3] = 0.1 * np.arange(count)
    intrinsics = np.array([[90.0, 0.0, width / 2 + 3], [0.0, 92.0, height / 2 - 2], [0.0, 0.0, 1.0]])
    return Known(intrinsics=np.tile(intrinsics, (count, 1, 1)), c2w_cv=c2w, size=(width, height))


@pytest.mark.parametrize("window", [100, 6], ids=["one-window", "windows"])
def test_known_cameras_are_kept(checkpoint: Path, frames: Callable[..., np.ndarray], window: int) -> None:
    images, known = frames(8, 64, 96), known_cameras(8, 96, 64)
    config = dataclasses.replace(CONFIG, checkpoint=str(checkpoint), window=window)
    scene = front_end.estimate(images, names(images), config, quiet(), known)
    np.testing.assert_array_equal(scene.c2w_cv, np.asarray(known.c2w_cv))
    np.testing.assert_array_equal(scene.intrinsics, np.asarray(known.intrinsics))


def test_a_known_focal_is_kept(checkpoint: Path, frames: Callable[..., np.ndarray]) -> None:
    images = frames(4, 64, 96)
    known = Known(intrinsics=np.tile(geo.pinhole(77.0, 96, 64), (4, 1, 1)), size=(96, 64))
    seen = []
    align = front_end.global_align
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(front_end, "global_align", lambda *args, **more: seen.append(more) or align(*args, **more))
        config = dataclasses.replace(CONFIG, checkpoint=str(checkpoint))
        scene = front_end.estimate(images, names(images), config, quiet(), known)
    np.testing.assert_allclose(seen[0]["known_focal"], 77.0)
    np.testing.assert_array_equal(scene.intrinsics, np.asarray(known.intrinsics))


def test_given_masks_are_taken_as_they_are(
    checkpoint: Path, frames: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = np.zeros((3, 64, 96), np.float32)
    masks[:, 20:40, 30:60] = 1.0
    monkeypatch.setattr(front_end, "motion_evidence", lambda *args: None)
    monkeypatch.setattr(front_end, "dynamic_probability", lambda *args: pytest.fail("masks were sought"))
    images = frames(3, 64, 96)
    config = dataclasses.replace(CONFIG, checkpoint=str(checkpoint))
    scene = front_end.estimate(images, names(images), config, quiet(), Known(masks=masks, size=(96, 64)))
    np.testing.assert_array_equal(scene.dynamic_probability, masks)


def test_masks_join_what_is_found(
    checkpoint: Path, frames: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = np.full((3, 64, 96), np.nan, np.float32)  # no mask for frames 1 and 2
    masks[0] = 0.0
    masks[0, 20:40, 30:60] = 1.0
    monkeypatch.setattr(front_end, "fuse_dynamic", lambda *args: np.full((3, 64, 96), 0.25, np.float32))
    images = frames(3, 64, 96)
    config = dataclasses.replace(CONFIG, checkpoint=str(checkpoint))
    known = Known(masks=masks, joins=True, size=(96, 64))
    scene = front_end.estimate(images, names(images), config, quiet(), known)
    assert (scene.dynamic_probability[0, 20:40, 30:60] == 1.0).all()
    assert (scene.dynamic_probability[1:] == 0.25).all() and scene.dynamic_probability[0, 0, 0] == 0.25


def test_values_that_are_not_finite_stop_it_before_flow_and_alignment(
    checkpoint: Path, frames: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = front_end.load_network

    def damaged(path: Path) -> PairNetwork:
        network = load(path)
        with torch.no_grad():
            network.dec_norm.weight[3] = 1e38
        return network

    monkeypatch.setattr(front_end, "load_network", damaged)
    images, progress = frames(3, 64, 96), quiet()
    with pytest.raises(Das3rError, match="not finite for frames 0 and 1"):
        front_end.estimate(images, names(images), dataclasses.replace(CONFIG, checkpoint=str(checkpoint)), progress)
    assert "Network: pairs" not in progress.seconds and "Alignment" not in progress.seconds


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        ({"network_size": 224}, "--network-size"),
        ({"network_size": 500}, "--network-size"),
        ({"network_size": 16}, "--network-size"),
        ({"batch_size": -1}, "--batch-size"),
        ({"window": 2}, "--window"),
        ({"window_overlap": 1.0}, "--window-overlap"),
        ({"pair_graph": "ring"}, "pair graph 'ring'"),
        ({"pair_graph": "oneref-7"}, "frame 7"),
        ({"device": "cuda:9"}, "--device"),
        ({"checkpoint": "no/such/file.pth"}, "no/such/file.pth does not exist"),
    ],
)
def test_impossible_settings_are_refused_at_once(
    settings: dict, flag: str, checkpoint: Path, frames: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front_end, "load_network", lambda path: pytest.fail("a network was loaded"))
    config = dataclasses.replace(CONFIG, **({"checkpoint": str(checkpoint)} | settings))
    images = frames(3, 64, 96)
    with pytest.raises(Das3rError, match=flag):
        front_end.estimate(images, names(images), config, quiet())


def test_every_pair_is_there_both_ways() -> None:
    for graph in ("oneref-1", "swin-1", "swin-1-noncyclic", "swinstride-5-noncyclic", "complete"):
        pairs = front_end.window_pairs(7, graph)
        assert len(pairs) == len(set(pairs)) and {(j, i) for i, j in pairs} == set(pairs)
        assert {i for i, _ in pairs} == set(range(7))


def test_confidence_of_three_counts_one_half() -> None:
    found = front_end.relative_confidence(np.array([[[0.0, 1.0, 3.0, 9.0, 1e6]]]))
    np.testing.assert_allclose(found[0, 0], [0, 0, 1 / 2, 2 / 3, 0.9264], atol=1e-4)


@pytest.mark.parametrize(
    ("frame", "seen", "cut"),
    [
        ((854, 480), (512, 288), False),
        ((512, 288), (512, 288), False),
        ((640, 480), (512, 384), False),
        ((1500, 1000), (512, 336), False),
        ((1000, 1500), (336, 512), False),
        ((700, 700), (512, 512), False),
        ((1920, 800), (512, 208), True),
    ],
)
def test_the_network_sees_all_of_a_frame_or_nearly(frame: tuple[int, int], seen: tuple[int, int], cut: bool) -> None:
    how = whole_framing(*frame)
    assert how.size == seen and how.crop is cut
    lost = np.subtract(how.resized, how.size)
    assert lost.max() <= 15
    if not cut:
        assert abs(seen[0] / seen[1] * frame[1] / frame[0] - 1) <= 0.02


@pytest.mark.parametrize("frame", [(300, 200), (480, 200), (161, 230), (512, 288)])
def test_maps_and_intrinsics_come_back_to_where_they_were(frame: tuple[int, int]) -> None:
    """A picture of its own coordinates, seen through a camera, before and after the framing."""
    width, height = frame
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    for how in (framing(width, height, 160, square_ok=True), framing(width, height, 160, square_ok=True, crop=False)):
        coordinates = np.stack([x * 255 / width, y * 255 / height, np.zeros_like(x)], axis=-1)
        small = frame_image(coordinates.astype(np.uint8), how).astype(np.float32)
        back = np.stack([unframe(small[None, ..., axis], how, frame)[0] for axis in (0, 1)], axis=-1)
        inside = np.s_[height // 8 : -height // 8, width // 8 : -width // 8]
        assert np.abs(back - coordinates[..., :2])[inside].max() < 3.0

        camera = np.array([[[100.0, 0, how.size[0] / 2], [0, 100.0, how.size[1] / 2], [0, 0, 1]]])
        whole = unframe_intrinsics(camera, how, frame)[0]
        np.testing.assert_allclose(whole[:2, 2], [width / 2, height / 2], atol=0.01 * width)
        np.testing.assert_allclose(frame_intrinsics(whole[None], how, frame), camera, atol=1e-9)
        framed = frame_maps(coordinates[None, ..., 0], how)[0]
        assert framed.shape == small.shape[:2] and np.abs(framed - small[..., 0])[4:-4, 4:-4].max() < 3.0
        # The angle under which the network's right-hand edge is seen stays what it is.
        scale = frame[0] / how.resized[0] if how.crop else frame[0] / how.size[0]
        np.testing.assert_allclose(whole[0, 0], 100.0 * scale)


def test_what_the_network_did_not_see_has_no_confidence() -> None:
    how = whole_framing(480, 200, 160)
    assert how.crop
    back = unframe(np.ones((1, how.size[1], how.size[0])), how, (480, 200), outside=0.0)[0]
    assert back[0].max() == 0 and back[-1].max() == 0 and back[100].min() == 1
