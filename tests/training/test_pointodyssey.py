"""Masks from trajectories of points, on a scene made in the layout of PointOdyssey."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from das3r_ns.errors import Das3rError
from das3r_ns.training import pointodyssey
from das3r_ns.training.clips import find_folders, gather_clips

WIDTH, HEIGHT, COUNT = 96, 64, 4
K = np.array([[90.0, 0, WIDTH / 2], [0, 90.0, HEIGHT / 2], [0, 0, 1]])


def write_scene(folder: Path) -> list[np.ndarray]:
    """A wall 4 m away and a disc 2 m away that moves, seen by a camera that moves and turns; the true masks."""
    for part in ("rgbs", "depths", "normals"):
        (folder / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    wall = np.stack([rng.uniform(-4, 4, 4000), rng.uniform(-3, 3, 4000), np.full(4000, 4.0)], -1)
    ring, radius = rng.uniform(0, 2 * np.pi, 1000), 0.5 * np.sqrt(rng.random(1000))
    disc = np.stack([radius * np.cos(ring), radius * np.sin(ring), np.full(1000, 2.0)], -1)
    places, extrinsics, masks = [], [], []
    for number in range(COUNT):
        turn = 0.05 * number
        rotation = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
        w2c = np.eye(4)
        w2c[:3, :3], w2c[:3, 3] = rotation, [-0.1 * number, 0.02, 0]
        shift = np.array([0.15 * number, 0, 0])
        places.append(np.concatenate([wall, disc + shift]))
        extrinsics.append(w2c)
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
        rays = np.stack([(x - WIDTH / 2) / 90, (y - HEIGHT / 2) / 90, np.ones_like(x)], -1) @ rotation
        origin = -rotation.T @ w2c[:3, 3]

        def depth_of(z: float, rays: np.ndarray = rays, origin: np.ndarray = origin) -> np.ndarray:
            return (z - origin[2]) / rays[..., 2]

        near = origin + depth_of(2.0)[..., None] * rays
        mask = np.linalg.norm((near - shift)[..., :2], axis=-1) < 0.5
        depth = np.where(mask, depth_of(2.0), depth_of(4.0))
        steps = np.round(depth / pointodyssey.METRES).astype(np.uint16)
        steps[:4] = 65535  # the sky
        cv2.imwrite(str(folder / f"depths/depth_{number:05d}.png"), steps)
        picture = rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"rgbs/rgb_{number:05d}.jpg"), picture)
        masks.append(mask)
    trajectories = np.stack(places).astype(np.float32)
    trajectories[1, 17] = np.nan  # a point that is lost for a while
    np.savez(
        folder / "anno.npz",
        trajs_3d=trajectories,
        valids=np.ones(trajectories.shape[:2], np.float32),
        intrinsics=np.stack([K] * COUNT),
        extrinsics=np.stack(extrinsics),
    )
    return masks


def test_pixels_move_whose_points_do(tmp_path: Path) -> None:
    truth = write_scene(tmp_path / "scene")
    files = pointodyssey.write_masks(tmp_path / "scene", tmp_path / "masks", range(COUNT))
    for file, mask in zip(files, truth, strict=True):
        found = cv2.imread(str(file), cv2.IMREAD_UNCHANGED) > 0
        assert (found & mask).sum() / (found | mask).sum() > 0.85
        assert not found[:2].any()


def test_points_move_that_are_not_always_where_they_were() -> None:
    places = np.zeros((3, 4, 3))
    places[1, 1, 2] = 0.5  # there and back
    places[:, 2] = np.array([0.0, 0.001, 0.002])[:, None]  # less than what counts
    places[2, 3] = np.inf
    valid = np.isfinite(places).all(axis=-1)
    np.testing.assert_array_equal(pointodyssey.moving_points(places, valid), [False, True, False, False])


def test_scenes_are_found_at_any_depth_and_their_masks_made(tmp_path: Path, config, quiet) -> None:
    for name in ("train/one", "train/two"):
        write_scene(tmp_path / "odyssey" / name)
    config.data, config.max_frames = [tmp_path / "odyssey"], 3
    clips = gather_clips(find_folders(config), config, quiet)
    assert [len(clip.frames) for clip in clips] == [3, 3] and len({clip.name for clip in clips}) == 2
    assert clips[0].image(0).shape == (32, 64, 3)
    assert 0.02 < clips[0].mask(2).mean() < 0.5


def test_scenes_of_one_name_have_masks_of_their_own(tmp_path: Path, config, quiet) -> None:
    config.data, config.max_frames = [tmp_path / "a", tmp_path / "b"], 3
    for place in config.data:
        write_scene(place / "train/scene")
    with np.load(tmp_path / "b/train/scene/anno.npz") as arrays:
        still = {**arrays, "trajs_3d": np.broadcast_to(arrays["trajs_3d"][:1], arrays["trajs_3d"].shape)}
    np.savez(tmp_path / "b/train/scene/anno.npz", **still)
    moving, standing = gather_clips(find_folders(config), config, quiet)
    assert moving.mask(2).any() and not standing.mask(2).any()


def test_a_scene_that_is_not_whole_is_named(tmp_path: Path, config) -> None:
    scene = tmp_path / "odyssey/scene"
    write_scene(scene)
    config.data, config.drawn = [tmp_path / "odyssey"], 3
    assert find_folders(config) == [scene]
    (scene / "depths/depth_00001.png").unlink()
    with pytest.raises(Das3rError, match=r"has 4 pictures .* and 3 of their depth"):
        find_folders(config)
    (scene / "rgbs/rgb_00001.jpg").unlink()
    whole = (scene / "anno.npz").read_bytes()
    for damaged in (b"PK nonsense", whole[: len(whole) // 2]):
        (scene / "anno.npz").write_bytes(damaged)
        with pytest.raises(Das3rError, match=r"anno.npz cannot be read"):
            find_folders(config)
    np.savez(scene / "anno.npz", trajs_2d=np.zeros(3))
    with pytest.raises(Das3rError, match="has no trajs_3d, intrinsics, extrinsics"):
        find_folders(config)
